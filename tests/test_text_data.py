"""Chapter 2: tokenizers and data loaders, against independent implementations and bad input."""

import os
import random

import pytest
import tiktoken
import torch
from scripts import scripts
from tiktoken._educational import SimpleBytePairEncoding
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from shared import editions, encodings
from shared.checks import check_round_trip, check_same_ids, check_targets_are_shifted
from shared.text_data import (
    GPT2_SPLIT_PATTERN,
    GPTDatasetV1,
    SimpleTokenizerV1,
    SimpleTokenizerV2,
    bpe_encode,
    create_dataloader_v1,
    make_encoding,
    merge_pair,
    most_frequent_pair,
    split_into_chunks,
    split_words,
    train_bpe,
    train_bpe_simple,
)

DIGITS_APART = scripts(editions.CHAPTER_2, "train_tokenizer")[0].DIGITS_APART
STORY = editions.STORY.read_text(encoding="utf-8")
SINGLE_BYTES = {bytes([byte]): byte for byte in range(256)}
NASTY = [
    "",
    " ",
    "\n\n \t\r\n",
    "naïve café, ﬁancé",
    "茶は熱い。Привет! שלום مرحبا",
    "👩‍🔬🫖 e\u0301 \u200b\ufeff\x00",
    "a" * 300,
    "I'll they've 'tis x==y; 3.14 1,000,000",
    "<|endoftex",
    STORY[:3000],
]


@pytest.fixture(scope="module")
def encoding():
    return make_encoding("story", train_bpe(STORY, 600))


def random_text(seed, alphabet="ab c\n", length=300):
    draw = random.Random(seed)
    return "".join(draw.choice(alphabet) for _ in range(length))


# --- words


def test_word_tokens_keep_everything_but_white_space():
    words = split_words("Hello, world. Is this-- a test?")
    assert words == ["Hello", ",", "world", ".", "Is", "this", "--", "a", "test", "?"]
    assert "".join(split_words(STORY)) == "".join(STORY.split())


def test_simple_tokenizers():
    vocab = {word: i for i, word in enumerate(sorted(set(split_words(STORY))))}
    known = "Miss Haddow, who was deaf, slid the card."
    first = SimpleTokenizerV1(vocab)
    assert first.decode(first.encode(known)) == known
    with pytest.raises(KeyError, match="'lemonade' is not in the vocabulary of"):
        first.encode("some lemonade")
    second = SimpleTokenizerV2(vocab | {"<|endoftext|>": len(vocab), "<|unk|>": len(vocab) + 1})
    assert second.decode(second.encode("some lemonade")) == "some <|unk|>"
    assert second.encode("<|endoftext|>") == [len(vocab)]
    with pytest.raises(ValueError, match="needs an entry '<|unk|>'"):
        SimpleTokenizerV2(vocab)


# --- byte pair encoding


def test_ties_go_to_the_greater_pair():
    assert most_frequent_pair({(b"a", b"z"): 2, (b"b", b"a"): 2, (b"z", b"z"): 1}) == (b"b", b"a")
    assert most_frequent_pair({(b"a", b"b"): 0}) is None
    ranks = train_bpe("ab cd ab cd", 258)
    assert list(ranks)[256:] == [b"cd"]
    assert merge_pair([b"a"] * 5, (b"a", b"a")) == [b"aa", b"aa", b"a"]


@pytest.mark.parametrize("seed", range(8))
def test_fast_trainer_is_the_simple_one(seed):
    text = random_text(seed, "aab c<é\n'", 400) + STORY[seed * 900 : seed * 900 + 700]
    assert train_bpe(text, 330) == train_bpe_simple(text, 330)


def test_ranks_are_the_bytes_and_then_the_merges_in_order():
    ranks = train_bpe(STORY, 400)
    assert list(ranks.values()) == list(range(399))
    assert list(ranks)[:256] == list(SINGLE_BYTES)
    for size in [257, 300, 350]:
        assert dict(list(ranks.items())[: size - 1]) == train_bpe(STORY, size)


