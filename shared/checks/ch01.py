"""Checks for the exercises of chapter 1: `from shared.checks import ch01 as check`."""

import functools
import math
import random
from collections import Counter
from itertools import pairwise

from shared.checks import exercise, require

ASKED = ("P(wind | the)", "P(the | and)", "P(rain | wind)", "P(sun | sun)")
# n(ab), n(a), how often a occurs, how often b does: of eight words, five in the vocabulary
COUNTS = ((2, 3, 3, 2), (2, 2, 2, 3), (0, 1, 2, 1), (0, 0, 0, 0))
GPT3 = {"web": 410, "links": 19, "books 1": 12, "books 2": 55, "wiki": 3}, (60, 22, 8, 8, 3)


def _near(got, want):
    return math.isclose(float(got), want, rel_tol=1e-3, abs_tol=1e-9)


def _numbers(values, count, what):
    """The answer as floats; AssertionError unless it is a row of so many numbers."""
    require(
        not isinstance(values, str | dict) and hasattr(values, "__len__"),
        f"{what}: a list is asked for, not {values!r}",
    )
    require(len(values) == count, f"{what}: {count} numbers are asked for, not {len(values)}")
    return [float(value) for value in values]


@exercise
def four_probabilities(answer):
    """`answer() -> [P(wind | the), P(the | and), P(rain | wind), P(sun | sun)]` with k = 1 and V = 5."""
    got = _numbers(answer(), 4, "the answer")
    for value, name, (pair, followed, occurs, other) in zip(got, ASKED, COUNTS):
        mistakes = {
            "V is 5: sun belongs to the vocabulary, too": (pair + 1) / (followed + 4),
            "without smoothing": pair / followed if followed else 0.0,
            "k is added to the pair, and not to the sum of the row": (pair + 1) / max(followed, 1),
            "k is added to the sum of the row once, not once for each word": (pair + 1)
            / (followed + 1),
            "k is added to the sum of the row, and not to the pair": pair / (followed + 5),
            "that is the share among all pairs, not among those that begin with the first word": pair
            / 7,
            "the last word of the text is followed by nothing: it occurs more often than it is followed": (
                pair + 1
            )
            / (occurs + 5),
            "the other way round: the first word given the second": (pair + 1) / (other + 5),
        }
        right = (pair + 1) / (followed + 5)
        if not _near(value, right):
            why = [text for text, wrong in mistakes.items() if _near(value, wrong)]
            raise AssertionError(
                f"{name} is not {value:.4g}: {why[0] if why else 'count the row again'}"
            )
    return "3/8, 3/7, 1/6 and 1/5: what was never seen is unlikely, not impossible"


@exercise
def repaired_probabilities(answer):
    """`answer(row, vocab_size, k) -> list of V probabilities` of a row of counts, which may be empty."""
    for row, V, k in [
        ({0: 2, 3: 1}, 5, 1.0),
        ({1: 7}, 3, 0.5),
        ({}, 4, 0.1),
        ({0: 1, 1: 1, 2: 4}, 3, 2.0),
        ({9: 1}, 50, 0.001),
    ]:
        given = dict(row)
        case = f"row {row}, V = {V}, k = {k}"
        got = _numbers(answer(row, V, k), V, case)
        require(row == given, f"{case}: the row has been changed; it belongs to the model")
        require(
            math.isclose(math.fsum(got), 1, abs_tol=1e-6),
            f"{case}: the probabilities sum to {math.fsum(got):.4g}, not to 1",
        )
        require(min(got) > 0, f"{case}: one is {min(got):.4g}; smoothing leaves nothing impossible")
        total = sum(row.values()) + k * V
        for b, value in enumerate(got):
            right = (row.get(b, 0) + k) / total
            require(
                _near(value, right),
                f"{case}: the probability of {b} is {value:.4g}, not {right:.4g}: each of the V tokens "
                "counts k times more than it occurs",
            )
    return (
        "every row sums to 1, the empty one too, and each token counts k times more than it occurs"
    )


def _texts():
    """Texts, as IDs, for which different k are best: with a rule, with a weak one, and with none."""
    texts = []
    for seed, noise in ((1, 0.02), (2, 0.4), (3, 1.0)):
        draw, ids = random.Random(seed), [0]
        for _ in range(599):
            ids.append(draw.randrange(30) if draw.random() < noise else (ids[-1] * 7 + 3) % 30)
        texts.append(ids)
    return texts


@exercise
def choose_k(answer):
    """`answer(ids, vocab_size, candidates) -> k`, judged on the last tenth, which was not counted."""
    from shared.intro import BigramModel

    candidates = [1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0]
    for ids in _texts():
        cut = len(ids) * 9 // 10
        losses = {k: BigramModel(ids[:cut], 30, k).loss(ids[cut:]) for k in candidates}
        best = min(candidates, key=losses.get)
        for order in (candidates, candidates[::-1]):
            k = answer(list(ids), 30, list(order))
            require(
                not isinstance(k, list | tuple | dict) and k in candidates,
                f"{k!r} is none of the candidates",
            )
            if k != best:
                cheat = min(candidates, key=lambda k: BigramModel(ids, 30, k).loss(ids[cut:]))
                why = ""
                if k == cheat:
                    why = ". The text that judges is among what was counted: the smallest k always wins"
                elif k == max(candidates, key=losses.get):
                    why = ". That has the largest loss; the least is asked for"
                raise AssertionError(
                    f"k = {k:g} has loss {losses[k]:.4g} on text that was not counted, and k = {best:g} "
                    f"has {losses[best]:.4g}{why}"
                )
    return "the k with the least loss on text that was not counted; other texts, other k"


