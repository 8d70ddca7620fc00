"""How good answers are: exact match by the rule of the data's card, ROUGE-L, a judge model; and how they are kept.

Chapter 7 shows each by hand first.
"""

import json
import queue
import re
from pathlib import Path
from threading import Thread

CASED = {"active_to_passive", "statement_to_question", "capitalisation"}
OPEN = {"describe", "explain"}  # no rule can tell whether such an answer is right
JUDGE = "llama3.2"

# --- right or wrong -------------------------------------------------------------------------------


def is_right(entry: dict, response: str) -> bool | None:
    """Whether a response is right by the rule in ch07_instruction/README.md; None where no rule can tell."""
    family, response = entry.get("family"), response.strip()
    if family in OPEN:
        return None
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


def bootstrap_interval(values, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the means of samples that are drawn from values, with replacement (Efron, 1979)."""
    import numpy as np

    values = np.asarray(values, dtype=float)
    chosen = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[chosen].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def scores_by_family(data: list[dict], responses: list[str]):
    """A DataFrame, a row for each family and one for "all": items, exact and rouge_l, each with _low and _high.

    Where no rule can tell right from wrong, `exact` is nan; "all" leaves those out. ValueError if the lengths differ.
    """
    import pandas as pd

    pairs = list(zip(data, responses, strict=True))
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


# --- kept in files --------------------------------------------------------------------------------


def save_json(path, data) -> None:
    """Write data to a JSON file: whole, or not at all."""
    text, unfinished = json.dumps(data, indent=1, ensure_ascii=False), Path(f"{path}.unfinished")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def fill_in(path, data: list[dict], key: str, compute, size: int = 64) -> list[dict]:
    """The entries with what `compute(entries) -> list` finds under `key`, saved to a file after every `size`.

    What the file already holds is not computed again. ValueError where it holds other entries.
    """

    def bare(entries):
        return [{name: value for name, value in entry.items() if name != key} for entry in entries]

    kept = []
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        same = bare(kept) == bare(data)[: len(kept)] and all(key in entry for entry in kept)
    except FileNotFoundError:
        same = True
    except (ValueError, AttributeError, TypeError):  # no JSON, or no list of objects
        same = False
    if not same:
        raise ValueError(f"{path} holds something else than these entries: delete it, or name another file")  # fmt: skip
    for start in range(len(kept), len(data), size):
        part = data[start : start + size]
        kept += [entry | {key: value} for entry, value in zip(part, compute(part), strict=True)]
        save_json(path, kept)
    return kept


# --- a judge --------------------------------------------------------------------------------------


def check_ollama(timeout: float = 0.8) -> list[str] | None:
    """Names of the models of the Ollama server at OLLAMA_HOST; None if there is no answer in time."""
    import ollama

    found = queue.Queue()

    def ask():
        try:  # in a thread: looking up a name has no time limit
            with ollama.Client(timeout=timeout, trust_env=False) as client:
                found.put([model.model for model in client.list().models])
        except Exception:  # no server, no such address, or a server of another kind
            found.put(None)

    Thread(target=ask, daemon=True).start()
    try:
        return found.get(timeout=timeout)
    except queue.Empty:
        return None


def query_model(prompt: str, model: str = JUDGE, timeout: float = 60.0) -> str:
    """The answer of a model of the Ollama server at OLLAMA_HOST, always the same one to one prompt.

    TimeoutError, ConnectionError (no server, or it broke off), ValueError (no such model, no Ollama).
    """
    import httpx
    import ollama

    options = {"seed": 123, "temperature": 0, "num_ctx": 2048, "num_predict": 256}
    messages = [{"role": "user", "content": prompt}]
    try:
        # trust_env: no proxy between a local server and us
        with ollama.Client(timeout=timeout, trust_env=False) as client:
            reply = client.chat(model=model, messages=messages, options=options)
        return reply.message.content or ""
    except httpx.TimeoutException:
        raise TimeoutError(
            f"{model} gave no answer within {timeout:g} seconds: ask again, or take a smaller model"
        ) from None
    except (ConnectionError, httpx.TransportError):
        raise ConnectionError(
            "no Ollama server answers, or it broke off: start it (ollama serve), or correct OLLAMA_HOST"
        ) from None
    except ollama.ResponseError as error:
        raise ValueError(f"{model} did not answer ({error.error}); ollama pull {model}?") from None
    except ValueError:  # neither JSON nor what Ollama sends
        raise ValueError("what answers at OLLAMA_HOST is no Ollama server: correct it") from None


def judge_prompt(entry: dict, response: str) -> str:
    """What a judge is asked about a response; its own tokenizer reads it, so plain words suffice."""
    given = f"Input: {entry['input']}\n" if entry.get("input") else ""
    return (
        f"An assistant was given a task.\nTask: {entry['instruction']}\n{given}"
        f"A correct answer: {entry['output']}\nThe assistant's answer: {response}\n"
        "How good is the assistant's answer, from 0 (useless) to 100 (as good as the correct one)? "
        "Reply with the number only."
    )


def parse_score(text: str) -> int | None:
    """The score, 0 to 100, that a judge's answer names; None if there is none, or more than one.

    It is called a score, or given out of 10 or 100, or stands alone on its line: a number in prose may count anything.
    Examples: "85", "Score: 85/100", "I would say **8 out of 10**." (80); None: "It has 5 letters", "120", "70 or 80".
    """
    text = re.sub(r"</?\w+>", "", text)
    number = r"(?<![\w.,-])(\d+(?:\.\d+)?)(?![\w,]|\.\d)"
    # no range, no part of another scale
    plain = number + r"(?!\s*[-–]\s*\d|\W{0,4}(?:/|\bout of\b))"
    shares = re.findall(number + r"\W{0,4}(?:/|\bout of\b)\W{0,4}(100?)\b", text)
    named = re.findall(
        r"(?i)\b(?:score|rating)\b\W{0,6}(?:(?:is|of|would be)\b\W{0,6})?" + plain, text
    )
    named = named or re.findall(r"(?m)^\W*" + plain + r"\W*$", text)
    found = {float(share) * 100 / float(whole) for share, whole in shares} or set(map(float, named))
    score = found.pop() if len(found) == 1 else -1
    return round(score) if 1 <= score <= 100 or score == 0 else None


def generate_model_scores(
    json_data: list[dict], json_key: str, model: str = JUDGE, path=None
) -> list[int | None]:
    """A judge's scores, 0 to 100, of the answers under json_key; None where it named none. Errors: query_model's.

    With `path` each is saved as soon as it is there, and a run that was cut off goes on where it stopped.
    """

    def judge(entries):
        prompts = [judge_prompt(entry, entry[json_key]) for entry in entries]
        return [parse_score(query_model(prompt, model)) for prompt in prompts]

    if path is None:
        return judge(json_data)
    return [entry["score"] for entry in fill_in(path, json_data, "score", judge, size=1)]
