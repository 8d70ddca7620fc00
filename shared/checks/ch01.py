"""Checks for the exercises of chapter 1: `from shared.checks import ch01 as check`."""

import functools
import math
import random
from collections import Counter
from itertools import pairwise

from shared.checks import Verdict, exercise, require

ASKED = ("P(wind | the)", "P(the | and)", "P(rain | wind)", "P(sun | sun)")
# of eight words, five in the vocabulary: n(ab), n(a), how often a occurs, how often b does, and P(a | b)
COUNTS = (
    (2, 3, 3, 2, 1 / 6),
    (2, 2, 2, 3, 1 / 8),
    (0, 1, 2, 1, 1 / 6),
    (0, 0, 0, 0, 1 / 5),
)
GPT3 = {"web": 410, "links": 19, "books 1": 12, "books 2": 55, "wiki": 3}, (60, 22, 8, 8, 3)


def _near(got, want):
    return math.isclose(float(got), want, rel_tol=1e-3, abs_tol=1e-9)


def _hint(got, mistakes, otherwise=""):
    """The name of the first mistake that gives this number."""
    return next((text for text, wrong in mistakes.items() if _near(got, wrong)), otherwise)


def _numbers(values, count, what):
    """The answer as floats; AssertionError unless it is a row of so many numbers."""
    require(
        not isinstance(values, str | dict) and hasattr(values, "__len__"),
        f"{what}: a list is asked for, not {values!r}",
    )
    require(len(values) == count, f"{what}: {count} numbers are asked for, not {len(values)}")
    for value in values:
        require(
            not isinstance(value, str),
            f"{what}: {value!r} is text; write numbers without quotation marks",
        )
    return [float(value) for value in values]


@exercise(guess=lambda answer: ASKED[max(range(4), key=lambda i: float(answer()[i]))])
def four_probabilities(answer):
    """`answer() -> [P(wind | the), P(the | and), P(rain | wind), P(sun | sun)]` with k = 1 and V = 5."""
    got = _numbers(answer(), 4, "the answer")
    rights = [(pair + 1) / (followed + 5) for pair, followed, *_ in COUNTS]
    wrong = [not _near(value, right) for value, right in zip(got, rights)]
    require(
        not any(wrong) or not all(map(_near, sorted(got), sorted(rights))),
        f"these are the four numbers, but their order is {', '.join(ASKED)}",
    )
    mistakes = []  # for each of the four, the number that a mistake gives
    for (pair, followed, occurs, other, turned), right in zip(COUNTS, rights):
        one = {
            "V is 5: sun belongs to the vocabulary, too": (pair + 1) / (followed + 4),
            "that is without smoothing, and k is 1": pair / followed if followed else 0.0,
            "k is added to the pair, and not to the sum of the row": (pair + 1) / max(followed, 1),
            "k is added to the sum of the row once, not once for each word": (pair + 1)
            / (followed + 1),
            "k is added to the sum of the row, and not to the pair": pair / (followed + 5),
            "that is the share among all pairs, not among those that begin with the first word": pair
            / 7,
            "n(a) is the sum of one row, not the length of the text": (pair + 1) / (8 + 5),
            "the last word of the text is followed by nothing: it occurs more often than it is followed": (
                pair + 1
            )
            / (occurs + 5),
            "the word behind the bar comes first in the text: P(b | a) is how likely b is after a": turned,
            "the other way round: divide by the row of the word behind the bar": (pair + 1)
            / (other + 5),
            "a probability is a part of 1, not of 100": 100 * right,
            "that is the share of the pair among all eight words, without smoothing": pair / 8,
        }
        mistakes.append(one)
    explained = {  # the places that a mistake explains: the one that explains most is told
        text: [i for i in range(4) if wrong[i] and _near(got[i], mistakes[i][text])]
        for text in mistakes[0]
    }
    why = max(explained, key=lambda text: len(explained[text]))
    i = (explained[why] or [i for i in range(4) if wrong[i]] or [None])[0]
    if i is not None and not explained[why]:
        after = ASKED[i].split()[-1].rstrip(")")
        near = abs(got[i] - rights[i]) < 0.006
        why = f"count the row again, all words that follow *{after}* in the text"
        why = "rounded too much; write a fraction, such as 1 / 2" if near else why
    require(i is None, i is not None and f"{ASKED[i]} is not {got[i]:.4g}: {why}")
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
        n = sum(row.values())
        case = f"row {row}, V = {V}, k = {k}"
        try:
            got = _numbers(answer(row, V, k), V, case)
        except ZeroDivisionError:
            raise Verdict(
                f"{case}: division by 0; with k, even an empty row has a total above 0"
            ) from None
        mistakes = {
            "the total counts k for the tokens of the row only, not for all V": n + k * len(row),
            "the total counts k once, not once for each of the V tokens": n + k,
            "the total lacks k, once for each of the V tokens": n,
            "the total counts 1 for each token, not k": n + V,
        }
        sums = {text: (n + k * V) / total for text, total in mistakes.items() if total}
        why = _hint(math.fsum(got), sums, "the total must be the sum of what is divided by it")
        require(
            math.isclose(math.fsum(got), 1, abs_tol=1e-6),
            f"{case}: the probabilities sum to {math.fsum(got):.4g}, not to 1: {why}",
        )
        require(min(got) > 0, f"{case}: one is {min(got):.4g}; smoothing leaves nothing impossible")
        for b, value in enumerate(got):
            right = (row.get(b, 0) + k) / (n + k * V)
            require(
                _near(value, right),
                f"{case}: the probability of {b} is {value:.4g}, not {right:.4g}: to the count of each "
                f"of the {V} tokens, seen or not, {k} is added",
            )
    return "every row sums to 1, the empty one too, and k is added to the count of each token"


