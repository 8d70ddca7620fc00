"""Checks for the exercises of chapter 2: `from shared.checks import ch02 as check`."""

from collections.abc import Iterator
from itertools import pairwise

import torch

from shared.checks import brief, exercise, require
from shared.checks.means import entered, libraries, loop_in
from shared.checks.returned import number, numbers

WORDS = ["Akwirw ier", " someunknownPlace", "naïve", " 茶", "👩‍🔬", "don't"]


def _tokenizers():
    """A tokenizer that knows bytes only, and one with a few merges."""
    from shared.text_data import make_encoding, train_bpe

    text = "I will wait where we were; in the window the wick, the winter wind. " * 3
    # as in GPT-2, the ID of a byte is not its own number
    bytes_only = {bytes([(byte + 57) % 256]): byte for byte in range(256)}
    return [make_encoding("bytes", bytes_only), make_encoding("few", train_bpe(text, 300))]


@exercise
def take_apart(answer):
    """`answer(word, tokenizer) -> list of (ID, bytes)`, whose bytes join to the word."""
    for tokenizer in _tokenizers():
        for word in WORDS:
            got = answer(word, tokenizer)
            asked = "a list of pairs (ID, bytes) is asked for"
            require(isinstance(got, list | tuple | Iterator), f"{asked}, not {brief(got)}")
            pairs = list(got)
            for pair in pairs:
                fits = isinstance(pair, list | tuple) and len(pair) == 2
                require(fits, f"{asked}; {brief(pair)} is no pair")
            ids = [token_id for token_id, _ in pairs]
            require(
                ids == tokenizer.encode(word), f"the IDs of {word!r} are not the tokenizer's: {ids}"
            )
            pieces = [piece for _, piece in pairs]
            require(
                all(isinstance(piece, bytes) for piece in pieces),
                f"a piece of {word!r} is not bytes. As text, half a character cannot be shown",
            )
            require(
                b"".join(pieces) == word.encode(),
                f"joined, the pieces of {word!r} give {b''.join(pieces)!r}",
            )
    return "every word falls into known pieces, and they join to the word, half characters included"


