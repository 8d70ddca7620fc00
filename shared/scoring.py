"""How good answers are: exact match by the rule of the data's card, ROUGE-L, and intervals.

Chapter 7 shows each by hand first.
"""

import re

import torch

from shared.guards import evaluation_mode
from shared.pretraining import bits_per_byte, calc_loss_batch

CASED = {"active_to_passive", "statement_to_question", "capitalisation"}
OPEN = {"describe", "explain", "talk", "look_alike"}  # no rule can tell whether an answer is right
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


def scores_by_family(data: list[dict], responses: list[str]):
    """A DataFrame, a row for each family and one for "all": items, exact and rouge_l, each with _low and _high.

    Where no rule can tell right from wrong, `exact` is nan; "all" leaves those out. ValueError if the lengths differ.
    """
    import pandas as pd

    if len(data) != len(responses):
        raise ValueError(f"{len(data)} entries, but {len(responses)} responses")
    pairs = list(zip(data, responses))
    table = pd.DataFrame({"family": [entry["family"] for entry in data]})
    table["exact"] = pd.Series([is_right(*pair) for pair in pairs], dtype=float)
    table["rouge_l"] = [rouge_l(*pair) for pair in pairs]
    rows = {}
    for family, part in [*table.groupby("family", sort=False), ("all", table)]:
        rows[family] = {"items": len(part)}
        for score in ("exact", "rouge_l"):
            known = part[score].dropna()
            low, high = bootstrap_interval(known) if len(known) else (float("nan"),) * 2
            rows[family] |= {score: known.mean(), f"{score}_low": low, f"{score}_high": high}
    return pd.DataFrame.from_dict(rows, orient="index")