def _texts():
    """Texts, as IDs, for which different k are best: with a rule, with a weak one, and with none."""
    texts = []
    for seed, noise in ((1, 0.02), (2, 0.4), (3, 1.0)):
        draw, ids = random.Random(seed), [0]
        for _ in range(599):
            ids.append(draw.randrange(30) if draw.random() < noise else (ids[-1] * 7 + 3) % 30)
        texts.append(ids)
    return texts


def _candidate(k, losses):
    """The candidate that was returned, as a float; AssertionError for anything else."""
    try:
        require(not isinstance(k, str), f"{k!r} is text; a number is asked for")
        got = float(k)
    except (TypeError, ValueError):
        raise Verdict(f"one number is asked for, a candidate, not {k!r}") from None
    for one in losses:
        if math.isclose(got, one, rel_tol=1e-6):
            return one
    hint = ""
    if any(math.isclose(got, loss, rel_tol=1e-6) for loss in losses.values()):
        hint = "; that is a loss, and the k that has it is asked for"
    elif got in range(len(losses)):
        hint = "; not its place in the list, but k itself is asked for"
    raise Verdict(f"{got:g} is none of the candidates{hint}")


@exercise
def choose_k(answer):
    """`answer(ids, vocab_size, candidates) -> k`, judged on the last tenth, which was not counted."""
    from shared.intro import BigramModel

    # in no order, so that neither the first nor a search that stops early is right by chance
    orders = [0.01, 10.0, 1e-4, 1.0, 1e-3, 0.1], [1.0, 1e-3, 10.0, 0.1, 1e-4, 0.01]
    for ids in _texts():
        cut = len(ids) * 9 // 10
        losses = {k: BigramModel(ids[:cut], 30, k).loss(ids[cut:]) for k in orders[0]}
        best = min(losses, key=losses.get)
        ks = [_candidate(answer(list(ids), 30, list(order)), losses) for order in orders]
        own = {k: BigramModel(ids[:cut], 30, k).loss(ids[:cut]) for k in losses}
        hints = {
            max(losses, key=losses.get): ". That has the largest loss; the least is asked for",
            min(
                own, key=own.get
            ): ". The smallest k always wins if the text that judges is among what was counted",
        }
        if ks[0] != ks[1]:
            told = ". In another order of the candidates it is another: is each loss looked up with its own k?"
            hints = dict.fromkeys(ks, told)
        if ks == [order[0] for order in orders]:
            hints = dict.fromkeys(ks, ". It stood first in the list: does your loss depend on k?")
        for k in ks:
            require(
                k == best,
                f"counted in the first nine tenths, judged on the last, k = {k:g} has loss "
                f"{losses[k]:.4g}, and k = {best:g} has {losses[best]:.4g}{hints.get(k, '')}",
            )
    return "the k with the least loss on text that was not counted; other texts, other k"


def _trigram(known, new, V, k, row=lambda a, b: (a, b), followed=True, added=None):
    """The loss of a trigram, or of one that makes a mistake: another row, a pair counted wherever it stands,
    or something else than k V `added` to the sum of the row.
    """
    counts = Counter((row(a, b), c) for a, b, c in zip(known, known[1:], known[2:]))
    sums = Counter(row(a, b) for a, b in pairwise(known[:-1] if followed else known))
    logs = [
        math.log(
            (counts[row(a, b), c] + k) / (sums[row(a, b)] + (k * V if added is None else added))
        )
        for a, b, c in zip(new, new[1:], new[2:])
    ]
    return -sum(logs) / len(logs)


