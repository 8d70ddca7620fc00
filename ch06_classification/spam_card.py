"""The card of spam_gpt, spam_gpt/README.md: its text, with the numbers of the run that made it."""

import pandas as pd
import torch

from shared.classification import average_precision, scores

KINDS = ("all", "ordinary", "hard")
TEXT = """# spam-gpt

The spam classifier of this course: course-gpt, fine-tuned on the messages of `ch06_classification/messages.csv` by `ch06_classification/make_spam_gpt.py`, which
uses the code of chapter 6. `shared.models.classifier()` returns it with its configuration; `python ch06_classification/classify.py "message"` runs it. That script wrote this card, too.

| | |
|---|---|
| architecture | course-gpt's ({layers} blocks, width {width}, context {context}); its head, {vocabulary:,} wide, replaced by one of two classes, ham and spam |
| read at | the last token of the message |
| tokenizer | the course's, whatever the edition: `shared.encodings.course_encoding()` |
| threshold | `threshold` in `config.json`: spam from that probability on; {origin} |
| files | `model.safetensors` in half precision ({megabytes:.1f} MB), `config.json`, `log.csv`, `SHA256SUMS` |
| license | CC0 1.0, public domain |

## How it was made

```
python ch06_classification/make_spam_gpt.py --out FOLDER
```

1. **It reads on.** The {train:,} training messages as a language model, without labels: {reading[epochs]} epochs, batches of {reading[batch_size]}, AdamW with a peak of {reading[peak]:g} (Gururangan and others, 2020).
2. **It learns the labels.** A new head, all layers trained on the same messages: {labels[epochs]} epochs, batches of {labels[batch_size]}, a peak of {labels[peak]:g}.

Both: warm-up over a tenth of the steps and a cosine down to 0, weight decay {decay} on matrices, dropout {dropout}, gradients clipped at {clip:.0f}, bf16 autocast where the processor has it, seed {seed}.

## How good it is

On the {development} development messages (the part `test` of `messages.csv`), of which {hard} were marked as hard before any model was trained on them. Many comparisons were made on these messages, so
the scores may be a little too good. Precision, recall and F1 are those of spam, at the threshold; average precision needs none.

| cases | average precision | accuracy | precision | recall | F1 |
|---|--:|--:|--:|--:|--:|
{rows}

{sealed}
## Limits

Trained on invented messages in English and what is mixed with it, with more hard cases than life has: its probabilities are not those of real traffic. It is sure of itself where it is wrong, too (section 6.7 shows by how much).
On messages like these a logistic regression on words and runs of characters is about as good, and both together are better than either (`ch06_classification/compare.csv`). Nobody should lose a message by its verdict alone.
"""
SEALED = """On the {messages} sealed messages, which were written before it was trained and scored once, its recipe has an average precision of {value:.3f} ({low:.3f} to {high:.3f} in 95 % of draws of messages) with this seed;
over all runs, and beside other methods: `ch06_classification/compare.csv`, part `sealed`, row "{row}".
"""


def score_lines(labels: torch.Tensor, hard: torch.Tensor, spam: torch.Tensor, threshold: float) -> str:  # fmt: skip
    """A line of the card's table for each kind of cases."""
    chosen = {"all": torch.ones_like(hard), "ordinary": ~hard, "hard": hard}
    lines = []
    for kind in KINDS if hard.any() else KINDS[:1]:
        true, p = labels[chosen[kind]], spam[chosen[kind]]
        found = [average_precision(true, p).item()]
        found += scores(true, (p >= threshold).long()).values()
        lines.append(f"| {kind} | " + " | ".join(f"{value:.3f}" for value in found) + " |")
    return "\n".join(lines)


def sealed_text(table: pd.DataFrame | None, row: str) -> str:
    """What compare.csv says of the sealed messages; nothing where they have not been scored for this model."""
    if table is None:
        return ""
    lines = table[(table.part == "sealed") & (table.row == row) & (table.cases == "all") & (table.run == "0")]  # fmt: skip
    if not len(lines):
        return ""
    value, low, high = lines.iloc[0][[f"average_precision{end}" for end in ("", "_low", "_high")]]
    return SEALED.format(row=row, messages=lines.iloc[0]["count"], value=value, low=low, high=high)
