"""Train a GPTModel on a folder of plain text: chapter 5's loop, made for runs of hours.

    python ch05_pretraining/pretrain.py --corpus FOLDER --out RUN --tokens 25e6
    torchrun --nproc-per-node 2 ch05_pretraining/pretrain.py --corpus FOLDER --out RUN --tokens 25e6

FOLDER holds plain text, as `shared/corpus.py` says. RUN gets the tokens (*.npy), log.csv, the state of the
training (state.pt and the one before) and the model (model.safetensors, in half precision, and config.json).
The same command continues a run that was stopped or killed, with the losses that it would have had; another
run can begin with its model (--weights RUN/model.safetensors --seed 124). Under torchrun all machines must see
both folders.
"""

import argparse
import csv
import functools
import hashlib
import io
import json
import math
import os
import shutil
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
from torch import nn
from tqdm import tqdm

from shared import editions
from shared.attention import future_mask
from shared.corpus import END_OF_TEXT, read_documents, sample
from shared.gpt_model import GPTModel, evaluation_mode
from shared.pretraining import bits_per_byte, initialise, learning_rate, parameter_groups

SPLIT_SEED = 123  # of the works held out: no --seed may train on what another run validates with

# --- files that are whole or not there ------------------------------------------------------------


@contextmanager
def landing(path, keep=None):
    """A binary file that takes its place only when complete; the old one then becomes `keep`."""
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


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


def save_model(out, model, cfg):
    """Write the weights in half precision, a tied matrix once, and the configuration."""
    weights = {name: tensor.half().cpu() for name, tensor in model.state_dict().items()}
    del weights["out_head.weight"]  # which is tok_emb.weight
    with landing(out / "model.safetensors") as file:
        file.write(safetensors.torch.save(weights))
    with landing(out / "config.json") as file:
        file.write((json.dumps(cfg, indent=2) + "\n").encode())


def save_log(out, rows):
    """Write log.csv anew: a column for each thing that some row measured."""
    text = io.StringIO(newline="")
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with landing(out / "log.csv") as file:
        file.write(text.getvalue().encode())


# --- tokens ---------------------------------------------------------------------------------------