def test_every_merge_is_of_the_most_frequent_pair():
    """Against tiktoken's teaching code, as far as frequencies decide and no tie."""
    ranks = train_bpe(STORY, 300)
    for size in range(256, 299, 7):
        part = dict(list(ranks.items())[:size])
        theirs = SimpleBytePairEncoding(pat_str=GPT2_SPLIT_PATTERN, mergeable_ranks=part)
        pieces = [theirs.encode(chunk, visualise=None) for chunk in set(split_into_chunks(STORY))]
        counts = {}
        times = {tuple(ids): 0 for ids in pieces}
        for chunk in split_into_chunks(STORY):
            times[tuple(theirs.encode(chunk, visualise=None))] += 1
        for ids, n in times.items():
            for pair in zip(ids, ids[1:]):
                counts[pair] = counts.get(pair, 0) + n
        token = list(ranks)[size]
        by_id = list(ranks)
        best = max(counts.values())
        winners = {by_id[a] + by_id[b] for (a, b), n in counts.items() if n == best}
        assert token in winners


def test_special_tokens_are_cut_out_before_counting():
    text = "ab<|endoftext|>ab<|endoftext|>ab"
    ranks = train_bpe(text, 270)
    assert list(ranks)[256:] == [b"ab"]
    several = train_bpe("x<s>y</s>x", 256 + 2, special_tokens=("<s>", "</s>"))
    assert several == SINGLE_BYTES
    bpe = make_encoding("two", several, special_tokens=("<s>", "</s>"))
    assert bpe.encode("<s></s>", allowed_special="all") == [256, 257]


def test_special_tokens_are_no_patterns():
    special = ("<|endoftext|>",)
    assert split_into_chunks("a<b<|endoftext|>c", special) == ["a", "<", "b", "c"]


def test_a_text_without_pairs_gives_fewer_tokens():
    assert len(train_bpe("a b c", 1000)) < 999
    assert train_bpe("abc", 300) == train_bpe_simple("abc", 300)


def test_encoders_agree_with_each_other_and_with_two_libraries(encoding):
    ranks = encoding._mergeable_ranks
    texts = NASTY + [random_text(seed, "the win\n 'é茶", 200) for seed in range(20)]
    check_same_ids(lambda text: bpe_encode(text, ranks), encoding.encode, texts)
    check_round_trip(encoding, texts)
    slow = SimpleBytePairEncoding(pat_str=GPT2_SPLIT_PATTERN, mergeable_ranks=ranks)
    check_same_ids(encoding.encode, lambda text: slow.encode(text, visualise=None), texts[:6])
    check_same_ids(encoding.encode, hugging_face(ranks), texts)


@pytest.fixture(scope="module")
def digits():
    """A text full of numbers."""
    sums = " ".join(f"{i} and {i}: {2 * i}, in {1900 + i} x{i}y" for i in range(200))
    return STORY[:4000] + sums


def test_another_pattern_for_both_trainers(digits):
    ranks = train_bpe(digits, 400, pattern=DIGITS_APART)
    assert ranks == train_bpe_simple(digits, 400, pattern=DIGITS_APART)
    assert ranks != train_bpe(digits, 400)
    for token in list(ranks)[256:]:
        assert not any(byte in b"0123456789" for byte in token), token


def test_another_pattern_for_both_encoders(digits):
    ranks = train_bpe(digits, 400, pattern=DIGITS_APART)
    bpe = make_encoding("digits", ranks, pattern=DIGITS_APART)
    texts = [*NASTY, digits, "2024", " 17", "-3.50", "a1b22", "٣٤ ½² Ⅷ", " 1 000 000 ", "7\n8"]
    check_same_ids(lambda text: bpe_encode(text, ranks, pattern=DIGITS_APART), bpe.encode, texts)
    check_round_trip(bpe, texts)
    pieces = [bpe.decode([i]) for i in bpe.encode("In 1996, 17")]
    assert pieces[-8:] == ["1", "9", "9", "6", ",", " ", "1", "7"]
    assert bpe.encode("a 17") != make_encoding("digits", train_bpe(digits, 400)).encode("a 17")


