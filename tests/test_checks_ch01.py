"""Every check of chapter 1's exercises: accepts right answers, refuses the usual wrong ones."""

import functools
import math
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import notebooks
import numpy as np
import pytest
import torch

from shared.checks import ch01 as check
from shared.intro import BigramModel

answers = functools.partial(notebooks.answers, "ch01_intro")


# 1.1: the four probabilities


def four(*values):
    return lambda: list(values)


RIGHT = (3 / 8, 3 / 7, 1 / 6, 1 / 5)

# 1.2: smoothing


def smoothed(pair=lambda n, k: n + k, total=lambda row, V, k: sum(row.values()) + k * V):
    def answer(row, vocab_size, k):
        return [pair(row.get(b, 0), k) / total(row, vocab_size, k) for b in range(vocab_size)]

    return answer


def unsmoothed(row, vocab_size, k):
    total = sum(row.values()) or 1
    return [row.get(b, 0) / total if row else 1 / vocab_size for b in range(vocab_size)]


def floored(row, vocab_size, k):
    """Only what was never seen gets k; then all is divided by the new sum."""
    counts = [row.get(b, 0) or k for b in range(vocab_size)]
    return [count / sum(counts) for count in counts]


def divided_by_the_seen_sum(row, vocab_size, k):
    parts = [(row.get(b, 0) + k) / (sum(row.values()) + k * len(row)) for b in range(vocab_size)]
    return [part / sum(parts) for part in parts]


def only_seen(row, vocab_size, k):
    total = sum(row.values()) + k * len(row)
    return [(row[b] + k) / total for b in row]


def changes_the_row(row, vocab_size, k):
    for b in range(vocab_size):
        row[b] = row.get(b, 0) + k
    return [row[b] / sum(row.values()) for b in range(vocab_size)]


# 1.3: k


def chosen(known=lambda ids, cut: ids[:cut], kept=lambda ids, cut: ids[cut:], best=min, parts=10):
    def answer(ids, vocab_size, candidates):
        cut = len(ids) * (parts - 1) // parts
        model = functools.partial(BigramModel, known(ids, cut), vocab_size)
        return best(candidates, key=lambda k: model(k).loss(kept(ids, cut)))

    return answer


def without_k(ids, vocab_size, candidates):
    cut = len(ids) * 9 // 10
    return min(candidates, key=lambda k: BigramModel(ids[:cut], vocab_size).loss(ids[cut:]))


def least_loss(ids, vocab_size, candidates):
    cut = len(ids) * 9 // 10
    return min(BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:]) for k in candidates)


def stops_at_the_first_rise(ids, vocab_size, candidates):
    """Right for candidates in order, and only for those."""
    cut = len(ids) * 9 // 10
    losses = [BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:]) for k in candidates]
    rises = [i for i, (loss, after) in enumerate(pairwise(losses)) if after > loss]
    return candidates[rises[0] if rises else -1]


# 1.4: the trigram


def trigram(row=lambda a, b: (a, b), log=math.log, mean=lambda total, n: -total / n, skip=False,
            followed=True, judged=None, added=lambda k, V: k * V):  # fmt: skip
    def answer(known, new, vocab_size, k):
        counts = Counter((row(a, b), c) for a, b, c in zip(known, known[1:], known[2:]))
        sums = Counter(row(a, b) for a, b in pairwise(known[: len(known) - followed]))
        logs = [
            log((counts[row(a, b), c] + k) / (sums[row(a, b)] + added(k, vocab_size)))
            for a, b, c in zip(judged or new, new[1:], new[2:])
            if not (skip and not sums[row(a, b)])
        ]
        return mean(sum(logs), len(logs))

    return answer


def trigram_on_known(known, new, vocab_size, k):
    return trigram()(known, known, vocab_size, k)


def bigram(known, new, vocab_size, k):
    return BigramModel(known, vocab_size, k).loss(new)


# 1.5: epochs


def epochs(share=lambda weight, weights: weight / sum(weights.values())):
    def answer(tokens, weights, read):
        return {name: share(weights[name], weights) * read / tokens[name] for name in tokens}

    return answer


def by_position(tokens, weights, read):
    total = sum(weights.values())
    return {
        name: w / total * read / n for name, n, w in zip(tokens, tokens.values(), weights.values())
    }


def divides_the_weights_in_place(tokens, weights, read):
    total = sum(weights.values())
    for name in weights:
        weights[name] /= total
    return {name: weights[name] * read / tokens[name] for name in tokens}


def divides_the_tokens_in_place(tokens, weights, read):
    tokens |= epochs()(tokens, weights, read)
    return tokens


def rounded(tokens, weights, read):
    return {name: round(value, 2) for name, value in epochs()(tokens, weights, read).items()}


def drops_what_is_never_read(tokens, weights, read):
    return {name: value for name, value in epochs()(tokens, weights, read).items() if value}


