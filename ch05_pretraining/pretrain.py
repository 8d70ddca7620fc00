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

import argparse
import csv
import functools
import hashlib
import io
import json
import math
import os
import signal
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from mixture import Mixture, Windows, Written, checksum, prepare_corpora, shares_of, vocabulary
from torch import nn
from tqdm import tqdm

from shared import editions
from shared.attention import future_mask
from shared.corpus import END_OF_TEXT, HELD_OUT, read_documents
from shared.files import landing
from shared.gpt_model import GPTModel, evaluation_mode
from shared.pretraining import bits_per_byte, initialise, parameter_groups

ROWS_KEPT = 8  # the weights at the last so many rows of the log, for an average

# --- what a run leaves ----------------------------------------------------------------------------


def save_state(out, state):
    """Write state.pt with its SHA-256 at the end; the one before stays as state.previous.pt."""
    buffer = io.BytesIO()  # torch.save itself aborts on a full disk
    torch.save(state, buffer)
    with landing(out / "state.pt", keep=out / "state.previous.pt") as file:
        file.write(buffer.getbuffer())
        file.write(hashlib.sha256(buffer.getbuffer()).digest())  # torch.load ignores what follows


def load_state(out, identity):
    """The newest whole state in `out`, None if there is none. ValueError: all damaged, or of another run."""
    paths = [p for p in (out / "state.pt", out / "state.previous.pt") if p.exists()]
    for path in paths:
        content = path.read_bytes()
        if hashlib.sha256(content[:-32]).digest() != content[-32:]:
            print(f"pretrain: {path} is damaged, trying the one before", file=sys.stderr)
            continue
        state = torch.load(io.BytesIO(content), weights_only=True)
        old = state["identity"]
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
    del weights["out_head.weight"]  # which is tok_emb.weight
    with landing(path) as file:
        file.write(safetensors.torch.save(weights))


def save_model(run, model):
    """Write the model as `shared.editions` knows it: weights, and a configuration that names its tokenizer."""
    save_weights(run.out / editions.WEIGHTS, model)
    name = editions.tokenizer_name(run.cfg, run.tokenizer_file)
    with landing(run.out / editions.CONFIG) as file:
        file.write(editions.as_json(run.cfg | {"tokenizer": name}))


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


# --- loss -----------------------------------------------------------------------------------------


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
    """How well the model copies from its context, by copying.py; nothing where there is nothing to copy."""
    import copying  # beside this script

    ids, found = copying.ordinary_tokens(run.tokenizer), {}
    texts = run.tokenizer.decode(next(iter(run.valid.values())).tolist()).split(END_OF_TEXT)
    passages = copying.passages_with_names(texts, run.tokenizer, count=sequences)
    with run.autocast(), suppress(ValueError):  # a vocabulary or works without what is asked for
        if run.context >= 199:
            found["repeated_tokens"] = round(copying.repeated_tokens(model, ids, sequences), 4)
            names = copying.returning_names(model, run.tokenizer, passages, run.context)
            found["returning_names"] = round(names, 4)
    return found


