"""What a model knows: facts asked for by completion, the right one against three that are right elsewhere.

    python ch05_pretraining/probe.py --model RUN --tokenizer ch02_text_data/course_tokenizer_2.txt

Each probe is the start of a sentence in a wording that no training text contains. Its four completions are answers
of the same relation, of about as many tokens; a model that knows nothing gets one in four right. The facts that
were left out of all training are the control: they must stay at chance.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import knowledge
import pandas as pd
import safetensors.torch
import torch
import torch.nn.functional as F
from knowledge import Fact

from shared import encodings, files, models
from shared.gpt_model import GPTModel
from shared.guards import evaluation_mode


def wrong_answers(fact: Fact, facts: Iterable[Fact], encoding, rng: random.Random) -> list[str]:
    """Three answers of other facts of the relation, of as many tokens as the right one where there are such."""
    right = {fact.subject, fact.answer, *fact.others}
    others = {f.answer for f in facts if f.relation == fact.relation} - right
    size = len(encoding.encode_ordinary(f" {fact.answer}"))
    order = {word: rng.random() for word in sorted(others)}
    nearest = sorted(
        order, key=lambda w: (abs(len(encoding.encode_ordinary(f" {w}")) - size), order[w])
    )
    return nearest[:3]


@torch.inference_mode()
def log_probabilities(model, prompts: list[list[int]], ends: list[list[int]]) -> torch.Tensor:
    """The log-probability of each end after its prompt, summed over its tokens: `(B,)`."""
    rows = [prompt + end for prompt, end in zip(prompts, ends)]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])  # (B, T), padded right
    weight = next(model.parameters(), None)
    ids = ids if weight is None else ids.to(weight.device)
    found = F.log_softmax(model(ids[:, :-1]), dim=-1)  # (B, T - 1, V)
    found = found.gather(-1, ids[:, 1:, None])[..., 0]  # (B, T - 1)
    return torch.stack(
        [found[i, len(p) - 1 : len(p) - 1 + len(e)].sum() for i, (p, e) in enumerate(zip(prompts, ends))]
    )  # fmt: skip


def asked(model, encoding, facts: Iterable[Fact], among=None, seed: int = 123) -> pd.DataFrame:
    """A row for each probe of each fact: whether the right answer wins, by the sum and by the mean over tokens.

    The wrong ones are answers of `among` (default: of these facts).
    """
    facts = list(facts)
    rows = []
    with evaluation_mode(model):
        for fact in facts:
            rng = random.Random(f"probe {seed} {fact}")
            words = [fact.answer, *wrong_answers(fact, among or facts, encoding, rng)]
            rng.shuffle(words)  # the first of equals wins
            right = words.index(fact.answer)
            ends = [encoding.encode_ordinary(f" {word}") for word in words]
            for number, (prompt, _) in enumerate(knowledge.probes(fact)):
                start = [encoding.eot_token, *encoding.encode_ordinary(prompt)]
                sums = log_probabilities(model, [start] * len(ends), ends)
                means = sums / sums.new_tensor([len(end) for end in ends])
                by_sum, by_mean = (int(found.argmax() == right) for found in (sums, means))
                rows.append(
                    {"family": fact.family, "relation": fact.relation, "subject": fact.subject}
                    | {"answer": fact.answer, "probe": number, "choices": len(ends)}
                    | {"by_sum": by_sum, "by_mean": by_mean}
                )
    return pd.DataFrame(rows)


def left_out() -> list[Fact]:
    """The control: facts that occur in no training text."""
    return [Fact(name, "left out", *row) for name, *row in knowledge.reserved_items()["left_out"]]


def reserved_questions() -> list[Fact]:
    """Facts that are stated in pretraining, and about which no training text ever asks."""
    return [fact for fact in knowledge.load_facts() if knowledge.reserved(fact)]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Right answers by family: facts, probes, shares and a 95 % interval from the means of facts."""
    facts = table.groupby(["family", "relation", "subject"])[["by_sum", "by_mean"]].mean()
    groups = facts.groupby("family")
    error = 1.96 * groups.by_mean.std() / groups.by_mean.count() ** 0.5
    found = pd.DataFrame({"facts": groups.by_mean.count(), "by_sum": groups.by_sum.mean()})
    mean = groups.by_mean.mean()
    return found.assign(by_mean=mean, low=mean - error, high=mean + error).round(3)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="folder with config.json")
    parser.add_argument("--tokenizer", type=Path, default=encodings.COURSE_TOKENIZER)
    parser.add_argument("--out", type=Path, help="write each probe to this CSV file")
    options = parser.parse_args(arguments)
    try:
        cfg = json.loads((options.model / files.CONFIG).read_text(encoding="utf-8"))
        cfg = encodings.check_tokenizer(cfg, options.model, options.tokenizer)
        weights = safetensors.torch.load_file(options.model / files.WEIGHTS)
        model = models.filled(GPTModel(cfg), weights, options.model)
    except (ValueError, OSError) as error:
        sys.exit(f"probe: {error}")
    encoding, control = encodings.load_encoding(options.tokenizer), left_out()
    table = pd.concat(
        [
            asked(model, encoding, reserved_questions(), among=knowledge.load_facts()),
            asked(model, encoding, control),  # against one another: none of them was ever read
        ]
    )
    if options.out:
        table.to_csv(options.out, index=False, lineterminator="\n")
    print(summary(table).to_string())
    print(dict(Counter(table.choices)))


if __name__ == "__main__":
    main()
