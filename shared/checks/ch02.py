"""Checks for the exercises of chapter 2: `from shared.checks import ch02 as check`."""

import torch

from shared.checks import exercise, require

WORDS = ["Akwirw ier", " someunknownPlace", "naïve", " 茶", "👩‍🔬", "don't"]


def _tokenizers():
    """A tokenizer that knows bytes only, and one with a few merges."""
    from shared.text_data import make_encoding, train_bpe

    text = "I will wait where we were; in the window the wick, the winter wind. " * 3
    bytes_only = {bytes([byte]): byte for byte in range(256)}
    return [make_encoding("bytes", bytes_only), make_encoding("few", train_bpe(text, 300))]


@exercise
def take_apart(answer):
    """`answer(word, tokenizer) -> list of (ID, bytes)`, whose bytes join to the word."""
    for tokenizer in _tokenizers():
        for word in WORDS:
            pairs = list(answer(word, tokenizer))
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


@exercise
def number_of_windows(answer):
    """`answer(n_tokens, max_length, stride)` predicts `len(GPTDatasetV1(...))`, 0 for a short text."""
    from shared.text_data import GPTDatasetV1

    tokenizer = _tokenizers()[0]
    for n_tokens in [1, 4, 5, 8, 9, 10, 100]:
        for max_length, stride in [(4, 4), (4, 1), (4, 3), (1, 1), (8, 2), (4, 7), (99, 5)]:
            got = answer(n_tokens, max_length, stride)
            want = 0
            if n_tokens > max_length:
                want = len(GPTDatasetV1("a" * n_tokens, tokenizer, max_length, stride))
            require(
                got == want,
                f"{n_tokens} tokens, max_length {max_length}, stride {stride}: the dataset has {want} "
                f"windows, you predict {got}",
            )
    return "your formula and the dataset agree, also when the text is too short or just long enough"


@exercise
def repaired_encoder(answer):
    """`answer(chunk, ranks) -> IDs` of one chunk (bytes), as tiktoken encodes it."""
    from shared.text_data import make_encoding

    # "bc" is learnt before "ab": in "abc", the longest match and the leftmost pair both go wrong
    merges = [b"bc", b"ab", b"cd", b"bcd", b"aa", b"abcd"]
    ranks = {bytes([byte]): byte for byte in range(256)} | {
        m: 256 + i for i, m in enumerate(merges)
    }
    tokenizer = make_encoding("repaired", ranks)
    cases = [
        "x",
        "ab",
        "aa",
        "aaa",
        "aaaa",
        "aab",
        "bcd",
        "abcd",
        "cdbcd",
        "aaabcd",
        "abcbcd",
        "zz",
        "",
    ]
    for word in cases:
        want = tokenizer.encode(word)
        got = list(answer(word.encode(), dict(ranks)))
        require(
            got == want,
            f"{word!r} gives {got}, tiktoken gives {want}: the pair learnt first (lowest rank) is "
            "joined first, everywhere in the chunk, until no pair is in the vocabulary",
        )
    return "lowest rank first, every occurrence, and nothing is lost: the same IDs as tiktoken"


@exercise
def large_enough(answer):
    """`answer(text, unseen, sizes, saving)` -> the first size whose successor saves too little."""
    from shared.text_data import make_encoding, train_bpe

    text = "the cat sat on the mat; the cat that sat there sat on that hat. " * 4
    unseen = "that cat sat on a hat, and the hat was flat."
    sizes = [257, 264, 266, 280, 290]
    ordered = list(train_bpe(text, sizes[-1]).items())
    counts = []
    for size in sizes:
        bpe = make_encoding("part", dict(ordered[: size - 1]))
        counts.append(len(bpe.encode(unseen)))
    steps = [1 - after / before for before, after in zip(counts, counts[1:])]
    for saving in [0.9, 0.35, 0.25, 0.1, 0.01, 0.0]:
        enough = (size for size, step in zip(sizes, steps) if step < saving)
        want = next(enough, sizes[-1])
        got = answer(text, unseen, list(sizes), saving)
        require(
            got == want,
            f"with sizes {sizes} the unseen text takes {counts} tokens; for a saving of {saving:.0%} "
            f"{want} is large enough, you say {got}",
        )
    return "measured on text that the tokenizer was not trained on, and stopped where a step saves too little"


@exercise
def order_lost_and_found(answer):
    """`answer(token_vectors, position_vectors, order) -> (gap without, gap with positions)`."""
    torch.manual_seed(123)
    for count, width in [(3, 4), (7, 2)]:
        tokens, positions = torch.randn(count, width), torch.randn(count, width)
        order = torch.arange(count).roll(1)
        without, with_positions = answer(tokens.clone(), positions.clone(), order.clone())
        require(
            abs(float(without)) < 1e-4,
            f"without positions the gap is {float(without):.3f}, but a sum does not know the order",
        )
        want = float(_gap(tokens + positions, tokens[order] + positions))
        require(
            float(with_positions) > 1e-3,
            "with positions the gap is 0: were token and position shuffled together (a position stays where "
            "it is), or is the square missing, or taken after the sum?",
        )
        require(
            abs(float(with_positions) - want) < 1e-3,
            f"with positions the gap is {float(with_positions):.3f}, it should be {want:.3f}: "
            "apply `order` to the tokens, and to nothing else",
        )
    return "tokens moved, positions stayed: the order is lost without positions and found with them"


def _gap(vectors, others):
    """Distance between the sums of squares of two sets of vectors."""
    return ((vectors**2).sum(dim=0) - (others**2).sum(dim=0)).norm()
