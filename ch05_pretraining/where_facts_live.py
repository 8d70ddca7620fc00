"""Where a fact lives: in which block, and at which place of the sentence that asks for it.

    python ch05_pretraining/where_facts_live.py            # into where_facts_live.csv

Facts that the model knows (facts_asked.py) are measured in three ways, each of them in one wording:

known     the share of all facts for which the right one among four wins in every wording; control: the same of a
          wrong one. If that is as much, those that count as known are so by luck, and the rest of the table says nothing
lens      the right one among four, read after each block; control: in the same sentence about another subject
ablation  nats of the answer's margin that are lost when attention or feed-forward of a block gives its mean output;
          control: what the same costs on the story, in nats per token; the places between subject and end are one, too
exchange  nats that a place gives back, in the sentence about another subject, if it gets what it holds in the right
          sentence; control: all that there is to give back
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
from pathlib import Path

import experiment
import knowledge
import pandas as pd
import torch
import torch.nn.functional as F
import tracing
from facts_asked import Asked, answers, at_the_end, known, padded

from shared import editions

FAMILIES = {"facts", "categories", "antonym"}  # a rhyme is no fact about a subject


def row(measure: str, layer: int, part: str, place: str, values, control=None) -> dict:
    """A row of the table: the mean over facts, the margin of error of 95 %, the control."""
    values = torch.as_tensor(values, dtype=torch.float64)
    error = 1.96 * values.std() / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return {"measure": measure, "layer": layer, "part": part, "place": place, "facts": len(values),
            "value": float(values.mean()), "error": float(error), "control": control}  # fmt: skip


def lens_rows(model, prompts: list[Asked], others: list[Asked]) -> list[dict]:
    """The right one among four, read after each block at the subject's last token and at the last place."""
    groups = []
    for group in (prompts, others):
        ids, ends = padded(group)
        places = {"subject": torch.tensor([p.places[-1] for p in group]), "last": ends}
        groups.append((group, tracing.streams(model, ids), places))
    rows = []
    for layer in range(len(groups[0][1])):
        for place in ("subject", "last"):
            right, control = (answers(model, x[layer], group, places[place])[0].double()
                              for group, x, places in groups)  # fmt: skip
            rows.append(row("lens", layer, "", place, right, float(control.mean())))
    return rows


def places_of(prompts: list[Asked], ends: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Masks `(N, T)` of places; None: all of them."""
    masks = {name: torch.zeros(len(prompts), int(ends.max()) + 1, dtype=torch.bool)
             for name in ("subject", "between", "last")}  # fmt: skip
    for i, prompt in enumerate(prompts):
        masks["subject"][i, list(prompt.places)] = True
        masks["between"][i, list(prompt.between)] = True
        masks["last"][i, ends[i]] = True
    return masks | {"everywhere": None}


def ablation_rows(model, prompts: list[Asked], story: torch.Tensor) -> list[dict]:
    """How much of the margin each part carries, at which places; and what it carries of the story `(B, T + 1)`."""
    ids, ends = padded(prompts)
    where, mean = places_of(prompts, ends), tracing.means(model, story[:, :-1])

    def loss():
        logits = tracing.read(model, tracing.streams(model, story[:, :-1])[-1])
        return F.nll_loss(logits.flatten(0, 1), story[:, 1:].flatten()).item()

    whole, text, rows = at_the_end(model, prompts)[1], loss(), []
    for (layer, part), vector in mean.items():
        with tracing.replaced(model, layer, part, vector):
            cost = loss() - text
        for place, mask in where.items():
            with tracing.replaced(model, layer, part, vector, mask):
                margin = at_the_end(model, prompts)[1]
            control = cost if mask is None else None
            rows.append(row("ablation", layer + 1, part, place, whole - margin, control))
    return rows


def exchange_rows(model, prompts: list[Asked], others: list[Asked]) -> list[dict]:
    """What places give back, after each block."""
    found = []
    for prompt, other in zip(prompts, others):
        groups = [prompt.places, prompt.between, [len(prompt.ids) - 1]]
        found.append(tracing.given_back(model, prompt.ids, other.ids, prompt.words, groups))
    found = torch.stack(found)  # (N, L + 1, 3)
    whole = float(found[:, -1, -1].mean())
    return [
        row("exchange", layer, "", place, found[:, layer, i], whole)
        for layer in range(found.shape[1])
        for i, place in enumerate(("subject", "between", "last"))
    ]


def measure(subject: experiment.Subject, options) -> pd.DataFrame:
    """All rows of a model; ValueError if it knows no fact."""
    model, encoding = subject.model, subject.encoding
    facts = [fact for fact in knowledge.load_facts() if fact.family in FAMILIES]
    found, wins = known(model, encoding, facts, options.facts)
    luck = sum(win in (1, 2, 3) for win in wins) / 3 / len(wins)
    first = row("known", len(model.trf_blocks), "", "last", [win == 0 for win in wins], luck)
    if not found:
        raise ValueError(f"{subject.name} knows no fact in every wording")
    prompts, others = map(list, zip(*found))
    story = encoding.encode_ordinary(editions.STORY.read_text(encoding="utf-8"))
    width = subject.context + 1
    windows = torch.tensor(story[: len(story) // width * width]).view(-1, width)[:8]
    rows = [first] + lens_rows(model, prompts, others) + ablation_rows(model, prompts, windows)
    return pd.DataFrame(rows + exchange_rows(model, prompts, others))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--facts", type=int, default=100, help="at most (default: 100)")
    stored = Path(__file__).with_suffix(".csv")
    experiment.run(parser, arguments, measure, stored, first=False)


if __name__ == "__main__":
    main()