WRONG = [
    ("four_probabilities", four(2 / 3, 1, 0, 0), "without smoothing"),
    ("four_probabilities", four(1, 3 / 2, 1, 1), "not to the sum of the row"),
    ("four_probabilities", four(3 / 4, 3 / 3, 1 / 2, 1), "once, not once for each word"),
    ("four_probabilities", four(2 / 8, 3 / 7, 1 / 6, 1 / 5), "not to the pair"),
    ("four_probabilities", four(3 / 8, 3 / 7, 1 / 7, 1 / 5), "followed by nothing"),
    ("four_probabilities", four(2 / 7, 3 / 7, 1 / 6, 1 / 5), "share among all pairs"),
    ("four_probabilities", four(3 / 8, 3 / 8, 1 / 6, 1 / 5), "other way round"),
    ("four_probabilities", four(3 / 7, 3 / 6, 1 / 5, 1 / 4), "V is 5"),
    ("four_probabilities", four(*RIGHT[:3], 0), "P(sun | sun)"),
    ("four_probabilities", four(0.5, *RIGHT[1:]), "words that follow *the*"),
    ("four_probabilities", four(1 / 6, 1 / 8, 1 / 6, 1 / 5), "behind the bar"),
    ("four_probabilities", four(3 / 13, *RIGHT[1:]), "not the length of the text"),
    ("four_probabilities", four(RIGHT[1], RIGHT[0], *RIGHT[2:]), "their order"),
    ("four_probabilities", four(0.38, 0.43, 0.17, 0.2), "rounded"),
    ("four_probabilities", four(37.5, 42.86, 16.67, 20), "not of 100"),
    ("four_probabilities", four("3/8", "3/7", "1/6", "1/5"), "quotation marks"),
    ("four_probabilities", four(*RIGHT[:3]), "4 numbers"),
    ("four_probabilities", lambda: 3 / 8, "a list"),
    (
        "repaired_probabilities",
        smoothed(total=lambda r, V, k: sum(r.values()) + k * len(r)),
        "not for all V",
    ),
    (
        "repaired_probabilities",
        smoothed(total=lambda r, V, k: sum(r.values()) + k),
        "counts k once",
    ),
    (
        "repaired_probabilities",
        smoothed(total=lambda r, V, k: sum(r.values()) + V),
        "1 for each token",
    ),
    ("repaired_probabilities", divided_by_the_seen_sum, "division by 0"),
    ("repaired_probabilities", smoothed(pair=lambda n, k: n + 1), "sum to"),
    ("repaired_probabilities", unsmoothed, "nothing impossible"),
    ("repaired_probabilities", lambda r, V, k: smoothed()(r, V, max(k, 0.01)), "0.001 is added"),
    ("repaired_probabilities", floored, "seen or not, 1.0 is added"),
    ("repaired_probabilities", only_seen, "5 numbers are asked for"),
    ("repaired_probabilities", changes_the_row, "changed what it was given"),
    ("repaired_probabilities", lambda row, V, k: [1 / V] * V, "not 0.375"),
    ("repaired_probabilities", lambda row, V, k: {b: 1 / V for b in range(V)}, "a list"),
    ("choose_k", chosen(known=lambda ids, cut: ids), "among what was counted"),
    (
        "choose_k",
        chosen(known=lambda ids, cut: ids, kept=lambda ids, cut: ids),
        "among what was counted",
    ),
    ("choose_k", chosen(kept=lambda ids, cut: ids[:cut]), "smallest k always wins"),
    ("choose_k", chosen(kept=lambda ids, cut: ids), "judged on the last"),
    (
        "choose_k",
        chosen(known=lambda ids, cut: ids[cut:], kept=lambda ids, cut: ids[:cut]),
        "judged",
    ),
    ("choose_k", chosen(parts=2), "first nine tenths"),
    ("choose_k", without_k, "does your loss depend on k"),
    ("choose_k", stops_at_the_first_rise, "judged on the last"),
    ("choose_k", least_loss, "that is a loss"),
    ("choose_k", lambda *given: str(chosen()(*given)), "is text"),
    ("choose_k", lambda *given: given[2].index(chosen()(*given)), "not its place"),
    ("choose_k", lambda *given: (chosen()(*given), 0.3), "one number is asked for"),
    ("choose_k", chosen(best=max), "largest loss"),
    ("choose_k", lambda ids, vocab_size, candidates: min(candidates), "smallest k always wins"),
    ("choose_k", lambda ids, vocab_size, candidates: candidates[0], "stood first in the list"),
    ("choose_k", lambda ids, vocab_size, candidates: 0.5, "none of the candidates"),
    ("choose_k", lambda ids, vocab_size, candidates: candidates, "one number is asked for"),
    ("trigram_loss", trigram(row=lambda a, b: b), "that is a bigram"),
    ("trigram_loss", trigram(row=lambda a, b: a), "before the last"),
    ("trigram_loss", trigram(row=lambda a, b: frozenset((a, b))), "order"),
    ("trigram_loss", trigram(followed=False), "followed by nothing"),
    ("trigram_loss", trigram(mean=lambda total, n: -total), "not their mean"),
    ("trigram_loss", trigram(mean=lambda total, n: -total / (n + 2)), "first two"),
    ("trigram_loss", trigram(mean=lambda total, n: -total / (n + 1)), "runs of three"),
    ("trigram_loss", trigram(mean=lambda total, n: total / n), "minus the logarithm"),
    ("trigram_loss", trigram(mean=lambda total, n: math.exp(-total / n)), "perplexity"),
    ("trigram_loss", trigram(log=math.log2), "nats"),
    ("trigram_loss", trigram(skip=True), "cost log V"),
    ("trigram_loss", trigram_on_known, "the same text"),
    ("trigram_loss", bigram, "the loss of a bigram"),
    ("trigram_loss", trigram(added=lambda k, V: k), "once for each of the V tokens"),
    ("trigram_loss", trigram(added=lambda k, V: V), "it must be k V"),
    (
        "trigram_loss",
        lambda a, b, V, k: trigram()(a, b, len(set(a)), k),
        "different tokens in `known`",
    ),
    (
        "trigram_loss",
        lambda a, b, V, k: trigram()(a, b, len(set(b)), k),
        "different tokens in `new`",
    ),
    ("trigram_loss", lambda a, b, V, k: trigram()(a, b, V, 1.0), "not always 1"),
    ("trigram_loss", lambda a, b, V, k: trigram()(a, b, V, 0), "is k added"),
    ("trigram_loss", lambda a, b, V, k: trigram()(b, a, V, k), "judged on `known`"),
    ("trigram_loss", lambda a, b, V, k: trigram()(a + b, b, V, k), "would not be new"),
    ("trigram_loss", lambda a, b, V, k: math.nan, "you say nan"),
    ("epochs", epochs(share=lambda weight, weights: weight / 100), "no percentages"),
    ("epochs", epochs(share=lambda weight, weights: weight), "add up to"),
    ("epochs", epochs(share=lambda weight, weights: 1 / len(weights)), "taken as equal"),
    ("epochs", by_position, "the weight of another"),
    (
        "epochs",
        epochs(share=lambda weight, weights: 100 * weight / sum(weights.values())),
        "of 100",
    ),
    ("epochs", lambda t, w, read: epochs()(t, w, 1), "by the tokens read"),
    ("epochs", rounded, "Do not round"),
    ("epochs", divides_the_tokens_in_place, "changed what it was given"),
    ("epochs", divides_the_weights_in_place, "changed what it was given"),
    ("epochs", drops_what_is_never_read, "the names"),
    (
        "epochs",
        lambda tokens, weights, read: dict.fromkeys(tokens, read / sum(tokens.values())),
        "in proportion to size",
    ),
    ("epochs", lambda tokens, weights, read: list(tokens), "a dictionary"),
    ("epochs", lambda tokens, weights, read: {"web": 1.0}, "the names"),
    (
        "epochs",
        lambda tokens, weights, read: {
            name: weights[name] / sum(weights.values()) * read for name in tokens
        },
        "divide by the tokens that it has",
    ),
]


