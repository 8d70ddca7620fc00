"""What a run of pretrain.py decides before its first step: device, texts, identity, model, plan."""

import functools
import json
import os
import sys

import knowledge
import numpy as np
import torch
import torch.distributed as dist
import worksheets
from measuring import Loss
from mixture import (
    Mixture,
    Windows,
    Written,
    checksum,
    earlier_identities,
    identity_of,
    prepare_corpora,
    shares_of,
    vocabulary,
)
from steps import batch_at, finished, first_alone, measure_speed
from torch import nn

from shared import encodings, files
from shared.attention import future_mask
from shared.corpus import END_OF_TEXT, read_documents
from shared.gpt_model import GPTModel
from shared.lexicon import second_words
from shared.measure import fast_in_bf16
from shared.pretraining import initialize


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
    """All that the run reads, by name, and the share of each; returns the identity of the corpora."""
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
    run.earlier = functools.partial(earlier_identities, paths, valid)
    return identity_of(paths, valid)


def writers():
    """What the texts that programs write are functions of: `{name: tokenizer -> (write(seed), key)}`."""

    def key(paths, *more):
        return checksum([path.read_bytes() for path in paths], *more)

    def sheets(tokenizer):
        words, named = second_words(tokenizer), key(worksheets.SOURCES, vocabulary(tokenizer))
        return lambda seed: worksheets.documents(seed, words), named

    def facts(tokenizer):
        return knowledge.documents, key(knowledge.SOURCES, vocabulary(tokenizer))

    return {"worksheets": sheets, "knowledge": facts}


def prepare(run):
    """Add to the options what the rest of the run needs: texts, configuration, the run's identity."""
    file = run.tokenizer_file
    run.tokenizer = encodings.load_encoding(file) if file else encodings.tokenizer()
    run.tokenizer_file = file or encodings.COURSE_TOKENIZER
    run.byte_counts = torch.tensor([len(token) for token in vocabulary(run.tokenizer)])
    corpora = sources(run)
    run.cfg = {
        "vocab_size": run.tokenizer.n_vocab,
        "context_length": run.context,
        "emb_dim": run.width,
        "n_heads": run.heads,
        "n_layers": run.layers,
        "drop_rate": 0.0,  # what is read once or twice is not learned by heart
        "qkv_bias": True,  # as in OpenAI's GPT-2, so that tools for it read this model
        "tie_weights": True,
    }
    chosen = "optimizer lr weight_decay clip seed".split()
    run.identity = run.cfg | {name: getattr(run, name) for name in chosen}
    run.identity |= {"batch": str(run.batches), "warmup": run.asked_warmup, "corpora": corpora}
    run.identity |= {"tokenizer": encodings.tokenizer_name(run.cfg, run.tokenizer_file)}
    run.identity |= {"weights": run.weights and checksum(run.weights.read_bytes())}


def attend_by_products(queries, keys, values):
    """Causal attention as two batched products: `(B, H, T, D)` three times -> `(B, H, T, D)`.

    On a CPU in bf16 this is 1.5 times as fast at 256 tokens as PyTorch's fused kernel, and takes more memory.
    """
    T, D = queries.shape[-2:]
    hidden = torch.zeros(T, T, dtype=queries.dtype).masked_fill(future_mask(T, T), -torch.inf)
    scores = torch.baddbmm(hidden, queries.flatten(0, 1), keys.flatten(0, 1).mT, alpha=D**-0.5)
    weights = torch.softmax(scores, dim=-1, dtype=scores.dtype)
    return weights.bmm(values.flatten(0, 1)).view(queries.shape)


def make_model(run):
    """`(model, its loss as a module)`; the loss is compiled and distributed where asked to."""
    torch.manual_seed(run.seed)
    model = GPTModel(run.cfg).to(run.device)
    initialize(model)
    if run.weights:
        if (config := run.weights.with_name(files.CONFIG)).exists():
            named = json.loads(config.read_text(encoding="utf-8"))
            encodings.check_tokenizer(named, config.parent, run.tokenizer_file)
        try:
            model.load_state_dict(files.read_weights(run.weights))
        except RuntimeError as error:
            raise ValueError(f"{run.weights} does not fit: {str(error).splitlines()[-1]}") from None
    if run.device.type == "cpu" and run.precision == "bf16":
        for block in model.trf_blocks:
            block.att.attend = attend_by_products
    loss = torch.compile(Loss(model)) if run.compile else Loss(model)
    if run.world > 1:
        loss = nn.parallel.DistributedDataParallel(loss)
    return model, loss


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
