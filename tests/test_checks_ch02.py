"""Every check of chapter 2's exercises: accepts right answers, refuses the usual wrong ones."""

from itertools import pairwise

import pytest
import torch

from shared import encodings
from shared.checks import ch02 as check
from shared.text_data import (
    GPTDatasetV1,
    create_dataloader_v1,
    make_encoding,
    merge_pair,
    train_bpe,
)


def take_apart_as_text(word, tokenizer):
    return [(i, tokenizer.decode([i])) for i in tokenizer.encode(word)]


def take_apart_characters(word, tokenizer):
    return [(i, char.encode()) for i, char in zip(tokenizer.encode(word), word)]


def loader(**options):
    def answer(text, tokenizer, max_length):
        wanted = {"stride": max_length, "shuffle": False, "drop_last": False, "batch_size": 4}
        wanted |= {k: v(max_length) if callable(v) else v for k, v in options.items()}
        return create_dataloader_v1(text, max_length=max_length, tokenizer=tokenizer, **wanted)

    return answer


def unshifted(text, tokenizer, max_length):
    dataset = GPTDatasetV1(text, tokenizer, max_length, max_length)
    return [(x[None], x[None]) for x, _ in dataset]


def other_tokenizer(text, tokenizer, max_length):
    return loader()(text, encodings.tokenizer(), max_length)


def no_return(text, tokenizer, max_length):
    loader()(text, tokenizer, max_length)


def longest_match(chunk, ranks):
    ids, start = [], 0
    while start < len(chunk):
        end = len(chunk)
        while chunk[start:end] not in ranks:
            end -= 1
        ids.append(ranks[chunk[start:end]])
        start = end
    return ids


def leftmost_pair(chunk, ranks):
    tokens = [bytes([b]) for b in chunk]
    while known := [pair for pair in pairwise(tokens) if pair[0] + pair[1] in ranks]:
        tokens = merge_pair(tokens, known[0])
    return [ranks[token] for token in tokens]


def latest_pair(chunk, ranks):
    tokens = [bytes([b]) for b in chunk]
    while known := [pair for pair in pairwise(tokens) if pair[0] + pair[1] in ranks]:
        tokens = merge_pair(tokens, max(known, key=lambda pair: ranks[pair[0] + pair[1]]))
    return [ranks[token] for token in tokens]


def one_merge_only(chunk, ranks):
    tokens = [bytes([b]) for b in chunk]
    pairs = [pair for pair in pairwise(tokens) if pair[0] + pair[1] in ranks]
    if pairs:
        tokens = merge_pair(tokens, min(pairs, key=lambda pair: ranks[pair[0] + pair[1]]))
    return [ranks[token] for token in tokens]


def sizes_on(which):
    def answer(text, unseen, sizes, saving):
        ordered = list(train_bpe(text, sizes[-1]).items())
        text = text if which == "seen" else unseen
        counts = []
        for size in sizes:
            bpe = make_encoding("part", dict(ordered[: size if which == "one more" else size - 1]))
            counts.append(len(bpe.encode(text)))
        for size, after, (a, b) in zip(sizes, sizes[1:], pairwise(counts)):
            saved = a / b - 1 if which == "of the smaller" else 1 - b / a
            if saved < saving:
                return after if which == "the next" else size
        return sizes[0] if which == "the first" else sizes[-1]

    return answer


def last_that_saved(text, unseen, sizes, saving):
    ordered = list(train_bpe(text, sizes[-1]).items())
    counts = [
        len(make_encoding("part", dict(ordered[: size - 1])).encode(unseen)) for size in sizes
    ]
    saved = [1 - b / a >= saving for a, b in pairwise(counts)]
    return sizes[max((i + 1 for i, enough in enumerate(saved) if enough), default=0)]


def gap(one, other):
    return ((one**2).sum(dim=0) - (other**2).sum(dim=0)).norm().item()


def move_positions_too(tokens, positions, order):
    both = tokens + positions
    return gap(tokens, tokens[order]), gap(both, both[order])


