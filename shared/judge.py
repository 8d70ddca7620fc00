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
