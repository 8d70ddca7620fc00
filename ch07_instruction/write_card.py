"""Write the assistant's card, assistant_gpt/README.md: how it was made, its scores, and answers as they came.

    python ch07_instruction/write_card.py

All of it comes from the folder's config.json and log.csv, from compare.csv and answers.csv, and from the command that
MADE names. Run it after `compare_assistants.py`.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
import math
from pathlib import Path

import pandas as pd
from safetensors import safe_open

from shared import editions, files, models, scoring

HERE = Path(__file__).resolve().parent
MADE = "python ch07_instruction/make_assistant.py --out ch07_instruction/assistant_gpt --extra 2000"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; columns of numbers to the right."""
    line = ["--:" if row.replace(".", "").replace(" ", "").replace("–", "").isdigit() else "---"
            for row in rows[0]]  # fmt: skip
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *rows])


def per_cent(value: float) -> str:
    return "" if math.isnan(value) else f"{100 * value:.0f}"


def families(scores: pd.DataFrame) -> str:
    """Right answers by family: before, both assistants, and the second's known and reserved wordings."""
    last = scores[scores.step == scores.groupby(["setting", "seed"]).step.transform("max")]
    exact = last.groupby(["setting", "wording", "family"]).exact.mean()
    ours = last[(last.setting == "assistant_gpt") & (last.wording == "both")].set_index("family")
    rows = []
    for name, row in ours.iterrows():
        found = [exact.get((one, "both", name), math.nan) for one in ("before", "short", "first assistant")]  # fmt: skip
        wordings = [exact.get(("assistant_gpt", one, name), math.nan) for one in ("known", "reserved")]  # fmt: skip
        interval = "" if math.isnan(row.exact) else f"{per_cent(row.exact_low)}–{per_cent(row.exact_high)}"  # fmt: skip
        rows.append([name, f"{row['items']:.0f}", *map(per_cent, found), per_cent(row.exact), interval, *map(per_cent, wordings), per_cent(row.rouge_l)])  # fmt: skip
    head = "family, items, before, short run, first assistant, assistant, 95 %, known wordings, reserved wordings, ROUGE-L"
    return table(head.split(", "), rows)


def settings(scores: pd.DataFrame) -> str:
    """What each setting brings, and costs."""
    last = scores[scores.step == scores.groupby(["setting", "seed"]).step.transform("max")]
    last = last[last.wording == "both"]
    rows = []
    for name in last.setting.unique():
        part = last[last.setting == name].groupby("family").exact.mean()
        seeds, bits = last[last.setting == name].seed.nunique(), last[last.setting == name].bits.mean()  # fmt: skip
        rows.append([name, str(seeds), *(per_cent(part[one]) for one in ("rules", "knowledge", "all")), "" if math.isnan(bits) else f"{bits:.2f}"])  # fmt: skip
    return table(["setting", "seeds", "rules", "knowledge", "all", "bits per byte"], rows)


def quoted(answers: pd.DataFrame) -> str:
    return "\n\n".join(
        f"> **{one.instruction}{' | ' + one.input if one.input else ''}**\n> {one.answer or '(nothing)'}"
        for one in answers.itertuples()
    )


def wrong(answers: pd.DataFrame, count: int = 10) -> pd.DataFrame:
    """Wrong answers, at equal distances in the list."""
    entries = {(e["instruction"], e["input"]): e for e in editions.read_instructions(editions.INSTRUCTIONS)}  # fmt: skip
    found = [scoring.is_right(entries[one.instruction, one.input], one.answer) is False for one in answers.itertuples()]  # fmt: skip
    bad = answers[found]
    return bad[:: max(1, len(bad) // count)][:count]


def card(made: str = MADE) -> str:
    """The text of the card."""
    folder = models.ASSISTANT_GPT
    cfg = json.loads((folder / files.CONFIG).read_text(encoding="utf-8"))
    with safe_open(folder / files.WEIGHTS, "pt") as file:
        count = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    log, scores = pd.read_csv(folder / "log.csv"), pd.read_csv(HERE / "compare.csv")
    answers = pd.read_csv(HERE / "answers.csv", keep_default_na=False)
    said = answers[answers.family != "talk"]
    admits = said.assign(admits=said.answer.map(scoring.admits)).groupby("family").admits.mean()
    answerable = said[~said.family.isin(["unknowable", "unread"])].answer.map(scoring.admits).mean()
    rows = [[f"{value:.4g}" for value in row] for row in log.itertuples(index=False)]
    return f"""# assistant_gpt

course-gpt (`ch05_pretraining/course_gpt`), fine-tuned to follow instructions and to talk by `ch07_instruction/make_assistant.py`. `shared.models.instruction_model()`
returns it with its configuration, whatever the edition; its tokenizer is `encodings.course_encoding()`. Talk to it: `python ch07_instruction/chat.py`.

| | |
|---|---|
| architecture, parameters, tokenizer | course-gpt's: {count:,} parameters, context {cfg["context_length"]}, {cfg["vocab_size"]:,} tokens |
| prompt | `shared.instruction.short_prompt`, a line for each turn; the answer follows after a space |
| training items | the stored ones, and items drawn like them; words that do not exist and questions about strangers are among them; small talk and unanswerable questions come several times |
| training | batches of like length, loss on the answers alone; in every step also the drift from course-gpt on texts that course-gpt wrote itself; Muon for the blocks' matrices, AdamW for biases and positions; warm-up 5 %, cosine; bf16; the embedding is left as it was |
| files | `model.safetensors` in half precision, `config.json`, `log.csv`, `SHA256SUMS` |
| license | CC0 1.0, public domain |

```
{made}
```

{table(list(log), rows)}

Nothing that is reserved for the test is in any of the items, stored or drawn (`tests/test_instructions.py`, `tests/test_finetune.py`). `bits` are bits per byte of the story of chapter 2, which no model has read.

## How good it is

Exact matches on all test items, in per cent, by the rule in `ch07_instruction/README.md`, with Wilson's interval; ROUGE-L times 100. `compare_assistants.py` measures; `compare.csv` and `answers.csv` hold all of it.

{families(scores)}

The first assistant was trained on the first edition's items, among them some of these: its column is no test.

{settings(scores)}

"I don't know": {per_cent(admits["unknowable"])} % of the unanswerable questions, {per_cent(admits["look_alike"])} % of those that look alike and can be answered, {100 * answerable:.1f} % of all that can be answered.

## The twenty openings, as they were answered

{quoted(answers[answers.family == "talk"])}

## Ten wrong answers, as they came

{quoted(wrong(said))}

## Limits

It does what its families ask, and little else. It states what is false in the same tone as what is true: facts, opposites and sums must not be trusted. It remembers one exchange. Nothing was done to make it
harmless: what it read holds the views of a hundred years ago, and spelling can put letters together to any word.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--made", default=MADE, help="the command that made the weights")
    options = parser.parse_args(arguments)
    path = models.ASSISTANT_GPT / "README.md"
    with files.landing(path) as file:
        file.write(card(options.made).encode())


if __name__ == "__main__":
    main()