def hugging_face(ranks):
    """The same ranks in Hugging Face's `tokenizers`: text -> IDs."""
    visible = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    hidden = [b for b in range(256) if b not in visible]
    char = {b: chr(b) for b in visible} | {b: chr(256 + i) for i, b in enumerate(hidden)}

    def name(token):
        return "".join(char[b] for b in token)

    merges = []
    for token, rank in list(ranks.items())[256:]:
        earlier = dict(list(ranks.items())[:rank])
        pieces = bpe_pieces(token, earlier)
        merges.append((name(pieces[0]), name(pieces[1])))
    tokenizer = Tokenizer(models.BPE({name(t): i for t, i in ranks.items()}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return lambda text: tokenizer.encode(text).ids


def bpe_pieces(token, ranks):
    pieces = [bytes([byte]) for byte in token]
    while len(pieces) > 2:
        pairs = [
            (ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(zip(pieces, pieces[1:]))
        ]
        rank, i = min(pairs)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]
    return pieces


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: train_bpe("", 300), ValueError, "the text is empty"),
        (lambda: train_bpe("text", 256), ValueError, "vocab_size is 256, .* need 257"),
        (lambda: train_bpe_simple("text", 100), ValueError, "need 257"),
        (lambda: train_bpe("text", 257, ("a", "b")), ValueError, "need 258"),
        (lambda: train_bpe("text", 300, "<s>"), TypeError, "tuple of strings"),
        (lambda: train_bpe("text", 257, "<|endoftext|>"), TypeError, "must be a tuple"),
        (lambda: make_encoding("x", SINGLE_BYTES, "<s>"), ValueError, "tuple of different strings"),
        (lambda: make_encoding("x", SINGLE_BYTES, ("a", "a")), ValueError, "different strings"),
        (lambda: make_encoding("x", {b"a": 0}), ValueError, "all 256 single bytes"),
        (lambda: make_encoding("x", SINGLE_BYTES | {b"ab": 300}), ValueError, "0, 1, 2"),
    ],
)
def test_bad_input_of_the_tokenizer(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_end_of_text_must_be_allowed(encoding):
    with pytest.raises(ValueError, match="disallowed special token"):
        encoding.encode("a<|endoftext|>")
    assert encoding.encode("<|endoftext|>", allowed_special="all") == [encoding.n_vocab - 1]
    assert encoding.eot_token == encoding.n_vocab - 1


# --- windows


@pytest.mark.parametrize("max_length", [1, 2, 4, 7])
@pytest.mark.parametrize("stride", [1, 3, 4, 9])
def test_dataset_is_the_loop(encoding, max_length, stride):
    text = STORY[:400]
    ids = encoding.encode(text)
    dataset = GPTDatasetV1(text, encoding, max_length, stride)
    starts = range(0, len(ids) - max_length, stride)
    want = [(ids[i : i + max_length], ids[i + 1 : i + max_length + 1]) for i in starts]
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == want
    assert len(dataset) == len(want)
    assert dataset[0][0].dtype == torch.int64
    assert [part.tolist() for part in dataset[-1]] == [list(part) for part in want[-1]]


def test_the_shortest_text_has_one_window(encoding):
    text = STORY[:100]
    n = len(encoding.encode(text))
    assert len(GPTDatasetV1(text, encoding, n - 1, 1)) == 1
    with pytest.raises(ValueError, match=f"{n} tokens, .* at least {n + 1}"):
        GPTDatasetV1(text, encoding, n, 1)


def test_end_of_text_is_one_token_in_the_dataset(encoding):
    dataset = GPTDatasetV1("one<|endoftext|>two and three", encoding, 4, 1)
    assert encoding.eot_token in dataset.token_ids


def test_ids_of_a_large_vocabulary():
    specials = {"<|endoftext|>": 50_256}
    large = tiktoken.Encoding(
        "large", pat_str=GPT2_SPLIT_PATTERN, mergeable_ranks=SINGLE_BYTES, special_tokens=specials
    )
    inputs, _ = GPTDatasetV1("ab<|endoftext|>c", large, 3, 1)[0]
    assert inputs.tolist() == [97, 98, 50_256]


def test_any_tokenizer_with_encode_will_do():
    vocab = {word: i for i, word in enumerate(["<|unk|>", "a", "b"])}
    dataset = GPTDatasetV1("a b a b a", SimpleTokenizerV2(vocab), 2, 2)
    assert [(x.tolist(), y.tolist()) for x, y in dataset] == [([1, 2], [2, 1]), ([1, 2], [2, 1])]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches(encoding, num_workers):
    options = {"shuffle": False, "tokenizer": encoding, "num_workers": num_workers}
    loader = create_dataloader_v1(STORY[:3000], 4, 8, 8, **options)
    assert loader.num_workers == num_workers
    batches = list(loader)
    for inputs, targets in batches:
        assert inputs.shape == targets.shape == (4, 8)
        assert inputs.dtype == targets.dtype == torch.int64
        check_targets_are_shifted(inputs, targets)
    seen = torch.cat([inputs.flatten() for inputs, _ in batches]).tolist()
    assert seen == encoding.encode(STORY[:3000])[: len(seen)]


def test_defaults_are_the_books(encoding):
    loader = create_dataloader_v1(STORY, tokenizer=encoding)
    inputs, _ = next(iter(loader))
    assert inputs.shape == (4, 256)
    assert loader.drop_last and isinstance(loader.sampler, torch.utils.data.RandomSampler)
    assert loader.dataset.starts.step == 128


def test_the_last_batch_can_be_kept(encoding):
    text = STORY[:300]
    n = len(encoding.encode(text))
    loader = create_dataloader_v1(text, 4, n - 2, 1, drop_last=False, tokenizer=encoding)
    assert [len(inputs) for inputs, _ in loader] == [2]


def test_shuffling_follows_the_seed(encoding):
    def first(seed):
        torch.manual_seed(seed)
        return next(iter(create_dataloader_v1(STORY, 4, 8, 8, tokenizer=encoding)))[0]

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"txt": ""}, "0 tokens, .* at least 257"),
        ({"txt": "too short"}, "at least 257"),
        ({"stride": 0}, r"stride \(0\) must be at least 1"),
        ({"max_length": 0}, r"max_length \(0\)"),
        ({"stride": -1}, "at least 1"),
        ({"batch_size": 10_000}, "fill no batch of 10000"),
    ],
)
def test_bad_input_of_the_loader(encoding, options, message):
    with pytest.raises(ValueError, match=message):
        create_dataloader_v1(**{"txt": STORY, "tokenizer": encoding} | options)