def checksum(*parts):
    """A short name for some content: the first 12 digits of a SHA-256."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def vocabulary(tokenizer):
    """The bytes that each token stands for, in the order of the IDs; none for `<|endoftext|>`."""
    tokens = [tokenizer.decode_single_token_bytes(i) for i in range(tokenizer.n_vocab)]
    tokens[tokenizer.eot_token] = b""
    return tokens


def save_tokens(path, texts, tokenizer, enough=math.inf):
    """Tokenise texts, or `enough` of them, into one uint16 array: `<|endoftext|>` before each and at the end."""
    parts, count = [end := np.array([tokenizer.eot_token], dtype=np.uint16)], 1
    for text in texts:
        parts += [tokenizer.encode_to_numpy(text, disallowed_special=()).astype(np.uint16), end]
        if (count := count + len(parts[-2]) + 1) >= enough:
            break
    with landing(path) as file:
        np.save(file, np.concatenate(parts))


def prepare_corpus(corpus, out, tokenizer, held_out):
    """Files of tokens, `(to train on, to validate with)`; made once for the same corpus and tokenizer.

    Whole works are held out: by default the very ones that train_tokenizer.py kept out, too.
    """
    files = [path for path in sorted(Path(corpus).glob("*")) if path.is_file()]
    content = [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]
    key = f"{checksum(content, held_out, SPLIT_SEED)}-{checksum(vocabulary(tokenizer))}"
    out.mkdir(parents=True, exist_ok=True)
    for left_over in out.glob("*.unfinished-*"):  # by a run that was killed
        left_over.unlink()
    paths = out / f"train-{key}.npy", out / f"valid-{key}.npy"
    if not all(path.exists() for path in paths):
        documents = sample(read_documents(corpus), math.inf, held_out, SPLIT_SEED)
        for path, part in zip(paths, documents):
            save_tokens(path, (document.text for document in part), tokenizer)
    return paths


def prepare_worksheets(out, tokenizer, needed, seed):
    """A file of at least `needed` tokens of structured text from worksheets.py."""
    import worksheets  # beside this script

    content = [path.read_bytes() for path in worksheets.SOURCES]
    key = f"{checksum(content, needed, seed)}-{checksum(vocabulary(tokenizer))}"
    path = out / f"worksheets-{key}.npy"
    if not path.exists():
        save_tokens(path, worksheets.documents(seed), tokenizer, enough=needed)
    return path


class Windows:
    """Windows of T + 1 tokens without end. The n-th is always the same: its number is all there is to store.

    Every epoch cuts the tokens at another offset and shuffles anew. ValueError for too few tokens.
    """

    def __init__(self, path, length, seed):
        self.tokens, self.length, self.seed = np.load(path, mmap_mode="r"), length, seed
        self.per_epoch, self.epoch = (len(self.tokens) - 1) // length - 1, None
        if self.per_epoch < 1:
            least = f"windows of {length} need at least {2 * length + 1}"
            raise ValueError(f"{path} has only {len(self.tokens)} tokens: {least}")

    def __getitem__(self, n):
        """Inputs and targets in one, `(T + 1,)` int64."""
        epoch, place = divmod(n, self.per_epoch)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self.offset = int(torch.randint(self.length, (), generator=generator))
            self.order = torch.randperm(self.per_epoch, generator=generator)
            self.epoch = epoch
        start = self.offset + int(self.order[place]) * self.length
        return torch.from_numpy(self.tokens[start : start + self.length + 1].astype(np.int64))


def mixed(prose, sheets, share, n):
    """The n-th window of a run; a `share` of all, evenly spread, comes from `sheets`."""
    before = math.floor(n * share)
    return sheets[before] if math.floor((n + 1) * share) > before else prose[n - before]


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
    """`(nats per token, bits per byte)` over a token array, in windows side by side, or `most` of them.

    Bits per byte = total nats / ln 2 / bytes predicted, whatever the tokenizer. `byte_counts`: `(V,)`.
    """
    starts = range(0, len(tokens) - context, context)
    starts = starts[:: math.ceil(len(starts) / most)] if most else starts
    loss, nats, targets = Loss(model), 0.0, []
    with evaluation_mode(model), autocast():
        for i in range(0, len(starts), batch):
            rows = [tokens[s : s + context + 1].astype(np.int64) for s in starts[i : i + batch]]
            windows = torch.from_numpy(np.stack(rows))
            nats += loss(windows.to(next(model.parameters()).device)).item()
            targets.append(windows[:, 1:].flatten())
    targets = torch.cat(targets)
    return nats / len(targets), bits_per_byte(nats, byte_counts[targets].sum().item())


def copying_measures(run, model, sequences):
    """How well the model copies from its context, by copying.py; nothing where there is nothing to copy."""
    import copying  # beside this script

    ids, found = copying.ordinary_tokens(run.tokenizer), {}
    texts = run.tokenizer.decode(run.valid.tolist()).split(END_OF_TEXT)
    passages = copying.passages_with_names(texts, run.tokenizer, count=sequences)
    with run.autocast(), suppress(ValueError):  # a vocabulary or works without what is asked for
        if run.context >= 199:
            found["repeated_tokens"] = round(copying.repeated_tokens(model, ids, sequences), 4)
            names = copying.returning_names(model, run.tokenizer, passages, run.context)
            found["returning_names"] = round(names, 4)
    return found


# --- one step, alone or as one of several processes -----------------------------------------------


def own_windows(run, step):
    """This process's equal slice of a step's batch, `(B / processes, T + 1)`."""
    count = run.windows // run.world
    first = step * run.windows + run.rank * count
    share = run.worksheets if run.sheets else 0
    return torch.stack(
        [mixed(run.prose, run.sheets, share, n) for n in range(first, first + count)]
    )


def backward(loss, windows, run):
    """Add up the gradients of the batch's mean loss that come from these windows; returns their nats.

    In pieces, because the logits of a whole batch are large.
    """
    nats, pieces = 0.0, windows.to(run.device).split(run.piece)
    for i, piece in enumerate(pieces):
        # DistributedDataParallel averages over processes, and needs to do so only once
        apart = run.world > 1 and i < len(pieces) - 1
        with loss.no_sync() if apart else nullcontext():
            with run.autocast():
                found = loss(piece)
            (found * run.world / run.batch).backward()
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
    tokens = (state["step"] + 1) * run.batch
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(tokens, state["total"], run.warmup, run.lr)
    nats = backward(loss, own_windows(run, state["step"]), run)
    nats, stops = over_all(run, nats, len(asked))  # all processes stop after the same step
    if not math.isfinite(nats):
        raise ValueError(f"the loss is no longer finite after {tokens:,} tokens: lower --lr")
    nn.utils.clip_grad_norm_(loss.parameters(), run.clip)
    for optimizer in optimizers:
        optimizer.step()
    loss.zero_grad(set_to_none=True)
    state.update(step=state["step"] + 1, nats=state["nats"] + nats, since=state["since"] + 1)
    return stops > 0


def measure_speed(loss, run, seconds):
    """Tokens a second that training will make: gradients are computed and dropped, no weight moves."""
    backward(loss, own_windows(run, 0), run)  # compiles, where asked to
    start, steps, elapsed = time.monotonic(), 0, 0.0
    while elapsed < seconds:
        backward(loss, own_windows(run, steps), run)
        steps += 1
        elapsed = sum(over_all(run, (time.monotonic() - start) / run.world))
    loss.zero_grad(set_to_none=True)
    return run.batch * steps / elapsed


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


def add_row(run, model, state):
    """Measure the model and add a row to the log; the last one on all of the validation text."""
    tokens, spent = state["step"] * run.batch, state["seconds"] - state["row_seconds"]
    last = tokens >= state["total"]
    most = None if last else run.valid_windows
    valid, bits = evaluate(model, run.valid, run.byte_counts, run.context, most, run.autocast)
    row = {
        "tokens": tokens,
        "train_loss": round(state["nats"] / state["since"] / run.batch, 6),
        "valid_loss": round(valid, 6),
        "bits_per_byte": round(bits, 6),
        "lr": round(learning_rate(tokens, state["total"], run.warmup, run.lr), 8),
        "tokens_per_second": round(state["since"] * run.batch / spent),
        "seconds": round(state["seconds"]),
    } | copying_measures(run, model, 200 if last else 50)
    state.update(rows=[*state["rows"], row], nats=0.0, since=0)


def save_all(run, model, optimizers, state):
    """Write state, model and log."""
    parts = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
    save_state(run.out, state | parts)
    save_model(run.out, model, run.cfg)
    save_log(run.out, state["rows"])


def train(run, model, loss, optimizers, state):
    """Steps until the tokens are spent (True) or someone asks to stop (False)."""
    begun, saved = time.monotonic() - state["seconds"], time.monotonic()
    bar = tqdm(
        total=state["total"],
        initial=state["step"] * run.batch,
        unit=" tokens",
        unit_scale=True,
        smoothing=0.05,
        mininterval=0.5 if sys.stderr.isatty() else 60,
        disable=run.rank > 0,
    )
    stop, finished = False, state["step"] * run.batch >= state["total"]
    with bar, stop_requests() as asked:
        while not (stop or finished):
            stop = train_step(loss, optimizers, state, run, asked)
            finished = state["step"] * run.batch >= state["total"]
            state["seconds"] = time.monotonic() - begun
            if run.rank > 0:
                continue  # the first process measures and saves; the others wait in the next step
            bar.update(run.batch)
            bar.set_postfix(loss=f"{state['nats'] / state['since'] / run.batch:.3f}", refresh=False)
            if finished or state["step"] % max(1, round(run.log_tokens / run.batch)) == 0:
                add_row(run, model, state)
                state["row_seconds"] = state["seconds"] = time.monotonic() - begun
            if stop or finished or time.monotonic() - saved >= 60 * run.save_minutes:
                try:
                    save_all(run, model, optimizers, state)
                except OSError as error:
                    if stop or finished:
                        raise
                    bar.write(f"pretrain: {error}; going on", file=sys.stderr)
                saved = time.monotonic()
    return finished


def attend_by_products(queries, keys, values):
    """Causal attention as two batched products: `(B, H, T, D)` three times -> `(B, H, T, D)`.

    On a CPU in bf16 this is 1.5 times as fast at 256 tokens as PyTorch's fused kernel, and takes more memory.
    """
    T, D = queries.shape[-2:]
    hidden = torch.zeros(T, T, dtype=queries.dtype).masked_fill(future_mask(T, T), -torch.inf)
    scores = torch.baddbmm(hidden, queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=D**-0.5)
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    return weights.bmm(values.flatten(0, 1)).view(queries.shape)


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
        able = torch.cpu.get_capabilities()
        fast = gpu or able.get("avx512_bf16") or able.get("amx_bf16")
        run.precision = "bf16" if fast else "fp32"
    bf16 = run.precision == "bf16"
    run.autocast = functools.partial(torch.autocast, run.device.type, torch.bfloat16, enabled=bf16)
    run.piece = run.piece or (64 if gpu else 8)
    if run.compile is None:  # a minute of work, for 1.1 times the speed on a CPU
        long = (run.tokens or 0) >= 5e6 or (run.minutes or 0) >= 15
        run.compile = long and (gpu or shutil.which("g++") is not None)
    run.windows, rest = divmod(run.batch, max(1, run.context))
    if run.context < 1 or rest or run.windows < 1 or run.windows % run.world:
        each = f"{run.context} tokens x {run.world} processes"
        raise ValueError(f"--batch {run.batch} is not a multiple of {each}")
    if not 0 <= run.worksheets < 1:
        raise ValueError(f"--worksheets {run.worksheets} is no share: 0 or more, and below 1")


def prepare(run):
    """Add to the options what the functions above need: tokens, configuration, the run's identity."""
    run.tokenizer = editions.tokenizer()
    run.byte_counts = torch.tensor([len(token) for token in vocabulary(run.tokenizer)])
    given = run.corpus, run.out, run.tokenizer, run.held_out
    train_path, valid_path = first_alone(run, lambda: prepare_corpus(*given))
    run.prose, run.sheets = Windows(train_path, run.context, run.seed), None
    run.valid = np.load(valid_path, mmap_mode="r")
    if len(run.valid) <= run.context:
        raise ValueError(f"the {run.held_out} works held out have only {len(run.valid)} tokens")
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
    chosen = "tokens minutes optimizer batch lr warmup weight_decay clip worksheets seed".split()
    run.identity = run.cfg | {name: getattr(run, name) for name in chosen}
    run.identity |= {"corpus-tokenizer": train_path.stem.removeprefix("train-")}
    run.identity |= {"weights": run.weights and checksum(run.weights.read_bytes())}


