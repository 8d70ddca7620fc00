"""Train a GPTModel on folders of plain text: chapter 5's loop, made for runs of hours.

    python ch05_pretraining/pretrain.py --corpus FOLDER --out RUN --tokens 25e6
    torchrun --nproc-per-node 2 ch05_pretraining/pretrain.py --corpus FOLDER --out RUN --tokens 25e6

FOLDER holds plain text, as `shared/corpus.py` says; several folders or files may be given, each with a share
(--corpus FOLDER=2 --corpus FILE=1). RUN gets the tokens (*.npy), log.csv, the state of the training (state.pt and
the one before), the model (model.safetensors, in half precision, and config.json) and the weights at the last
rows of the log (weights/). The same command continues a run that was stopped or killed, with the losses that it
would have had; another run can begin with its model (--weights RUN/model.safetensors --seed 124). Under torchrun
all machines must see both folders.

The learning rate warms up, stays, and falls to 0 over the last --decay tokens. A run whose length is not known yet
is held (--decay 0) and continued with more --tokens; in the end it is given its decay. As the rate begins to fall,
the state is kept as stable.pt: renamed to state.pt, the run can be made longer after all.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch.distributed as dist
from measuring import add_row
from run_state import check_folder, load_state, save_all, save_row_weights
from settling import make_model, plan, prepare, settle
from steps import finished, first_alone, train_step
from tqdm import tqdm

from shared.corpus import HELD_OUT
from shared.files import landing
from shared.optimizers import make_optimizers
from shared.program import positive


@contextmanager
def stop_requests():
    """A list that is no longer empty once someone pressed Ctrl-C or sent SIGTERM."""
    asked, kinds = [], (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, _: asked.append(number)) for kind in kinds]
    try:
        yield asked
    finally:
        for kind, handler in zip(kinds, before):
            signal.signal(kind, handler)


@contextmanager
def unless_full(bar, last=False):
    """A disk that is full on the way does not end the run: there will be another save, unless this is the last."""
    try:
        yield
    except OSError as error:
        if last:
            raise
        bar.write(f"pretrain: {error}; going on", file=sys.stderr)


def train(run, model, loss, optimizers, state):
    """Steps until the tokens are spent (True) or someone asks to stop (False)."""
    begun, saved = time.monotonic() - state["seconds"], time.monotonic()
    bar = tqdm(
        total=run.total,
        initial=state["tokens"],
        unit=" tokens",
        unit_scale=True,
        smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 60,
        disable=run.rank > 0,
    )
    stop, done = False, finished(run, state)
    with bar, stop_requests() as asked:
        while not (stop or done):
            if run.decay and not state["decaying"] and state["tokens"] >= run.total - run.decay:
                state["decaying"] = True
                if run.rank == 0 and state["step"]:
                    with unless_full(bar):
                        save_all(run, model, optimizers, state | {"decaying": False})
                        with landing(run.out / "stable.pt") as file:
                            file.write((run.out / "state.pt").read_bytes())
            before = state["tokens"]
            stop = train_step(loss, optimizers, state, run, asked)
            done = finished(run, state)
            state["seconds"] = time.monotonic() - begun
            if run.rank > 0:
                continue  # the first process measures and saves; the others wait in the next step
            bar.update(state["tokens"] - before)
            bar.set_postfix(loss=f"{state['nats'] / max(1, state['since']):.3f}", refresh=False)
            if done or state["tokens"] // run.log_tokens > before // run.log_tokens:
                add_row(run, model, state)
                with unless_full(bar, done):
                    save_row_weights(run, model, state)
                state["row_seconds"] = state["seconds"] = time.monotonic() - begun
            if stop or done or time.monotonic() - saved >= 60 * run.save_minutes:
                with unless_full(bar, stop or done):
                    save_all(run, model, optimizers, state)
                saved = time.monotonic()
    return done


def pretrain(run):
    """A whole run, or what is left of it; whether it is finished."""
    settle(run)
    first_alone(run, lambda: check_folder(run.out))
    prepare(run)
    model, loss = make_model(run)
    optimizers = make_optimizers(model, run)
    state = first_alone(run, lambda: load_state(run.out, run.identity, run.earlier))
    if state:
        model.load_state_dict(state.pop("model"))
        for optimizer, part in zip(optimizers, state.pop("optimizers")):
            optimizer.load_state_dict(part)
    else:
        zero = dict.fromkeys(
            "step tokens windows total decay nats since seconds row_seconds".split(), 0
        )
        state = zero | {"identity": run.identity, "read": {}, "rows": [], "decaying": False}
        state |= {"grad_norm": 0.0}
    plan(run, loss, state)
    if run.rank == 0:
        size, done = sum(p.numel() for p in model.parameters()), state["tokens"]
        print(
            f"{size:,} parameters, {run.total:,} tokens ({done:,} done), {run.device}, "
            f"{run.precision}{', compiled' if run.compile else ''}, {run.world} process(es)"
        )
    # before the first step, and once more where all steps are done: the last save may have been cut off
    if not state["step"] or finished(run, state):
        first_alone(run, lambda: save_all(run, model, optimizers, state))
    done = train(run, model, loss, optimizers, state)
    if run.world > 1:
        dist.barrier()  # who leaves early tears the connections of those who still save
    if run.rank == 0 and done:
        print(f"{run.out}: {', '.join(f'{k} {v}' for k, v in state['rows'][-1].items())}")
    return done


def corpus(text):
    """What --corpus takes: PATH, or PATH=SHARE."""
    path, shared, share = text.rpartition("=")
    return (Path(path), float(share)) if shared else (Path(text), None)


def batch(text):
    """What --batch takes: SIZE, or SIZE@TOKENS for the steps after so many tokens."""
    size, _, start = text.partition("@")
    return int(size), float(start or 0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--corpus", type=corpus, action="append", required=True, metavar="PATH[=SHARE]",
        help="folder of *.txt and *.txt.gz, or one such file; may be given again")  # fmt: skip
    add("--out", type=Path, required=True, help="a new folder, for tokens, log, state and model")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=positive, help="how many tokens to train on, such as 25e6")
    budget.add_argument("--minutes", type=positive, help="or how long, at the speed measured first")
    add("--layers", type=int, default=6, help="blocks of the model (default: 6)")
    add("--width", type=int, default=256, help="numbers for a token (default: 256)")
    add("--heads", type=int, default=8, help="attention heads in a block (default: 8)")
    add("--context", type=int, default=256, help="tokens in a window (default: 256)")
    add("--batch", type=batch, nargs="+", default=[(8192, 0)], metavar="SIZE[@TOKENS]",
        help="tokens in a step; SIZE@TOKENS after so many (default: 8192)")  # fmt: skip
    add("--piece", type=int, help="windows computed at a time (default: 8; on a GPU 64)")
    add("--optimizer", choices=("adamw", "muon"), default="adamw",
        help="muon: for the matrices of the blocks (default: adamw)")  # fmt: skip
    add("--lr", type=float, default=2e-3, help="highest learning rate (default: 2e-3)")
    add("--warmup", type=float, dest="asked_warmup", metavar="TOKENS",
        help="until it is reached (default: 400,000, or a tenth of a short run)")  # fmt: skip
    add("--decay", type=float, dest="asked_decay", metavar="TOKENS",
        help="over the last so many it falls to 0 (default: a fifth of the run; 0: not yet)")  # fmt: skip
    add("--weight-decay", type=float, default=0.1, help="of matrices (default: 0.1)")
    add("--clip", type=float, default=1.0, help="the longest that a gradient may be")
    add("--worksheets", type=float, default=0.0, help="share of structured text in the stream")
    add("--knowledge", type=float, default=0.0, help="share of stated facts in the stream")
    add("--file-tokens", type=float, default=1e6, help="tokens in a file of either")
    add("--tokenizer", type=Path, dest="tokenizer_file", metavar="FILE",
        help="as train_tokenizer.py writes it (default: the edition's)")  # fmt: skip
    add("--held-out", type=Path, default=HELD_OUT, help="list of works kept for validation")
    add("--valid", type=Path, nargs="+", default=[], dest="valid_text",
        help="further texts to validate with: folders or files")  # fmt: skip
    add("--seed", type=int, default=123, help="of first weights and order (default: 123)")
    add("--weights", type=Path, help="a model.safetensors to begin with")
    add("--log-tokens", type=positive, default=1e6, help="tokens between two rows of log.csv")
    add("--valid-windows", type=int, default=128, help="measured for a row; for the last one all")
    add("--save-minutes", type=float, default=5, help="minutes between two saves")
    add("--device", default="auto", help="cpu, cuda, ... (default: cuda where there is one)")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto",
        help="of products (default: bf16 where it is fast)")  # fmt: skip
    add("--compile", action=argparse.BooleanOptionalAction, help="default: for long runs")
    run = parser.parse_args(arguments, namespace=SimpleNamespace())
    try:
        done = pretrain(run)
    except (ValueError, OSError) as error:
        sys.exit(f"pretrain: {error}" if os.environ.get("RANK", "0") == "0" else 1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if not done:
        sys.exit("pretrain: stopped and saved; the same command continues")


if __name__ == "__main__":
    main()
