"""Measuring: how long a computation takes, how much memory it holds at a time, and what is fast here."""

import os
import sys
import time
from contextlib import contextmanager

import torch


@contextmanager
def _silent_stderr():
    """PyTorch's profiler reports its start and stop on stderr, below Python; keep that from notebooks."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_megabytes(step):
    """The most memory, in MB, that PyTorch's CPU allocator holds during `step()`, beyond what it held before.

    From the allocator's own record, so buffers inside compiled kernels count, too.
    Example: `peak_megabytes(lambda: torch.ones(1_000_000))` is 4.0.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=activities, profile_memory=True) as record,
    ):
        step()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 1e6


def milliseconds(run, rounds=10):
    """The fastest of some rounds of `run()`: what else the machine does can only make it slower."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return round(1000 * min(times), 2)


def fast_in_bf16(device):
    """Whether products in bfloat16 are faster than in float32; some CPUs take 30 times as long for them."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
