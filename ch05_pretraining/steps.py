"""One step of pretrain.py, alone or as one of several processes, and what a step costs."""

import math
import time
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import nn


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


def finished(run, state):
    """Whether the next step would pass the budget."""
    return state["tokens"] + batch_at(state["tokens"], run.batches) > run.total