def make_model(run):
    """`(model, its loss as a module)`; the loss is compiled and distributed where asked to."""
    torch.manual_seed(run.seed)
    model = GPTModel(run.cfg).to(run.device)
    initialise(model)
    if run.weights:
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
    muon = functools.partial(torch.optim.Muon, adjust_lr_fn="match_rms_adamw")
    return [muon(inner, run.lr, run.weight_decay), adamw([outer, vectors])]


def new_state(run, loss):
    """The state before the first step. Minutes become tokens here, once and for all."""
    tokens = run.tokens
    if run.minutes:
        tokens = 60 * run.minutes * measure_speed(loss, run, seconds=min(20, 6 * run.minutes))
    total = int(tokens // run.batch * run.batch)
    if total < run.batch:
        raise ValueError(f"the budget of {tokens:,.0f} tokens is below one step of {run.batch:,}")
    zero = {"step": 0, "nats": 0.0, "since": 0, "seconds": 0.0, "row_seconds": 0.0, "rows": []}
    return {"identity": run.identity, "total": total} | zero


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
        state = new_state(run, loss)
        if run.worksheets:
            needed = math.ceil(state["total"] * run.worksheets) + 3 * run.context
            given = run.out, run.tokenizer, needed, run.seed
            state["sheets"] = first_alone(run, lambda: prepare_worksheets(*given)).name
        first_alone(run, lambda: save_all(run, model, optimizers, state))
    if run.worksheets:  # the very file, even if worksheets.py has changed since
        run.sheets = Windows(run.out / state["sheets"], run.context, run.seed)
    if run.rank == 0:
        size, done = sum(p.numel() for p in model.parameters()), state["step"] * run.batch
        print(
            f"{size:,} parameters, {state['total']:,} tokens ({done:,} done), {run.device}, "
            f"{run.precision}{', compiled' if run.compile else ''}, {run.world} process(es)"
        )
    finished = train(run, model, loss, optimizers, state)
    if run.world > 1:
        dist.barrier()  # who leaves early tears the connections of those who still save
    if run.rank == 0 and finished:
        print(f"{run.out}: {', '.join(f'{k} {v}' for k, v in state['rows'][-1].items())}")
    return finished


def positive(text):
    """A number above 0, for argparse."""
    if not (number := float(text)) > 0:
        raise ValueError
    return number


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--corpus", type=Path, required=True, help="folder of *.txt and *.txt.gz")
    add("--out", type=Path, required=True, help="folder for tokens, log, state and model")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--tokens", type=positive, help="how many tokens to train on, such as 25e6")
    budget.add_argument("--minutes", type=positive, help="or how long, at the speed measured first")
    add("--layers", type=int, default=6)
    add("--width", type=int, default=256)
    add("--heads", type=int, default=8)
    add("--context", type=int, default=256)
    add("--batch", type=int, default=8192, help="tokens in a step (default: 8192)")
    add("--piece", type=int, help="windows computed at a time (default: 8; on a GPU 64)")
    add("--optimizer", choices=("adamw", "muon"), default="adamw")
    add("--lr", type=float, default=2e-3, help="highest learning rate (default: 2e-3)")
    add("--warmup", type=float, default=400_000, help="tokens until it is reached")
    add("--weight-decay", type=float, default=0.1)
    add("--clip", type=float, default=1.0, help="the longest that a gradient may be")
    add("--worksheets", type=float, default=0.0, help="share of structured text in the stream")
    add("--held-out", type=int, default=8, help="works kept for validation (default: 8)")
    add("--seed", type=int, default=123)
    add("--weights", type=Path, help="a model.safetensors to begin with")
    add("--log-tokens", type=float, default=1e6, help="tokens between two rows of log.csv")
    add("--valid-windows", type=int, default=128, help="measured for a row; for the last one all")
    add("--save-minutes", type=float, default=5, help="minutes between two saves")
    add("--device", default="auto", help="cpu, cuda, ... (default: cuda where there is one)")
    add("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    add("--compile", action=argparse.BooleanOptionalAction, help="default: for long runs")
    run = parser.parse_args(arguments, namespace=SimpleNamespace())
    try:
        finished = pretrain(run)
    except (ValueError, OSError) as error:
        sys.exit(f"pretrain: {error}" if os.environ.get("RANK", "0") == "0" else 1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    if not finished:
        sys.exit("pretrain: stopped and saved; the same command continues")


if __name__ == "__main__":
    main()
