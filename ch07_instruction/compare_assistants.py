"""What each part of the recipe brings: right answers and ROUGE-L on the test items, by family, into compare.csv.

    python ch07_instruction/compare_assistants.py

Each setting is trained and tested in turn, and its rows are written when it is done. The same command goes on
where it was stopped, and does anew what was made of other weights or other items.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import make_assistant
import make_instructions
import pandas as pd
import torch

from shared import editions, encodings, files, instruction, models, program
from shared.assets import AssetError
from shared.files import landing, seal
from shared.gpt_model import GPTModel
from shared.pretraining import initialize
from shared.scoring import scores_by_family

HERE = Path(__file__).resolve().parent

# what chapter 7's notebook does live
SHORT = {"items": 4_000, "epochs": 1, "batch": 16, "peak": 5e-4, "optimizer": "adamw"}
# a name, how it is trained (None: not at all), seeds
SETTINGS = {
    "before": (None, (0,)),
    "short": (SHORT, (1, 2, 3)),
    "Alpaca's prompt": (SHORT | {"prompt": "format_prompt"}, (1,)),
    "assistant_gpt": (None, (0,)),
    "assistant_gpt, other items": (None, (0,)),
    "from random weights": (SHORT | {"random": True, "keep_tokens": False}, (1,)),
    "all tokens trained": (SHORT | {"keep_tokens": False}, (1,)),
    "loss on everything": (SHORT | {"answers_only": False}, (1,)),
}


def folder_of(setting: str) -> Path:
    """Where a setting's weights come from."""
    return models.ASSISTANT_GPT if setting.startswith("assistant_gpt") else models.FIRST_GPT


def made_of(setting: str, entries: list[dict]) -> dict[str, str]:
    """Checksums of what a setting's figures depend on, and versions."""
    recipe = SETTINGS[setting][0]
    content = json.dumps([recipe, entries]).encode()
    return {
        "weights": files.sha256(folder_of(setting) / files.WEIGHTS)[:12],
        "recipe_and_items": files.sha256(content)[:12],
        "torch": torch.__version__,
    }  # fmt: skip


def prompt_of(setting: str):
    """The function that writes a setting's prompts."""
    return getattr(instruction, (SETTINGS[setting][0] or {}).get("prompt", "short_prompt"))


def trained(setting: str, seed: int, entries: list[dict], tokenizer):
    """The model of a setting, ready to be tested."""
    model, cfg = models.load_model(folder_of(setting), encodings.FIRST_TOKENIZER)
    recipe = SETTINGS[setting][0]
    if recipe is None:
        return model
    torch.manual_seed(seed)
    run = SimpleNamespace(**{"answers_only": True, "random": False, "keep_tokens": True} | recipe)
    run.prompt = prompt_of(setting)
    if run.random:
        model = GPTModel(cfg)
        initialize(model)
    training = [entry for entry in entries if entry["split"] == "train"][: run.items]
    validation = [entry for entry in entries if entry["split"] == "validation"]
    make_assistant.train(model, training + validation, tokenizer, run)
    return model


def other_items(entries: list[dict]) -> list[dict]:
    """A second test, for a model that was made with an eye on the first: the same reserved words, other texts."""
    known = {(entry["instruction"], entry["input"]) for entry in entries}
    kept, drawn = make_instructions.kept_pool(), []
    for make in make_instructions.FAMILIES:
        drawn += make_instructions.draw(make, kept, "second", "test", make_instructions.TEST, known)
    return [{"accept": []} | entry for entry in drawn]


def tested(setting: str, seed: int, entries: list[dict], tokenizer) -> pd.DataFrame:
    """The rows of a setting and seed: a family each, and one for all of them together."""
    model = trained(setting, seed, entries, tokenizer)
    if setting == "assistant_gpt, other items":
        test = other_items(entries)
    else:
        test = [entry for entry in entries if entry["split"] == "test"]
    responses = instruction.generate_responses(model, test, tokenizer, prompt=prompt_of(setting))
    table = scores_by_family(test, responses).round(4)
    table = table.rename_axis("family").reset_index()
    return table.assign(setting=setting, seed=seed, **made_of(setting, entries))


def known_rows(path: Path, entries: list[dict]) -> pd.DataFrame:
    """The rows of a file that are of today's settings, weights, items and versions; of none, if there is no file."""
    if not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path, dtype={"weights": str, "recipe_and_items": str})
    kept = []
    for (setting, seed), rows in table.groupby(["setting", "seed"], sort=False):
        if setting in SETTINGS and seed in SETTINGS[setting][1]:
            now = made_of(setting, entries)
            if all((rows[name] == value).all() for name, value in now.items()):
                kept.append(rows)
    return pd.concat(kept) if kept else pd.DataFrame()


def save(path: Path, table: pd.DataFrame) -> None:
    first = ["setting", "seed", "family"]
    table = table[first + [name for name in table if name not in first]]
    with landing(path) as file:
        file.write(table.to_csv(index=False, lineterminator="\n").encode())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "compare.csv")
    options = parser.parse_args(arguments)
    with program.in_one_line("compare_assistants", "with what is missing", AssetError):
        tokenizer = encodings.course_encoding(first=True)
        entries = editions.read_instructions(editions.INSTRUCTIONS)
        table = known_rows(options.out, entries)
        for setting, (_, seeds) in SETTINGS.items():
            for seed in seeds:
                if len(table) and ((table.setting == setting) & (table.seed == seed)).any():
                    continue
                print(f"{setting}, seed {seed}", flush=True)
                table = pd.concat([table, tested(setting, seed, entries, tokenizer)])
                save(options.out, table)
        seal(options.out)
        everything = table[table.family == "all"].set_index(["setting", "seed"])
        print(everything[["exact", "exact_low", "exact_high", "rouge_l"]])


if __name__ == "__main__":
    main()