def knowledge_measures(run, model, count):
    """The shares of facts and of left-out facts that the model picks out of four, by probe.py."""
    import knowledge  # both beside this script
    import probe

    facts, control = probe.reserved_questions(), probe.left_out()
    with run.autocast():
        read = probe.asked(
            model, run.tokenizer, facts[:: len(facts) // count or 1], knowledge.load_facts()
        )
        never = probe.asked(model, run.tokenizer, control)
    found = {"known": read.by_mean, "left_out": never.by_mean}
    return {name: round(float(right.mean()), 4) for name, right in found.items()}


# --- one step, alone or as one of several processes -----------------------------------------------


def learning_rate(before, batch, run):
    """The rate of a step that takes the tokens from `before` to `before + batch`: up, level, and down to 0.

    Straight lines, the warm-up through 0 before the first step and the decay through 0 after the last (Hu and
    others, 2024, "MiniCPM").
    """
    up = (before + batch) / run.warmup if run.warmup else 1.0
    down = (run.total - before) / run.decay if run.decay else 1.0
    return run.lr * min(1.0, up, down)


def batch_at(tokens, batches):
    """How many tokens the step after so many takes: the last of `[(from, size)]` that has begun."""
    return [size for start, size in batches if start <= tokens][-1]


def own_windows(run, state):
    """This process's equal slice of a step's batch, `(B / processes, T + 1)`, and what is read after the step."""
    count = batch_at(state["tokens"], run.batches) // run.context
    taken, read = run.mixture.take(state["windows"], count, state["read"])
    own = taken[run.rank * count // run.world : (run.rank + 1) * count // run.world]
    return torch.stack([run.mixture.sources[name][n] for name, n in own]), read


def backward(loss, windows, run, batch):
    """Add up the gradients of the mean loss of `batch` tokens that come from these windows; returns their nats.

    In pieces, because the logits of a whole batch are large.
    """
    nats, pieces = 0.0, windows.to(run.device).split(run.piece)
    for i, piece in enumerate(pieces):
        # DistributedDataParallel averages over processes, and needs to do so only once
        apart = run.world > 1 and i < len(pieces) - 1
        with loss.no_sync() if apart else nullcontext():
            with run.autocast():
                found = loss(piece)
            (found * run.world / batch).backward()
        nats += found.detach()
    return float(nats)


def over_all(run, *numbers):
    """The sums of some numbers over all processes."""
    if run.world == 1:
        return numbers
    sums = torch.tensor(numbers, dtype=torch.float64, device=run.device)
    dist.all_reduce(sums)
    return sums.tolist()


def first_alone(run, job):
    """What `job()` returns on the first process, on all of them; its ValueError or OSError, too."""
    answer = [None, None]
    if run.rank == 0:
        try:
            answer[0] = job()
        except (ValueError, OSError) as error:
            answer[1] = str(error)
    if run.world > 1:
        dist.broadcast_object_list(answer, device=run.device)
    if answer[1]:
        raise ValueError(answer[1])
    return answer[0]


def train_step(loss, optimizers, state, run, asked=()):
    """One batch: forward, backward, clip, step; `state` counts on. Whether any process was asked to stop."""
    batch = batch_at(state["tokens"], run.batches)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state["tokens"], batch, run)
    windows, read = own_windows(run, state)
    nats = backward(loss, windows, run, batch)
    nats, stops = over_all(run, nats, len(asked))  # all processes stop after the same step
    norm = float(nn.utils.clip_grad_norm_(loss.parameters(), run.clip))
    if not (math.isfinite(nats) and math.isfinite(norm)):
        what = "gradient" if math.isfinite(nats) else "loss"
        raise ValueError(
            f"the {what} is no longer finite after {state['tokens'] + batch:,} tokens: lower --lr"
        )
    for optimizer in optimizers:
        optimizer.step()
    loss.zero_grad(set_to_none=True)
    state |= {"tokens": state["tokens"] + batch, "windows": state["windows"] + batch // run.context}
    state |= {"read": read, "step": state["step"] + 1, "grad_norm": norm}
    state |= {"nats": state["nats"] + nats, "since": state["since"] + batch}
    return stops > 0


def measure_speed(loss, run, state, seconds):
    """Tokens a second that training will make: gradients are computed and dropped, no weight moves."""
    batch = batch_at(math.inf, run.batches)
    windows, _ = own_windows(run, state | {"tokens": math.inf})
    backward(loss, windows, run, batch)  # compiles, where asked to
    start, steps, elapsed = time.monotonic(), 0, 0.0
    while elapsed < seconds:
        backward(loss, windows, run, batch)
        steps += 1
        elapsed = sum(over_all(run, (time.monotonic() - start) / run.world))
    loss.zero_grad(set_to_none=True)
    return batch * steps / elapsed


# --- the run --------------------------------------------------------------------------------------


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


def finished(run, state):
    """Whether the next step would pass the budget."""
    return state["tokens"] + batch_at(state["tokens"], run.batches) > run.total


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


def save_all(run, model, optimizers, state):
    """Write state, model and log."""
    parts = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    save_state(run.out, state | parts)
    save_model(run, model)
    save_log(run.out, state["rows"])


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


def attend_by_products(queries, keys, values):
    """Causal attention as two batched products: `(B, H, T, D)` three times -> `(B, H, T, D)`.

    On a CPU in bf16 this is 1.5 times as fast at 256 tokens as PyTorch's fused kernel, and takes more memory.
    """
    T, D = queries.shape[-2:]
    hidden = torch.zeros(T, T, dtype=queries.dtype).masked_fill(future_mask(T, T), -torch.inf)
    scores = torch.baddbmm(hidden, queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=D**-0.5)
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    return weights.bmm(values.flatten(0, 1)).view(queries.shape)


def fast_in_bf16(device):
    """Whether products in bfloat16 are faster than in float32; some CPUs take 30 times as long for them."""
    able = torch.cpu.get_capabilities()
    return device.type == "cuda" or bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def able_to_compile():
    """Whether torch.compile works here: it needs a C++ compiler, and some are only stand-ins."""
    try:
        torch.compile(lambda x: x + 1)(torch.ones(1))
    except Exception as error:  # of the compiler, the dynamo, the operating system
        reason = str(error).strip().partition("\n")[0]
        print(f"pretrain: not compiled, since that fails here: {reason}", file=sys.stderr)
        return False
    return True


def settle(run):
    """Decide what the options left open, and join the other processes. ValueError for what cannot be."""
    env = os.environ
    run.rank, run.world = int(env.get("RANK", 0)), int(env.get("WORLD_SIZE", 1))
    if run.device == "auto":
        run.device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = run.device == "cuda"
    run.device = torch.device(f"cuda:{env.get('LOCAL_RANK', 0)}" if gpu else run.device)
    if gpu:
        torch.cuda.set_device(run.device)
    if run.world > 1:
        dist.init_process_group("nccl" if gpu else "gloo")
    if run.precision == "auto":
        run.precision = "bf16" if fast_in_bf16(run.device) else "fp32"
    bf16 = run.precision == "bf16"
    run.autocast = functools.partial(torch.autocast, run.device.type, torch.bfloat16, enabled=bf16)
    run.piece = run.piece or (64 if gpu else 8)
    if run.compile is None:  # a minute of work, for 1.1 times the speed on a CPU
        long = (run.tokens or 0) >= 5e6 or (run.minutes or 0) >= 15
        run.compile = long and able_to_compile()
    run.batches = sorted((start, size) for size, start in run.batch)
    for _, size in run.batches:
        windows, rest = divmod(size, max(1, run.context))
        if run.context < 1 or rest or windows < 1 or windows % run.world:
            each = f"{run.context} tokens x {run.world} processes"
            raise ValueError(f"--batch {size} is not a multiple of {each}")
    if run.batches[0][0] > 0:
        raise ValueError("no --batch is for the start of the run: give one without @")


def sources(run):
    """All that the run reads, by name, and the share of each; adds the key of the corpora to the identity."""
    places = [place for place, _ in run.corpus]
    given = places, run.out, run.tokenizer, run.held_out
    paths, valid = first_alone(run, lambda: prepare_corpora(*given))
    read = {name: Windows(path, run.context, run.seed) for name, path in paths.items()}
    weights = dict(zip(paths, (weight for _, weight in run.corpus)))
    fixed = {}
    for name in ("worksheets", "knowledge"):
        if share := getattr(run, name):
            if name in read:
                raise ValueError(f"a corpus is called {name}, as what --{name} adds: rename it")
            write, key = writers()[name](run.tokenizer)
            fixed[name] = share
            read[name] = Written(write, run.out / name, key, run.tokenizer, run.context, run.seed, int(run.file_tokens))  # fmt: skip
    run.mixture = Mixture(read, shares_of(read, weights, fixed))
    run.valid = {"held_out": np.load(valid, mmap_mode="r")}
    for path in run.valid_text:
        for document_file in sorted(path.glob("*.txt*")) if path.is_dir() else [path]:
            text = END_OF_TEXT.join(d.text for d in read_documents(document_file))
            ids = run.tokenizer.encode(text, allowed_special={END_OF_TEXT})
            run.valid[document_file.name.partition(".")[0]] = np.array(
                [run.tokenizer.eot_token, *ids]
            )
    run.valid = {name: tokens for name, tokens in run.valid.items() if len(tokens) > 1}
    if not run.valid:
        raise ValueError(
            f"nothing to validate with: no work in the corpora is listed in {run.held_out}; "
            "give a list of your own (--held-out) or other texts (--valid)"
        )
    return checksum(*sorted(path.name for path in paths.values()))


def writers():
    """What the texts that programs write are functions of: `{name: tokenizer -> (write(seed), key)}`."""
    import knowledge  # both beside this script
    import worksheets

    def key(paths, *more):
        return checksum([path.read_bytes() for path in paths], *more)

    def sheets(tokenizer):
        words = worksheets.second_words(tokenizer)
        tokens = vocabulary(tokenizer)
        return lambda seed: worksheets.documents(seed, words), key(
            worksheets.SECOND_SOURCES, tokens
        )

    def facts(tokenizer):
        return knowledge.documents, key(knowledge.SOURCES, vocabulary(tokenizer))

    return {"worksheets": sheets, "knowledge": facts}


def prepare(run):
    """Add to the options what the functions above need: texts, configuration, the run's identity."""
    file = run.tokenizer_file
    run.tokenizer = editions.load_encoding(file) if file else editions.tokenizer()
    run.tokenizer_file = file or editions.COURSE_TOKENIZER
    run.byte_counts = torch.tensor([len(token) for token in vocabulary(run.tokenizer)])
    corpora = sources(run)
    run.cfg = {
        "vocab_size": run.tokenizer.n_vocab,
        "context_length": run.context,
        "emb_dim": run.width,
        "n_heads": run.heads,
        "n_layers": run.layers,
        "drop_rate": 0.0,  # what is read once or twice is not learnt by heart
        "qkv_bias": True,  # as in OpenAI's GPT-2, so that tools for it read this model
        "tie_weights": True,
    }
    chosen = "optimizer lr weight_decay clip seed".split()
    run.identity = run.cfg | {name: getattr(run, name) for name in chosen}
    run.identity |= {"batch": str(run.batches), "warmup": run.asked_warmup, "corpora": corpora}
    run.identity |= {"tokenizer": editions.tokenizer_name(run.cfg, run.tokenizer_file)}
    run.identity |= {"weights": run.weights and checksum(run.weights.read_bytes())}


def make_model(run):
    """`(model, its loss as a module)`; the loss is compiled and distributed where asked to."""
    torch.manual_seed(run.seed)
    model = GPTModel(run.cfg).to(run.device)
    initialise(model)
    if run.weights:
        if (config := run.weights.with_name(editions.CONFIG)).exists():
            named = json.loads(config.read_text(encoding="utf-8"))
            editions.check_tokenizer(named, config.parent, run.tokenizer_file)
        try:
            model.load_state_dict(safetensors.torch.load_file(run.weights))
        except (RuntimeError, safetensors.SafetensorError) as error:
            raise ValueError(f"{run.weights} does not fit: {str(error).splitlines()[-1]}") from None
    if run.device.type == "cpu" and run.precision == "bf16":
        for block in model.trf_blocks:
            block.att.attend = attend_by_products
    loss = torch.compile(Loss(model)) if run.compile else Loss(model)
    if run.world > 1:
        loss = nn.parallel.DistributedDataParallel(loss)
    return model, loss


class FullMuon(torch.optim.Muon):
    """PyTorch's Muon with its products in float32, for CPUs without bfloat16; matrices of a shape go together."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            a, b, c = group["ns_coefficients"]
            for shape in dict.fromkeys(p.shape for p in group["params"]):
                these = [p for p in group["params"] if p.shape == shape and p.grad is not None]
                if not these:
                    continue
                for p in these:
                    momentum = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                    momentum.lerp_(p.grad, 1 - group["momentum"])
                steps = [
                    p.grad.lerp(self.state[p]["momentum_buffer"], group["momentum"]) for p in these
                ]
                X = torch.stack(steps)  # (N, rows, columns), of which the fewer come first
                X = X.mT if shape[0] > shape[1] else X
                X = X / X.norm(dim=(1, 2), keepdim=True).clamp(min=group["eps"])
                for _ in range(group["ns_steps"]):
                    A = X @ X.mT
                    X = a * X + (b * A + c * A @ A) @ X
                X = X.mT if shape[0] > shape[1] else X
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))  # match_rms_adamw
                for p, update in zip(these, X):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=rate)


def make_optimizers(model, run):
    """AdamW, with GPT-3's betas; or Muon for the blocks' matrices and AdamW for all else.

    Loshchilov and Hutter, 2019; Jordan et al., 2024, scaled as by Liu et al., 2025, so that one --lr suits both.
    """
    matrices, vectors = parameter_groups(model, run.weight_decay)
    adamw = functools.partial(torch.optim.AdamW, lr=run.lr, betas=(0.9, 0.95), fused=True)
    if run.optimizer == "adamw":
        return [adamw([matrices, vectors])]
    outside = {id(model.tok_emb.weight), id(model.pos_emb.weight)}  # the head is tied
    inner = [p for p in matrices["params"] if id(p) not in outside]
    outer = matrices | {"params": [p for p in matrices["params"] if id(p) in outside]}
    kind = torch.optim.Muon if fast_in_bf16(model.pos_emb.weight.device) else FullMuon
    muon = functools.partial(kind, adjust_lr_fn="match_rms_adamw")
    return [muon(inner, run.lr, run.weight_decay), adamw([outer, vectors])]


def plan(run, loss, state):
    """Decide how many tokens the run has and over how many the rate falls, or take it from the state.

    A run may be made longer, or be given its decay, until the rate has begun to fall. ValueError after that.
    """
    if run.minutes and state["total"]:  # minutes became tokens once and for all
        run.tokens = state["total"]
    elif run.minutes:
        run.tokens = 60 * run.minutes * measure_speed(loss, run, state, min(20, 6 * run.minutes))
    run.total = int(run.tokens)
    run.decay = int(0.2 * run.total if run.asked_decay is None else run.asked_decay)
    run.warmup = min(400_000, run.total // 10) if run.asked_warmup is None else run.asked_warmup
    if finished(run, state) and not state["step"]:
        batch = batch_at(0, run.batches)
        raise ValueError(f"the budget of {run.tokens:,.0f} tokens is below one step of {batch:,}")
    if not (run.warmup >= 0 and run.decay >= 0):  # a rate below 0 would follow
        raise ValueError("--warmup and --decay are numbers of tokens: 0 or more")
    if run.warmup + run.decay > run.total:
        raise ValueError(
            f"warm-up ({run.warmup:,.0f} tokens) and decay ({run.decay:,}) are longer than the run ({run.total:,}): "
            "give more --tokens, or a smaller --warmup or --decay"
        )
    # the step at which the rate begins to fall need not end there: the plan of the state itself always holds
    changed = (run.total, run.decay) != (state["total"], state["decay"])
    if state["decaying"] and changed:
        raise ValueError(
            f"the learning rate of this run has begun to fall: continue with --tokens {state['total']} --decay "
            f"{state['decay']}, or rename {run.out}/stable.pt to state.pt to make the run longer"
        )
    if changed and run.decay and state["tokens"] > run.total - run.decay:
        raise ValueError(
            f"the run has {state['tokens']:,} tokens behind it: a decay over {run.decay:,} needs --tokens "
            f"{state['tokens'] + run.decay} or more"
        )
    state |= {"total": run.total, "decay": run.decay}


def pretrain(run):
    """A whole run, or what is left of it; whether it is finished."""
    settle(run)
    prepare(run)
    model, loss = make_model(run)
    optimizers = make_optimizers(model, run)
    state = first_alone(run, lambda: load_state(run.out, run.identity))
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


def positive(text):
    """A number above 0, for argparse."""
    if not (number := float(text)) > 0:
        raise ValueError
    return number


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
    add("--out", type=Path, required=True, help="folder for tokens, log, state and model")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=positive, help="how many tokens to train on, such as 25e6")
    budget.add_argument("--minutes", type=positive, help="or how long, at the speed measured first")
    add("--layers", type=int, default=6)
    add("--width", type=int, default=256)
    add("--heads", type=int, default=8)
    add("--context", type=int, default=256)
    add("--batch", type=batch, nargs="+", default=[(8192, 0)], metavar="SIZE[@TOKENS]",
        help="tokens in a step; SIZE@TOKENS after so many (default: 8192)")  # fmt: skip
    add("--piece", type=int, help="windows computed at a time (default: 8; on a GPU 64)")
    add("--optimizer", choices=("adamw", "muon"), default="adamw")
    add("--lr", type=float, default=2e-3, help="highest learning rate (default: 2e-3)")
    add("--warmup", type=float, dest="asked_warmup", metavar="TOKENS",
        help="until it is reached (default: 400,000, or a tenth of a short run)")  # fmt: skip
    add("--decay", type=float, dest="asked_decay", metavar="TOKENS",
        help="over the last so many it falls to 0 (default: a fifth of the run; 0: not yet)")  # fmt: skip
    add("--weight-decay", type=float, default=0.1)
    add("--clip", type=float, default=1.0, help="the longest that a gradient may be")
    add("--worksheets", type=float, default=0.0, help="share of structured text in the stream")
    add("--knowledge", type=float, default=0.0, help="share of stated facts in the stream")
    add("--file-tokens", type=float, default=1e6, help="tokens in a file of either")
    add("--tokenizer", type=Path, dest="tokenizer_file", metavar="FILE",
        help="as train_tokenizer.py writes it (default: the edition's)")  # fmt: skip
    add("--held-out", type=Path, default=HELD_OUT, help="list of works kept for validation")
    add("--valid", type=Path, nargs="+", default=[], dest="valid_text",
        help="further texts to validate with: folders or files")  # fmt: skip
    add("--seed", type=int, default=123)
    add("--weights", type=Path, help="a model.safetensors to begin with")
    add("--log-tokens", type=positive, default=1e6, help="tokens between two rows of log.csv")
    add("--valid-windows", type=int, default=128, help="measured for a row; for the last one all")
    add("--save-minutes", type=float, default=5, help="minutes between two saves")
    add("--device", default="auto", help="cpu, cuda, ... (default: cuda where there is one)")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto")
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