@exercise
def trigram_loss(answer):
    """`answer(known, new, vocab_size, k) -> nats per token` of a model that looks two tokens back."""
    from shared import editions, encodings
    from shared.intro import BigramModel

    draw = random.Random(5)
    for length, k in ((40, 1.0), (150, 0.1), (60, 0.5)):
        known = [draw.randrange(4) for _ in range(length)] + [3, 3]
        new = [draw.randrange(5) for _ in range(length)]
        try:
            got = float(answer(list(known), list(new), 6, k))
        except ValueError as error:
            require("math domain" not in str(error), "the logarithm of 0: is k added to n(abc)?")
            raise
        right = _trigram(known, new, 6, k)
        if math.isclose(got, right, rel_tol=1e-6):
            continue
        runs, pairs = len(new) - 2, set(pairwise(known[:-1]))
        seen = [run for run in zip(new, new[1:], new[2:]) if run[:2] in pairs]
        skipped = sum(_trigram(known, run, 6, k) for run in seen) / len(seen)
        other = functools.partial(_trigram, known, new, 6, k)
        mistakes = {
            "that is the loss of a bigram": BigramModel(known, 6, k).loss(new),
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
            "k is added to the sum of the row once; it must be once for each of the V tokens": other(
                added=k
            ),
            "V is added to the sum of the row; it must be k V": other(added=6),
            "V is the number given, not that of the different tokens in `known`": other(
                added=k * len(set(known))
            ),
            "V is the number given, not that of the different tokens in `new`": other(
                added=k * len(set(new))
            ),
            "k is the number given, not always 1": _trigram(known, new, 6, 1.0),
            "counted in `new`, and judged on `known`": _trigram(new, known, 6, k),
            "`new` must not be counted; it would not be new": _trigram(known + new, new, 6, k),
            "counted and judged on the same text": _trigram(known, known, 6, k),
        }
        why = [text for text, wrong in mistakes.items() if math.isclose(got, wrong, rel_tol=1e-6)]
        raise Verdict(
            f"a text of {length} tokens, k = {k}: the loss is {right:.4f}, and you say {got:.4f}"
            + (f". {why[0]}" if why else "")
        )
    ids, V = encodings.tokenizer().encode(editions.text()), encodings.tokenizer().n_vocab
    known, new, ks = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :], (0.0003, 0.003, 0.03)
    two = min(answer(known, new, V, k) for k in ks)
    one = min(BigramModel(known, V, k).loss(new) for k in ks)
    return f"and on the story, at the best k of three: trigram {two:.2f}, bigram {one:.2f}"


@exercise
def epochs(answer):
    """`answer({name: tokens}, {name: weight}, read) -> {name: epochs}`, whatever the weights sum to."""
    tokens, printed = GPT3
    cases = [
        ({"a": 10, "b": 30}, {"a": 1.0, "b": 3.0}, 80),
        # other orders, a dataset read more than once
        ({"b": 5, "a": 20}, {"a": 0.2, "b": 0.6}, 10),
        ({"only": 7}, {"only": 60}, 3.5),
        ({"a": 10, "b": 30}, {"a": 1, "b": 0}, 5),  # one that is never read
        (tokens, dict(zip(tokens, printed)), 300),
    ]
    for sizes, weights, read in cases:
        got = answer(dict(sizes), dict(weights), read)
        require(isinstance(got, dict), f"a dictionary is asked for, not {type(got).__name__}")
        require(
            set(got) == set(sizes),
            f"the names must be {sorted(sizes)}, with 0 for what is never read; these are {sorted(got)}",
        )
        got = {name: float(value) for name, value in got.items()}
        found = sum(got[name] * sizes[name] for name in sizes)
        case = f"tokens {sizes}, weights {weights}, {read} read"
        total = sum(weights.values())
        if not math.isclose(found, read, rel_tol=1e-6):
            shares = {name: weights[name] / total * read for name in sizes}
            mistakes = {
                ". These weights are no percentages of 100: divide by their sum": read
                * total
                / 100,
                ". A weight is no share until it is divided by the sum of the weights": read
                * total,
                ". A share is a part of 1, not of 100": 100 * read,
                ". These are the tokens read from each; divide by the tokens that it has": sum(
                    shares[name] * sizes[name] for name in sizes
                ),
                ". Multiply the shares by the tokens read": 1,
            }
            rounded = all(abs(got[name] - shares[name] / sizes[name]) < 0.006 for name in sizes)
            raise Verdict(
                f"{case}: tokens times epochs add up to {found:.4g}, not to the {read} that were read"
                + (". Do not round" if rounded else _hint(found, mistakes))
            )
        for name in sizes:
            mistakes = {
                ": that is what drawing in proportion to size would give, without weights": read
                / sum(sizes.values()),
                ": all weights are taken as equal": read / len(sizes) / sizes[name],
                ": that is the weight of another; look it up by its name": dict(
                    zip(sizes, weights.values())
                )[name]
                / total
                * read
                / sizes[name],
            }
            right = weights[name] / total * read / sizes[name]
            require(
                _near(got[name], right),
                f"{case}: {name} is read {right:.4g} times, not {got[name]:.4g}{_hint(got[name], mistakes)}",
            )
    return "all that was read comes from some dataset, whatever the weights sum to"