@pytest.mark.parametrize(("name", "answer", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong_answers_are_refused(name, answer, says):
    result = getattr(check, name)(answer)
    assert not result.ok and result.text.startswith("wrong: "), result.text
    assert says in result.text, result.text


def test_the_broken_function_of_the_exercise_is_refused():
    assert not check.repaired_probabilities(answers("solutions.ipynb")["broken_probabilities"]).ok


def test_other_right_answers_are_accepted():
    def divided_by_the_new_sum(row, vocab_size, k):
        counts = torch.full((vocab_size,), k, dtype=torch.float64)
        for b, count in row.items():
            counts[b] += count
        return counts / counts.sum()

    def by_a_loop(ids, vocab_size, candidates):
        cut, best = len(ids) * 9 // 10, None
        for k in candidates:
            loss = BigramModel(ids[:cut], vocab_size, k).loss(ids[cut:])
            if best is None or loss < best[0]:
                best = loss, k
        return best[1]

    assert check.four_probabilities(lambda: RIGHT).ok
    assert check.four_probabilities(lambda: [Fraction(3, 8), 0.4286, 0.1667, 0.2]).ok

    assert check.four_probabilities(lambda: torch.tensor(RIGHT)).ok
    assert check.repaired_probabilities(smoothed()).ok
    assert check.repaired_probabilities(divided_by_the_new_sum).ok
    assert check.choose_k(by_a_loop).ok and check.choose_k(chosen()).ok
    # the pair that joins the two parts may be judged, too
    assert check.choose_k(chosen(kept=lambda ids, cut: ids[cut - 1 :])).ok
    # as NumPy and PyTorch hand a number back
    assert check.choose_k(lambda *given: np.float64(chosen()(*given))).ok
    assert check.choose_k(lambda *given: torch.tensor(chosen()(*given))).ok
    assert check.trigram_loss(trigram()).ok
    assert check.trigram_loss(lambda *given: torch.tensor(trigram()(*given))).ok
    assert check.epochs(epochs()).ok


def test_exact_fractions_of_epochs_are_right():
    def answer(tokens, weights, read):
        total = sum(map(Fraction, weights.values()))
        return {n: Fraction(w) / total * Fraction(read) / tokens[n] for n, w in weights.items()}

    assert check.epochs(answer).ok