def _trigram(known, new, V, k, row=lambda a, b: (a, b), followed=True):
    """The loss of a trigram, or of one that makes a mistake: another row, or a pair counted wherever it stands."""
    counts = Counter((row(a, b), c) for a, b, c in zip(known, known[1:], known[2:]))
    sums = Counter(row(a, b) for a, b in pairwise(known[:-1] if followed else known))
    logs = [
        math.log((counts[row(a, b), c] + k) / (sums[row(a, b)] + k * V))
        for a, b, c in zip(new, new[1:], new[2:])
    ]
    return -sum(logs) / len(logs)


@exercise
def trigram_loss(answer):
    """`answer(known, new, vocab_size, k) -> nats per token` of a model that looks two tokens back."""
    from shared import editions
    from shared.intro import BigramModel

    draw = random.Random(5)
    for length, k in ((40, 1.0), (150, 0.1), (60, 0.5)):
        known = [draw.randrange(4) for _ in range(length)] + [3, 3]
        new = [draw.randrange(5) for _ in range(length)]
        got, right = float(answer(list(known), list(new), 6, k)), _trigram(known, new, 6, k)
        if math.isclose(got, right, rel_tol=1e-6):
            continue
        runs, pairs = len(new) - 2, set(pairwise(known[:-1]))
        seen = [run for run in zip(new, new[1:], new[2:]) if run[:2] in pairs]
        skipped = sum(_trigram(known, run, 6, k) for run in seen) / len(seen)
        other = functools.partial(_trigram, known, new, 6, k)
        mistakes = {
            "only the last token is looked at: that is a bigram": other(row=lambda a, b: b),
            "only the token before the last is looked at": other(row=lambda a, b: a),
            "the order of the two tokens is lost": other(row=lambda a, b: frozenset((a, b))),
            "the last pair is followed by nothing, and does not count": other(followed=False),
            "the sum over all tokens, not their mean": right * runs,
            "the first two tokens are not guessed: divide by two less": right * runs / len(new),
            "divide by the runs of three, one less than the pairs": right * runs / (runs + 1),
            "minus the logarithm is asked for, and this is the logarithm": -right,
            "logarithms to base 2 give bits; nats are asked for": right / math.log(2),
            "the perplexity, not the loss": math.exp(right),
            "runs whose pair was never seen are left out; they cost log V": skipped,
            "counted and judged on the same text": _trigram(known, known, 6, k),
        }
        why = [text for text, wrong in mistakes.items() if math.isclose(got, wrong, rel_tol=1e-6)]
        raise AssertionError(
            f"a text of {length} tokens, k = {k}: the loss is {right:.4f}, and you say {got:.4f}"
            + (f". {why[0]}" if why else "")
        )
    ids, V = editions.tokenizer().encode(editions.text()), editions.tokenizer().n_vocab
    known, new, ks = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :], (0.0003, 0.003, 0.03)
    two = min(answer(known, new, V, k) for k in ks)
    one = min(BigramModel(known, V, k).loss(new) for k in ks)
    return f"and on the story, at the best k of three: trigram {two:.2f}, bigram {one:.2f}"


@exercise
def epochs(answer):
    """`answer({name: tokens}, {name: weight}, read) -> {name: epochs}`, whatever the weights sum to."""
    tokens, printed = GPT3
    cases = [
        (tokens, dict(zip(tokens, printed)), 300),
        ({"a": 10, "b": 30}, {"a": 1.0, "b": 3.0}, 80),
        (
            {"b": 5, "a": 20},
            {"a": 0.2, "b": 0.6},
            10,
        ),  # other orders, a dataset read more than once
        ({"only": 7}, {"only": 60}, 3.5),
        ({"a": 10, "b": 30}, {"a": 1, "b": 0}, 5),  # one that is never read
    ]
    for sizes, weights, read in cases:
        given = dict(weights)
        got = answer(dict(sizes), given, read)
        require(given == weights, "the weights have been changed: they are the caller's")
        require(isinstance(got, dict), f"a dictionary is asked for, not {type(got).__name__}")
        require(
            set(got) == set(sizes), f"the names must be {sorted(sizes)}; these are {sorted(got)}"
        )
        got = {name: float(value) for name, value in got.items()}
        found = sum(got[name] * sizes[name] for name in sizes)
        case = f"{sizes} with weights {weights}, {read} read"
        if not math.isclose(found, read, rel_tol=1e-6):
            why = ""
            if math.isclose(found, read * sum(weights.values()) / 100, rel_tol=1e-6):
                why = ". These weights are no percentages of 100: divide by their sum"
            elif math.isclose(found, read * sum(weights.values()), rel_tol=1e-6):
                why = ". A weight is no share until it is divided by the sum of the weights"
            raise AssertionError(
                f"{case}: tokens times epochs add up to {found:.4g}, not to the {read} that were read{why}"
            )
        for name in sizes:
            right = weights[name] / sum(weights.values()) * read / sizes[name]
            by_size = read / sum(sizes.values())
            why = (
                ": that is what drawing in proportion to size would give, without weights"
                if math.isclose(got[name], by_size, rel_tol=1e-6)
                else ""
            )
            require(
                _near(got[name], right),
                f"{case}: {name} is read {right:.4g} times, not {got[name]:.4g}{why}",
            )
    return "all that was read comes from some dataset, whatever the weights sum to"
