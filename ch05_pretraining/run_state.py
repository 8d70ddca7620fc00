"""What a run of pretrain.py leaves in its folder: state, model, weights at the last rows, log.

state.pt holds, besides the tensors of `model` and `optimizers`:
step, tokens, windows, read   what is done: steps, tokens, windows in all and of each source
total, decay, decaying        the plan, and whether the rate has begun to fall
nats, since, grad_norm        since the last row of the log: loss and tokens; the last gradient's length
rows, seconds, row_seconds    the log, and the time spent, in all and up to its last row
identity                      what may not change: the configuration; optimizer, lr, weight_decay, clip, seed, batch,
                              warmup; corpora, by what their files of tokens hold; tokenizer; weights begun with
"""

import csv
import hashlib
import io
import re
import sys

import safetensors.torch
import torch

from shared import encodings, files
from shared.files import landing
from shared.finite import finite_weights

# what a run has in its folder before its first state, and what stays if its states are deleted
BEGUN = re.compile(r"(train|valid)-.+\.npy")
OURS = re.compile(
    r"((train|valid|worksheets|knowledge)-.+\.npy|(state|stable).*\.pt|weights|log\.csv"
    rf"|{re.escape(files.CONFIG)}|{re.escape(files.WEIGHTS)})(\.unfinished-\d+)?"
)
ROWS_KEPT = 8  # the weights at the last so many rows of the log, for an average


def check_folder(out):
    """ValueError where the folder holds anything, and is not that of a run: it is somebody's, and is left alone."""
    names = [path.name for path in out.iterdir()] if out.exists() else []
    names = [name for name in names if not name.startswith(".")]
    begun = all(map(OURS.fullmatch, names)) and any(map(BEGUN.match, names))
    if names and not begun and not {"state.pt", "state.previous.pt"} & set(names):
        raise ValueError(
            f"{out} is not empty, and not the folder of a run: give a new folder (--out)"
        )


def save_state(out, state):
    """Write state.pt with its SHA-256 at the end; the one before stays as state.previous.pt."""
    buffer = io.BytesIO()  # torch.save itself aborts on a full disk
    torch.save(state, buffer)
    with landing(out / "state.pt", keep=out / "state.previous.pt") as file:
        file.write(buffer.getbuffer())
        file.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch.load ignores what follows


def load_state(out, identity, earlier=set):
    """The newest whole state in `out`, None if there is none. ValueError: all damaged, or of another run.

    `earlier()`: what else the same corpora may be called in it.
    """
    paths = [p for p in (out / "state.pt", out / "state.previous.pt") if p.exists()]
    for path in paths:
        content = path.read_bytes()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            print(f"pretrain: {path} is damaged, trying the one before", file=sys.stderr)
            continue
        state = torch.load(io.BytesIO(content), weights_only=True)
        old = state["identity"]
        if old.get("corpora") != identity["corpora"] and old.get("corpora") in earlier():
            old["corpora"] = identity["corpora"]  # as this run will call them from now on
        if changed := [key for key in identity if old.get(key) != identity[key]]:
            each = ", ".join(f"{key} {old.get(key)}, not {identity[key]}" for key in changed)
            raise ValueError(
                f"{path} is of another run ({each}): give its options or another --out"
            )
        return state
    if paths:
        raise ValueError(f"every state in {out} is damaged: delete {out}/state*.pt to start again")


def save_weights(path, model):
    """Write the weights in half precision, a tied matrix once."""
    weights = {name: tensor.half().cpu() for name, tensor in model.state_dict().items()}
    finite_weights(weights, path)
    del weights["out_head.weight"]  # which is tok_emb.weight
    with landing(path) as file:
        file.write(safetensors.torch.save(weights))


def save_model(run, model):
    """Write the model as `shared.editions` knows it: weights, and a configuration that names its tokenizer."""
    save_weights(run.out / files.WEIGHTS, model)
    name = encodings.tokenizer_name(run.cfg, run.tokenizer_file)
    with landing(run.out / files.CONFIG) as file:
        file.write(files.as_json(run.cfg | {"tokenizer": name}))


def save_row_weights(run, model, state):
    """Keep the weights at the last row of the log, and those at the rows just before it."""
    folder = run.out / "weights"
    folder.mkdir(exist_ok=True)
    kept = [f"{row['tokens']:012}.safetensors" for row in state["rows"][-ROWS_KEPT:]]
    save_weights(folder / kept[-1], model)
    for path in folder.glob("*.safetensors"):
        if path.name not in kept:  # older, or of a decay that was given up
            path.unlink()


def save_log(out, rows):
    """Write log.csv anew: a column for each thing that some row measured."""
    text = io.StringIO(newline="")
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with landing(out / "log.csv") as file:
        file.write(text.getvalue().encode())


def save_all(run, model, optimizers, state):
    """Write state, model and log."""
    parts = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    save_state(run.out, state | parts)
    save_model(run, model)
    save_log(run.out, state["rows"])
