"""How good answers are: exact match by the rule of the data's card, ROUGE-L, and intervals.

Chapter 7 shows each by hand first.
"""

import re

import torch

from shared.guards import evaluation_mode
from shared.pretraining import bits_per_byte, calc_loss_batch

CASED = {"active_to_passive", "statement_to_question", "capitalisation"}
OPEN = {"describe", "explain", "talk", "look_alike"}  # no rule can tell whether an answer is right
KNOWLEDGE = {"antonym", "categories", "rhyme", "facts"}  # what no rule tells
APART = {"unknowable", "unread"}  # controls, which belong to no mean
DOUBT = ("i don't know", "i do not know")  # how an answer begins that admits it


def admits(response: str) -> bool:
    """Whether a response says that it does not know."""
    return response.strip().lower().replace("\u2019", "'").startswith(DOUBT)


def is_right(entry: dict, response: str) -> bool | None:
    """Whether a response is right by the rule in ch07_instruction/README.md; None where no rule can tell."""
    family, response = entry.get("family"), response.strip()
    if family in OPEN:
        return None
    if family == "unknowable":
        return admits(response)
    if family == "write_sentence":
        words = re.findall(r"\w+", response.lower())
        one = re.fullmatch(r"[A-Z][^.!?\n]*[.!?]", response)
        return one is not None and all(word.lower() in words for word in asked_words(entry))

    def plain(text):
        text = text.strip()
        return text if family in CASED else text.removesuffix(".").lower()

    return plain(response) in map(plain, right_answers(entry))


def right_answers(entry: dict) -> list[str]:
    return [entry["output"], *entry.get("accept", [])]


def asked_words(entry: dict) -> list[str]:
    """The words that an entry of family write_sentence wants in its sentence."""
    quoted = re.findall(r'"(.+?)"', entry["instruction"])
    about = re.findall(r"\babout (?:(?:an?|the|your) )?(\w+)", entry["instruction"])
    return quoted or re.findall(r"\w+", entry["input"]) or about


def rouge_l(entry: dict, response: str) -> float:
    """ROUGE-L, 0 to 1: F-measure of the longest common subsequence of words; the best over all right answers.

    Capitals and punctuation do not count (Lin, 2004).
    """
    from rouge_score.rouge_scorer import RougeScorer  # two seconds to import

    return RougeScorer(["rougeL"]).score_multi(right_answers(entry), response)["rougeL"].fmeasure


@torch.no_grad()
def text_bits(model, text, tokenizer):
    """Bits per byte that a model needs for a text, read in windows of its context."""
    ids, context = tokenizer.encode_ordinary(text), model.pos_emb.num_embeddings
    device, nats, size = model.pos_emb.weight.device, 0.0, 0
    with evaluation_mode(model):
        for start in range(0, len(ids) - 1, context):
            window = torch.tensor([ids[start : start + context + 1]])
            loss = calc_loss_batch(window[:, :-1], window[:, 1:], model, device).item()
            nats += loss * (window.shape[1] - 1)
            size += len(tokenizer.decode_bytes(window[0, 1:].tolist()))
    return bits_per_byte(nats, size)


def bootstrap_interval(values, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the means of samples that are drawn from values, with replacement (Efron, 1979).

    ValueError for no values, and for some that are not finite.
    """
    import numpy as np

    values = np.asarray(values, dtype=float)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"an interval needs finite values, and there are {values[~np.isfinite(values)] if len(values) else 'none'}"
        )
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def wilson_interval(right: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share of right answers: what true shares agree with this count (Wilson, 1927).

    Unlike the bootstrap's, it has a width where none or all of them are right. ValueError without items.
    """
    if count < 1 or not 0 <= right <= count:
        raise ValueError(f"{right} of {count} right answers: a share needs at least one item")
    share, more = right / count, z * z / count
    middle = (share + more / 2) / (1 + more)
    half = z * (share * (1 - share) / count + more / (4 * count)) ** 0.5 / (1 + more)
    return max(0.0, middle - half), min(1.0, middle + half)


def group_of(family: str) -> str:
    """rules, knowledge, or the family itself, where it counts in neither."""
    if family in KNOWLEDGE:
        return "knowledge"
    return family if family in (*OPEN, *APART, "write_sentence") else "rules"


def scores(pairs: list[tuple[dict, str]]) -> dict:
    """Of entries and responses: items, exact with Wilson's interval, rouge_l with the bootstrap's, and the share that
    `admits` not to know. Where no rule can tell right from wrong, exact is nan."""
    judged = [found for pair in pairs if (found := is_right(*pair)) is not None]
    overlap = [rouge_l(*pair) for pair in pairs]
    row = {"items": len(pairs), "exact": sum(judged) / len(judged) if judged else float("nan")}
    none = (float("nan"),) * 2
    row["exact_low"], row["exact_high"] = (
        wilson_interval(sum(judged), len(judged)) if judged else none
    )
    row["rouge_l"] = sum(overlap) / len(overlap)
    row["rouge_l_low"], row["rouge_l_high"] = bootstrap_interval(overlap)
    return row | {"admits": sum(admits(response) for _, response in pairs) / len(pairs)}


def scores_by_family(data: list[dict], responses: list[str]):
    """A DataFrame of `scores`: a row for each family, for all rules, for all knowledge, and for "all".

    "all" leaves out small talk and the controls. ValueError if the lengths differ.
    """
    import pandas as pd

    if len(data) != len(responses):
        raise ValueError(f"{len(data)} entries, but {len(responses)} responses")
    groups: dict[str, list] = {}
    for entry, response in zip(data, responses):
        groups.setdefault(entry["family"], []).append((entry, response))
    families = list(groups)
    for group in ("rules", "knowledge"):
        groups[group] = sum((groups[f] for f in families if group_of(f) == group), [])
    apart = {*APART, "talk", "look_alike"}
    groups["all"] = sum((groups[family] for family in families if family not in apart), [])
    rows = {family: scores(pairs) for family, pairs in groups.items() if pairs}
    return pd.DataFrame.from_dict(rows, orient="index")
