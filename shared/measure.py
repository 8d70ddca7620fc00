"""Measuring: how long a computation takes, and how much memory it holds at a time."""

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
