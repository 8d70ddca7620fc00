"""What each part of the recipe brings, on all test items, into compare.csv; and the assistant's answers, into answers.csv.

    python ch07_instruction/compare_assistants.py
    python ch07_instruction/compare_assistants.py --only assistant_gpt

Each setting is trained and tested in turn, and its rows are written when it is done. The same command goes on
where it was stopped, and does anew what was made of other weights or other items.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import make_assistant
import pandas as pd
import torch

from shared import editions, encodings, files, instruction, models, program
from shared.assets import AssetError
from shared.files import landing, seal
from shared.gpt_model import GPTModel
from shared.pretraining import initialize
from shared.scoring import group_of, scores_by_family, text_bits

HERE = Path(__file__).resolve().parent

# what chapter 7's notebook does live: so many steps, and looks on the way
SHORT = {"items": 120 * 32, "epochs": 1, "batch": 32, "peak": 1.5e-3, "optimizer": "muon"}
SHORT |= {"rehearse": 1.0, "rows": 2, "texts": 128}
LOOKS = (20, 60)


class Setting(NamedTuple):
    """How a model is made: trained from `folder` by `recipe`, or not at all (None)."""

    folder: Path = models.COURSE_GPT
    recipe: dict | None = None
    seeds: tuple[int, ...] = (0,)
    tokenizer: Path = encodings.COURSE_TOKENIZER
    prompt: str = "short_prompt"


SEEDS = (1, 2, 3)
SETTINGS = {
    "most frequent answer": Setting(),
    "input copied": Setting(),
    "before": Setting(),
    "short": Setting(recipe=SHORT, seeds=SEEDS),
    "short, no rehearsal": Setting(recipe=SHORT | {"rehearse": 0.0}, seeds=SEEDS),
    "short, Alpaca's prompt": Setting(recipe=SHORT, seeds=SEEDS, prompt="format_prompt"),
    "short, all tokens trained": Setting(recipe=SHORT | {"keep_tokens": False}, seeds=SEEDS),
    "short, loss on everything": Setting(recipe=SHORT | {"answers_only": False}, seeds=SEEDS),
    "short, from random weights": Setting(
        recipe=SHORT | {"random": True, "keep_tokens": False, "rehearse": 0.0}, seeds=SEEDS
    ),
    "first assistant": Setting(
        models.FIRST_ASSISTANT, tokenizer=encodings.FIRST_TOKENIZER, prompt="first_prompt"
    ),
    "assistant_gpt": Setting(models.ASSISTANT_GPT),
}


def first_prompt(entry: dict) -> str:
    """The prompt of the first assistant, which knew no turns."""
    given = f"\n### Input: {entry['input']}" if entry.get("input") else ""
    return f"### Instruction: {entry['instruction']}{given}\n### Response:"


def prompt_of(name: str):
    """The function that writes a setting's prompts."""
    prompt = SETTINGS[name].prompt
    return first_prompt if prompt == "first_prompt" else getattr(instruction, prompt)


def made_of(name: str, entries: list[dict]) -> dict[str, str]:
    """Checksums of what a setting's figures depend on, and versions."""
    setting = SETTINGS[name]
    content = json.dumps([setting.recipe, setting.prompt, entries]).encode()
    return {
        "weights": files.sha256(setting.folder / files.WEIGHTS)[:12],
        "recipe_and_items": files.sha256(content)[:12],
        "torch": torch.__version__,
    }


def part(entries: list[dict], split: str) -> list[dict]:
    return [entry for entry in entries if entry["split"] == split]


def baseline(name: str, entries: list[dict], test: list[dict]) -> list[str]:
    """Answers that need no model: the commonest of each family in training, or the input as it stands."""
    if name == "input copied":
        return [entry["input"] for entry in test]
    counts: dict[str, Counter] = {}
    for entry in part(entries, "train"):
        counts.setdefault(entry["family"], Counter())[entry["output"]] += 1
    common = {family: found.most_common(1)[0][0] for family, found in counts.items()}
    return [common.get(entry["family"], "") for entry in test]


def trained(name: str, seed: int, entries: list[dict], tokenizer, look=None):
    """The model of a setting, ready to be tested. `look(model, step)` sees it on the way."""
    setting = SETTINGS[name]
    model, cfg = models.load_model(setting.folder, setting.tokenizer)
    if setting.recipe is None:
        return model
    torch.manual_seed(seed)
    more = {"answers_only": True, "random": False, "keep_tokens": True, "looks": LOOKS}
    run = SimpleNamespace(**more | setting.recipe, prompt=prompt_of(name))
    if run.random:
        model = GPTModel(cfg)
        initialize(model)
    training = part(entries, "train")[: run.items]
    make_assistant.train(model, training + part(entries, "validation"), tokenizer, run, look=look)
    return model