def test_without_a_tokenizer_it_is_gpt2s(monkeypatch, encoding):
    monkeypatch.setattr(encodings, "gpt2_encoding", lambda: encoding)
    inputs, _ = next(iter(create_dataloader_v1(STORY, shuffle=False)))
    assert inputs[0].tolist() == encoding.encode(STORY)[:256]


def test_checks_refuse_targets_that_are_not_shifted():
    inputs = torch.tensor([[1, 2, 3, 4]])
    for targets in [
        inputs,
        torch.tensor([[3, 4, 5, 6]]),
        inputs[:, 1:],
        torch.tensor([[0, 1, 2, 3]]),
    ]:
        with pytest.raises(AssertionError):
            check_targets_are_shifted(inputs, targets)


# --- what real files add, where COURSE_CACHE holds them


@pytest.mark.skipif(not os.environ.get("COURSE_CACHE"), reason="COURSE_CACHE is not set")
def test_gpt2s_encoding_is_the_books():
    gpt2 = encodings.gpt2_encoding()
    assert isinstance(gpt2, tiktoken.Encoding) and gpt2.n_vocab == 50_257
    text = "Hello, do you like tea? <|endoftext|> In the sunlit terracesof someunknownPlace."
    want = [15496, 11, 466, 345, 588, 8887, 30, 220, 50256, 554, 262, 4252, 18250, 8812, 2114]
    want += [1659, 617, 34680, 27271, 13]
    assert gpt2.encode(text, allowed_special={"<|endoftext|>"}) == want
    check_round_trip(gpt2, NASTY)
