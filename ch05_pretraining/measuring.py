"""What a run of pretrain.py measures: losses, copying, knowledge, and a row of the log of them."""

import math
from contextlib import nullcontext, suppress

import induction
import knowledge
import numpy as np
import probe
import torch
import torch.nn.functional as F
from names import ordinary_tokens
from steps import batch_at, finished, learning_rate
from torch import nn

from shared.corpus import END_OF_TEXT
from shared.guards import evaluation_mode
from shared.pretraining import bits_per_byte


class Loss(nn.Module):
    """Cross-entropy in nats, summed over all targets: `(B, T + 1) -> ()`. One module, to compile as a whole."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, windows):
        logits = self.model(windows[:, :-1])  # (B, T, V)
        return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction="sum")


@torch.no_grad()
def evaluate(model, tokens, byte_counts, context, most=None, autocast=nullcontext, batch=8):
    """`(nats, tokens, bytes)` over a token array, in windows side by side, or `most` of them.

    Nats per token and, whatever the tokenizer, bits per byte follow from them. `byte_counts`: `(V,)`.
    """
    starts = range(0, len(tokens) - 1, context)
    starts = starts[:: math.ceil(len(starts) / most)] if most else starts
    loss, nats, targets = Loss(model), 0.0, []
    with evaluation_mode(model), autocast():
        for i in range(0, len(starts), batch):
            rows = [tokens[s : s + context + 1].astype(np.int64) for s in starts[i : i + batch]]
            for same in ([r for r in rows if len(r) == n] for n in sorted({len(r) for r in rows})):
                windows = torch.from_numpy(np.stack(same))  # the last one may be shorter
                nats += loss(windows.to(next(model.parameters()).device)).item()
                targets.append(windows[:, 1:].flatten())
    targets = torch.cat(targets)
    return nats, len(targets), byte_counts[targets].sum().item()


def copying_measures(run, model, sequences):
    """How well the model copies from its context, by induction.py; nothing where there is nothing to copy."""
    ids, found = ordinary_tokens(run.tokenizer), {}
    texts = run.tokenizer.decode(next(iter(run.valid.values())).tolist()).split(END_OF_TEXT)
    passages = induction.passages_with_names(texts, run.tokenizer, count=sequences)
    with run.autocast(), suppress(ValueError):  # a vocabulary or works without what is asked for
        if run.context >= 199:
            found["repeated_tokens"] = round(induction.repeated_tokens(model, ids, sequences), 4)
            names = induction.returning_names(model, run.tokenizer, passages, run.context)
            found["returning_names"] = round(names, 4)
    return found


def knowledge_measures(run, model, count):
    """The shares of facts and of left-out facts that the model picks out of four, by probe.py."""
    facts, control = probe.reserved_questions(), probe.left_out()
    with run.autocast():
        read = probe.asked(
            model, run.tokenizer, facts[:: len(facts) // count or 1], knowledge.load_facts()
        )
        never = probe.asked(model, run.tokenizer, control)
    found = {"known": read.by_mean, "left_out": never.by_mean}
    return {name: round(float(right.mean()), 4) for name, right in found.items()}


def add_row(run, model, state):
    """Measure the model and add a row to the log; the last one on all of the validation text."""
    last = finished(run, state)
    found = {}
    for i, (name, tokens) in enumerate(run.valid.items()):
        most = None if last else max(1, run.valid_windows // (8 if i else 1))
        counts = run.byte_counts, run.context, most, run.autocast
        nats, count, size = evaluate(model, tokens, *counts)
        if not i:
            found["valid_loss"] = round(nats / count, 6)
        found[f"bits_{name}" if i else "bits_per_byte"] = round(bits_per_byte(nats, size), 6)
    batch = batch_at(state["tokens"], run.batches)
    row = {"tokens": state["tokens"], "train_loss": round(state["nats"] / state["since"], 6)}
    row |= found | {
        "lr": round(learning_rate(state["tokens"] - batch, batch, run), 8),
        "grad_norm": round(state["grad_norm"], 4),
        "tokens_per_second": round(state["since"] / (state["seconds"] - state["row_seconds"])),
        "seconds": round(state["seconds"]),
    }
    row |= copying_measures(run, model, 200 if last else 50)
    if run.knowledge and run.context >= 64:  # long enough for a probe
        row |= knowledge_measures(run, model, 240 if last else 40)
    state.update(rows=[*state["rows"], row], nats=0.0, since=0)