@exercise
def every_token_once(answer):
    """`answer(text, tokenizer, max_length)` -> a loader whose inputs hold each token once, in order."""
    tokenizer = _tokenizers()[0]
    for length, max_length in [(41, 8), (17, 4), (33, 16), (93, 4)]:  # whole windows, and one token
        text = "".join(chr(33 + i) for i in range(length))  # no token occurs twice
        ids = tokenizer.encode(text)
        batches = list(answer(text, tokenizer, max_length))
        require(batches, f"a text of {length} tokens gave no batch at all")
        for batch in batches:
            pair = isinstance(batch, list | tuple) and len(batch) == 2
            require(
                pair and all(isinstance(part, torch.Tensor) and part.dim() == 2 for part in batch),
                "a loader is asked for, with batches (inputs, targets) of `(B, T)` each",
            )
        require(
            all(x.shape[1] == max_length for x, _ in batches),
            f"windows are not {max_length} tokens long",
        )
        seen = torch.cat([x.flatten() for x, _ in batches]).tolist()
        want = ids[: (length - 1) // max_length * max_length]
        case = f"{length} tokens in windows of {max_length}"
        require(
            set(seen) <= set(ids),
            f"{case}: the inputs hold IDs that `tokenizer` does not give this text: was it passed on?",
        )
        require(
            len(seen) == len(set(seen)),
            f"{case}: some tokens are inputs more than once: the windows overlap",
        )
        require(
            len(seen) == len(want),
            f"{case}: {len(seen)} tokens were inputs, {len(want)} could be. Is the stride longer than "
            "a window, or the last batch dropped?",
        )
        require(
            seen == want, f"{case}: the right tokens, but not in the order of the text. Shuffled?"
        )
        following = torch.cat([y.flatten() for _, y in batches]).tolist()
        require(following == ids[1 : len(want) + 1], f"{case}: targets are not one token later")
    return "each token is an input exactly once, in order, and the last batch is kept"


@exercise(guess=lambda answer: answer(100, 8, 2))
def number_of_windows(answer):
    """`answer(n_tokens, max_length, stride)` predicts `len(GPTDatasetV1(...))`, 0 for a short text.

    How many there are is never said: what is to be predicted would be given away.
    """
    from shared.text_data import GPTDatasetV1

    tokenizer = _tokenizers()[0]
    for n_tokens in [1, 4, 5, 8, 9, 10, 100]:
        for max_length, stride in [(4, 4), (4, 1), (4, 3), (1, 1), (8, 2), (4, 7), (99, 5)]:
            got = number(answer(n_tokens, max_length, stride))
            want = 0
            if n_tokens > max_length:
                want = len(GPTDatasetV1("a" * n_tokens, tokenizer, max_length, stride))
            require(
                got == want,
                f"{n_tokens} tokens, max_length {max_length}, stride {stride}: you predict {got} windows, "
                f"and the dataset has {'more' if want > got else 'fewer'}",
            )
    with entered() as found:
        answer.__wrapped__(100, 4, 4)
    dataset = libraries(found, "shared.text_data")
    require(not dataset, "your numbers are right, but you build the dataset; write a formula")
    loop = loop_in(answer)
    require(not loop, f"your numbers are right, but there is {loop} in it; write a formula")
    return "your formula and the dataset agree, also when the text is too short or just long enough"


CHUNKS = "x ab aa aaa aaaa aab bcd abcd cdbcd aaabcd abcbcd zz é éab 茶 茶a 茶茶a".split() + [""]


@exercise
def repaired_encoder(answer):
    """`answer(chunk, ranks) -> IDs` of one chunk (bytes), as tiktoken encodes it."""
    from shared.text_data import make_encoding

    # "bc" is learned before "ab": in "abc", the longest match and the leftmost pair both go wrong
    merges = [b"bc", b"ab", b"cd", b"bcd", b"aa", b"abcd", b"\xc3\xa9", b"\x8c\xb6", b"\x8c\xb6a"]
    # a byte is a token whose ID need not be the byte's own number: in GPT-2, "x" is 87
    for first in (0, 57):
        ranks = {bytes([(byte + first) % 256]): byte for byte in range(256)}
        ranks |= {merge: 256 + i for i, merge in enumerate(merges)}
        tokenizer = make_encoding("repaired", ranks)
        for word in CHUNKS:
            want = tokenizer.encode(word)
            got = answer(word.encode(), dict(ranks))
            asked = f"{word!r}: a list of IDs is asked for"
            require(isinstance(got, list | tuple | Iterator), f"{asked}, not {brief(got)}")
            got = list(got)
            why = (
                "the pair learned first (lowest rank) is joined first, everywhere in the chunk, until no "
                "pair is in the vocabulary"
            )
            if [ranks[bytes([token])] if token in range(256) else token for token in got] == want:
                why = "a byte, too, has its ID in `ranks`, and that need not be its own number"
            require(got == want, f"{word!r} gives {got}, tiktoken gives {want}: {why}")
    return "lowest rank first, every occurrence, and nothing is lost: the same IDs as tiktoken"


def _first_below(steps, sizes, saving):
    return next((size for size, step in zip(sizes, steps) if step < saving), sizes[-1])


@exercise
def large_enough(answer):
    """`answer(text, unseen, sizes, saving)` -> the first size whose successor saves too little."""
    from shared import editions
    from shared.text_data import make_encoding, train_bpe

    story = editions.STORY.read_text(encoding="utf-8")
    cats = "the cat sat on the mat; the cat that sat there sat on that hat. " * 4
    cases = [
        # the last two are one: the text has no more pairs to learn
        (cats, "that cat sat on a hat, and the hat was flat.", [260, 264, 266, 280, 290]),
        (story[:2000], story[-1000:], [265, 270, 300, 320, 400, 450]),
    ]
    for text, unseen, sizes in cases:
        ordered = list(train_bpe(text, sizes[-1]).items())
        parts = [make_encoding("part", dict(ordered[: size - 1])) for size in sizes]
        counts, known = ([len(part.encode(one)) for part in parts] for one in (unseen, text))
        saved = [before - after for before, after in pairwise(counts)]
        steps = [n / before for n, before in zip(saved, counts)]
        mistakes = {
            "you divide by the first count; a step from a to b saves 1 - b / a": [
                n / counts[0] for n in saved
            ],
            "you divide by the length of the text; a step from a to b saves 1 - b / a": [
                n / len(unseen) for n in saved
            ],
            "you divide by the count after the step; a step from a to b saves 1 - b / a": [
                n / after for n, after in zip(saved, counts[1:])
            ],
            "you compare each size with the first; compare it with the one before": [
                1 - after / counts[0] for after in counts[1:]
            ],
            "you measure on the text of the training; measure on the unseen one": [
                1 - after / before for before, after in pairwise(known)
            ],
        }
        # next to every step, on both sides, and where a mistake gives another size
        tried = {round(step + more, 3) for step in steps for more in (-0.004, 0.004)}
        for saving in [0.9, 0.0, *sorted(saving for saving in tried if saving > 0)]:
            want = _first_below(steps, sizes, saving)
            got = answer(text, unseen, list(sizes), saving)
            why = [m for m, other in mistakes.items() if got == _first_below(other, sizes, saving)]
            about = (
                f"with sizes {sizes} the unseen text takes {counts} tokens; for a saving of {saving:.1%} "
                f"{want} is large enough, you say {brief(got)}"
            )
            require(got == want, about + (f": {why[0]}" if why else ""))
    return "measured on text that the tokenizer was not trained on, and stopped where a step saves too little"


@exercise
def order_lost_and_found(answer):
    """`answer(token_vectors, position_vectors, order) -> (gap without, gap with positions)`."""
    torch.manual_seed(123)
    for count, width in [(3, 4), (7, 2)]:
        tokens, positions = torch.randn(count, width), torch.randn(count, width)
        order = torch.arange(count).roll(1)
        returned = answer(tokens.clone(), positions.clone(), order.clone())
        without, with_positions = numbers(returned, 2, "two numbers are asked for, the gaps")
        require(
            abs(without) < 1e-4,
            f"without positions the gap is {without:.3f}, but a sum does not know the order",
        )
        before, after = tokens + positions, tokens[order] + positions
        want = float(_gap(before, after))
        gaps = (before**2).sum(dim=0) - (after**2).sum(dim=0)
        mistakes = {
            "that is the square of the length; the length is asked for": float((gaps**2).sum()),
            "that is the sum of the absolute values; the length is the root of the sum of squares": float(
                gaps.abs().sum()
            ),
            "that is the largest of the differences; the length is asked for": float(
                gaps.abs().max()
            ),
            "you take the mean over the tokens; the squares are added up": want / count,
            "you take the mean of all the differences; the length is asked for": float(
                gaps.abs().mean()
            ),
            "you apply `order` backwards; it is `token_vectors[order]`": float(
                _gap(before, tokens[order.argsort()] + positions)
            ),
        }
        require(
            with_positions > 1e-3,
            "with positions the gap is 0: were token and position shuffled together (a position stays where "
            "it is), or is the square missing, or taken after the sum?",
        )
        why = [text for text, wrong in mistakes.items() if abs(with_positions - wrong) < 1e-3]
        why.append("apply `order` to the tokens, and to nothing else")
        require(
            abs(with_positions - want) < 1e-3,
            f"with positions the gap is {with_positions:.3f}, it should be {want:.3f}: {why[0]}",
        )
    return "tokens moved, positions stayed: the order is lost without positions and found with them"


def _gap(vectors, others):
    """Distance between the sums of squares of two sets of vectors."""
    return ((vectors**2).sum(dim=0) - (others**2).sum(dim=0)).norm()
