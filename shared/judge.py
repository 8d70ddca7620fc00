"""A judge model behind an Ollama server: asked for scores of answers, where no rule can tell.

Chapter 7 shows by hand how such a question and its answer look.
"""

import re

from shared.files import fill_in
from shared.network import answers_in_time

JUDGE = "llama3.2"


def check_ollama(timeout: float = 0.8) -> list[str] | None:
    """Names of the models of the Ollama server at OLLAMA_HOST; None if there is no answer in time."""
    import ollama

    def ask():
        with ollama.Client(timeout=timeout, trust_env=False) as client:
            return [model.model for model in client.list().models]

    try:
        return answers_in_time(ask, timeout)
    except Exception:  # no answer, no server, no such address, or a server of another kind
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
        said = " ".join(error.error.split())[:200]
        if error.status_code == 404 and "model" in said:
            raise ValueError(f"the server has no {model} ({said}): ollama pull {model}") from None
        raise ValueError(
            f"the server could not answer, error {error.status_code}: {said}"
        ) from None
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


NUMBER = r"(?<![\w.,-])(\d+(?:\.\d+)?)(?![\w,]*\d|\w|\.\d)"
# no range, and no part of another scale
PLAIN = NUMBER + r"(?!\s*[-–]\s*\d|\W{0,4}(?:/|\bout of\b))"
# what may follow a mark, but not a count: "I would mark 2 words as wrong" names none
DONE = r"(?=\W{0,3}(?:points?\b|because\b|since\b|as\b|for\b|$)|\W{0,2}[.,;:!?)]|\W{0,2}\n)"
WAYS = (  # to name a score
    r"\b(?:score|rating|grade|overall|total)\b\W{0,6}(?:(?:is|of|would be)\b\W{0,6})?" + PLAIN,
    r"\b(?:give|rate|grade|mark|award|assign)\b[^.\d\n]{0,40}?" + PLAIN + DONE,
    r"\A\W*" + PLAIN + r"(?=\W{0,3}(?:because|since|points?)\b|\W{0,2}[,;:(]|\s[-–]\s)",
    r"\A\W*(0|\d{2,3})(?=\.\s+[A-Z])",  # "1. " may begin a list
    r"^\W*" + PLAIN + r"\W*$",
)


def parse_score(text: str) -> int | None:
    """The score, 0 to 100, that a judge's answer names; None if there is none, or more than one.

    It is called a score, or given out of 10 or 100, or stands first, or alone on its line: a number in prose may count
    anything. What a judge thinks aloud, within <think>, does not count. Examples: "85", "Score: 85/100", "I would say
    **8 out of 10**." (80), "85, since a word is wrong"; None: "It has 5 letters", "120", "70 or 80".
    """
    text = re.sub(r"(?s)<think>.*?(?:</think>|\Z)", "", text)
    text = re.sub(r"</?\w+>", "", text)
    shares = re.findall(
        NUMBER
        + r"\W{0,4}(?:/|\bout of\b)\W{0,4}(100?)\b(?!\s+(?!points?|because|since|for|as|and|but)[a-z])",
        text,
    )
    found = {float(share) * 100 / float(whole) for share, whole in shares}
    found |= {float(number) for way in WAYS[:-1] for number in re.findall(f"(?i){way}", text)}
    found = found or {float(number) for number in re.findall(f"(?m){WAYS[-1]}", text)}
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