def forget_positions(tokens, positions, order):
    return gap(tokens, tokens[order]), gap(tokens, tokens[order])


def compare_place_by_place(tokens, positions, order):
    without = (tokens - tokens[order]).norm().item()
    return without, gap(tokens + positions, tokens[order] + positions)


def position_of_one_side(tokens, positions, order):
    return gap(tokens, tokens[order]), gap(tokens + positions, tokens[order])


def plain_sum(tokens, positions, order):
    one, other = tokens + positions, tokens[order] + positions
    return 0.0, (one.sum(dim=0) - other.sum(dim=0)).norm().item()


WRONG = [
    ("take_apart", take_apart_as_text, "is not bytes"),
    ("take_apart", take_apart_characters, "not the tokenizer's"),
    ("take_apart", lambda word, tokenizer: [(b, bytes([b])) for b in word.encode()], "not the tok"),
    ("take_apart", lambda word, tokenizer: [], "not the tokenizer's"),
    ("every_token_once", loader(stride=1), "overlap"),
    ("every_token_once", loader(stride=lambda n: max(1, n // 2)), "overlap"),
    ("every_token_once", loader(stride=lambda n: n - 1), "overlap"),
    ("every_token_once", loader(stride=lambda n: n + 1), "longer than"),
    ("every_token_once", other_tokenizer, "was it passed on"),
    ("every_token_once", no_return, "is a `return` missing"),
    ("every_token_once", loader(shuffle=True), "order of the text"),
    ("every_token_once", loader(drop_last=True), "batch"),
    ("every_token_once", unshifted, "not one token later"),
    ("every_token_once", lambda text, tokenizer, n: [], "no batch"),
    ("number_of_windows", lambda n, length, stride: n // stride, "you predict"),
    ("number_of_windows", lambda n, length, stride: max(0, (n - length) // stride), "you predict"),
    ("number_of_windows", lambda n, length, stride: (n - length) // stride + 1, "you predict"),
    ("number_of_windows", lambda n, length, stride: (n - length - 1) // stride + 1, "you predict"),
    ("repaired_encoder", longest_match, "lowest rank"),
    ("repaired_encoder", leftmost_pair, "lowest rank"),
    ("repaired_encoder", latest_pair, "lowest rank"),
    ("repaired_encoder", one_merge_only, "lowest rank"),
    ("large_enough", sizes_on("seen"), "you say"),
    ("large_enough", sizes_on("the next"), "you say"),
    ("large_enough", sizes_on("of the smaller"), "you say"),
    ("large_enough", last_that_saved, "you say"),
    ("large_enough", sizes_on("the first"), "you say"),
    ("large_enough", lambda text, unseen, sizes, saving: sizes[0], "you say"),
    ("order_lost_and_found", move_positions_too, "shuffled together"),
    ("order_lost_and_found", forget_positions, "with positions the gap is 0"),
    ("order_lost_and_found", compare_place_by_place, "without positions"),
    ("order_lost_and_found", position_of_one_side, "apply `order` to the tokens"),
    ("order_lost_and_found", plain_sum, "with positions the gap is 0"),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    torch.manual_seed(0)
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: ")
    assert says in result.text


def test_other_right_answers_are_accepted():
    def counted(n_tokens, max_length, stride):
        return max(0, -((max_length - n_tokens) // stride))

    def batches_by_hand(text, tokenizer, max_length):
        dataset = GPTDatasetV1(text, tokenizer, max_length, max_length)
        return torch.utils.data.DataLoader(dataset, batch_size=3)

    def by_tiktoken(chunk, ranks):
        return make_encoding("x", ranks).encode(chunk.decode())

    assert check.number_of_windows(counted).ok
    assert check.every_token_once(batches_by_hand).ok
    assert check.repaired_encoder(by_tiktoken).ok


def test_an_answer_that_fails_is_wrong_and_says_why():
    result = check.take_apart(lambda word: [])
    assert not result.ok and "raised TypeError" in result.text