def rows_of(test: list[dict], responses: list[str], bits: float, fine: bool) -> pd.DataFrame:
    """Scores by family, and of the groups by wording; with `fine` of each family by wording, too."""
    found = []
    for wording in ("both", "known", "reserved"):
        kept = [
            (entry, response)
            for entry, response in zip(test, responses)
            if wording in ("both", entry["wording"]) and (wording == "both" or group_of(entry["family"]) in ("rules", "knowledge"))
        ]  # fmt: skip
        table = scores_by_family([entry for entry, _ in kept], [response for _, response in kept])
        if wording != "both" and not fine:
            table = table.loc[[name for name in ("rules", "knowledge") if name in table.index]]
        table = table.drop(index="all", errors="ignore") if wording != "both" else table
        found.append(table.rename_axis("family").reset_index().assign(wording=wording))
    return pd.concat(found).round(4).assign(bits=round(bits, 4))


def tested(name: str, seed: int, entries: list[dict], answers: Path | None) -> pd.DataFrame:
    """The rows of a setting and seed; of a short run also those of the looks on the way."""
    setting, test = SETTINGS[name], part(entries, "test")
    if name in ("most frequent answer", "input copied"):
        table = rows_of(test, baseline(name, entries, test), float("nan"), False)
        return table.assign(setting=name, seed=seed, step=0, **made_of(name, entries))
    tokenizer, found = encodings.load_encoding(setting.tokenizer), []
    story = editions.STORY.read_text(encoding="utf-8")

    def look(model, step: int) -> None:
        prompt = prompt_of(name)
        with instruction.reduced("cpu", instruction.fast_dtype(torch.device("cpu"))):
            responses = instruction.generate_responses(model, test, tokenizer, 48, prompt=prompt)
            bits = text_bits(model, story, tokenizer)
        fine = setting.recipe is None
        found.append(rows_of(test, responses, bits, fine).assign(step=step))
        if name == "assistant_gpt" and answers:
            save_answers(answers, model, tokenizer, test, responses)

    model = trained(name, seed, entries, tokenizer, look if name == "short" else None)
    steps = setting.recipe["items"] // setting.recipe["batch"] if setting.recipe else 0
    look(model, steps)
    return pd.concat(found).assign(setting=name, seed=seed, **made_of(name, entries))


def openings() -> list[dict]:
    """The twenty openings of a talk that were sealed for the test, as entries."""
    path = HERE / "smalltalk.json"
    data = json.loads(path.read_text(encoding="utf-8"))["test_openings"]
    return [{"instruction": one["text"], "input": "", "family": "talk", "output": one["sensible"],
             "wording": "known", "accept": [], "before": []} for one in data]  # fmt: skip


def save_answers(path: Path, model, tokenizer, test: list[dict], responses: list[str]) -> None:
    """All answers, those to the openings last (their `output` says what would be sensible)."""
    first = openings()
    responses = responses + instruction.generate_responses(model, first, tokenizer, 48)
    columns = ["family", "wording", "instruction", "input", "output"]
    table = pd.DataFrame(test + first)[columns].assign(answer=responses)
    with landing(path) as file:
        file.write(table.to_csv(index=False, lineterminator="\n").encode())
    seal(path)


def known_rows(path: Path, entries: list[dict]) -> pd.DataFrame:
    """The rows of a file that are of today's settings, weights, items and versions; of none, if there is no file."""
    if not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path, dtype={"weights": str, "recipe_and_items": str})
    kept = []
    for (name, seed), rows in table.groupby(["setting", "seed"], sort=False):
        if name in SETTINGS and seed in SETTINGS[name].seeds:
            now = made_of(name, entries)
            if all((rows[key] == value).all() for key, value in now.items()):
                kept.append(rows)
    return pd.concat(kept) if kept else pd.DataFrame()


def save(path: Path, table: pd.DataFrame) -> None:
    first = ["setting", "seed", "step", "family", "wording"]
    table = table[first + [name for name in table if name not in first]]
    with landing(path) as file:
        file.write(table.to_csv(index=False, lineterminator="\n").encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "compare.csv")
    parser.add_argument("--answers", type=Path, default=HERE / "answers.csv")
    parser.add_argument("--only", action="append", choices=SETTINGS, help="this setting alone; may be given again")  # fmt: skip
    options = parser.parse_args(arguments)
    with program.in_one_line("compare_assistants", "with what is missing", AssetError):
        entries = editions.read_instructions(editions.INSTRUCTIONS)
        table = known_rows(options.out, entries)
        for name in options.only or SETTINGS:
            for seed in SETTINGS[name].seeds:
                if len(table) and ((table.setting == name) & (table.seed == seed)).any():
                    continue
                print(f"{name}, seed {seed}", flush=True)
                table = pd.concat([table, tested(name, seed, entries, options.answers)])
                save(options.out, table)
        seal(options.out)
        whole = table[table.family.isin(["rules", "knowledge", "all"]) & (table.wording == "both")]
        shares = whole.pivot(index=["setting", "seed", "step"], columns="family", values="exact")
        print(shares.assign(bits=whole.groupby(["setting", "seed", "step"]).bits.first()).round(3))


if __name__ == "__main__":
    main()
