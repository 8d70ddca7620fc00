"""appendix_a_pytorch/ddp_training.py: two processes do what one does, and a dead one takes the run with it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from shared.pytorch import NeuralNetwork, make_rings

SCRIPT = Path(__file__).parent.parent / "appendix_a_pytorch" / "ddp_training.py"
sys.path.insert(0, str(SCRIPT.parent))
import ddp_training  # noqa: E402

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


def start(*arguments, before=()):
    """The script as its own process or, with TORCHRUN before, as several."""
    command = [sys.executable, *before, str(SCRIPT), *map(str, arguments)]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=alone, **pipes)


def finished(process):
    """What it printed; a process that has not ended after ten minutes is hanging, and is killed."""
    try:
        return process.communicate(timeout=600)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def stored(folder, rank=0):
    return safetensors.torch.load_file(folder / f"process-{rank}.safetensors")


def by_hand(num_epochs, lr=0.1):
    """The training of a single process, with no loader, sampler or optimizer: its tensors as stored."""
    torch.manual_seed(123)
    model = NeuralNetwork(2, 2)
    X, y = make_rings(320, seed=123)
    tensors = {}
    for epoch in range(num_epochs):
        order = torch.randperm(320, generator=torch.Generator().manual_seed(123 + epoch))
        for batch in order.split(32):
            model.zero_grad()
            F.cross_entropy(model(X[batch]), y[batch]).backward()
            for name, p in model.named_parameters():
                tensors.setdefault(f"gradient.{name}", p.grad.clone())  # the first step's
                p.data -= lr * p.grad
    return tensors | {f"weight.{name}": p.detach() for name, p in model.named_parameters()}


def gap(one, other):
    assert one.keys() == other.keys()
    return max((one[name] - other[name]).abs().max().item() for name in one)


def test_two_processes_do_what_one_does(tmp_path):
    process = start("--epochs", 3, "--out", tmp_path, before=TORCHRUN)
    printed, errors = finished(process)
    assert process.returncode == 0, errors
    for rank in (0, 1):
        line = rf"process {rank} of 2 \(pid \d+\): cpu, gloo, 16 of 32 examples a step\n"
        assert re.search(line, printed)
    assert printed.count("test accuracy after 3 epochs") == 1
    first, second, expected = stored(tmp_path, 0), stored(tmp_path, 1), by_hand(3)
    assert gap(first, second) == 0
    assert len(expected) == 2 * 6
    assert gap(first, expected) < 1e-5  # 30 steps in 32 bits, sums in another order
    moved = NeuralNetwork(2, 2).state_dict()
    assert all((first[f"weight.{n}"] - t).abs().max() > 1e-2 for n, t in moved.items())


def test_one_process_needs_no_torchrun(tmp_path):
    process = start("--epochs", 3, "--out", tmp_path)
    printed, errors = finished(process)
    assert process.returncode == 0 and not errors, errors
    assert "process 0 of 1" in printed and "32 of 32 examples a step" in printed
    assert gap(stored(tmp_path), by_hand(3)) < 1e-5


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no kill -9")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_run_and_leaves_no_process(victim):
    process, pids = start("--epochs", 100_000, before=TORCHRUN), {}
    try:
        while len(pids) < 2 and (line := process.stdout.readline()):
            rank, pid = re.match(r"process (\d) of 2 \(pid (\d+)\)", line).groups()
            pids[int(rank)] = int(pid)
        assert len(pids) == 2, process.stderr.read()
        os.kill(pids[victim], signal.SIGKILL)
        printed, errors = finished(process)
    finally:  # whatever went wrong, nothing of this test may go on computing
        left = [pid for pid in pids.values() if is_alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        process.kill()
    assert left == []
    assert process.returncode == 1
    assert f"Signal 9 (SIGKILL) received by PID {pids[victim]}" in errors
    assert errors.count(ddp_training.ALONE) == 1  # the other one says why it stops
    assert 'ddp_training.py", line' not in errors  # and has no traceback
    assert "accuracy" not in printed


@pytest.mark.parametrize(
    "gpus, rank, processes, device, backend",
    [
        (0, 0, 1, "cpu", "gloo"),
        (0, 1, 2, "cpu", "gloo"),
        (1, 0, 1, "cuda:0", "nccl"),
        (1, 1, 2, "cpu", "gloo"),  # nccl wants a GPU for each process
        (2, 1, 2, "cuda:1", "nccl"),
        (8, 3, 4, "cuda:3", "nccl"),
    ],
)
def test_a_gpu_for_each_process_or_the_cpu(monkeypatch, gpus, rank, processes, device, backend):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert ddp_training.choose_device(rank, processes) == (torch.device(device), backend)


def test_the_shares_of_a_batch_are_the_batch():
    whole, _ = ddp_training.prepare_dataset(32, 0, 1)
    shares = [ddp_training.prepare_dataset(32, rank, 4)[0] for rank in range(4)]
    orders = []
    for epoch in range(2):
        for loader in [whole, *shares]:
            loader.sampler.set_epoch(epoch)
        orders.append(torch.cat([features for features, _ in whole]))
        for batch, *parts in zip(whole, *shares, strict=True):
            together = torch.stack([features for features, _ in parts], dim=1).flatten(0, 1)
            assert together.equal(batch[0])
    assert not orders[0].equal(orders[1]) and len(orders[0]) == 320


def test_a_batch_that_cannot_be_shared_equally_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="a batch of 33 cannot be shared equally by 2 processes"):
        ddp_training.prepare_dataset(33, 0, 2)
    for rank, code in [(0, "ddp_training: a batch of 33"), (1, "1")]:
        setup = (rank, 2, torch.device("cpu"), "gloo")
        monkeypatch.setattr(ddp_training, "ddp_setup", lambda: setup)
        monkeypatch.setattr(signal, "signal", lambda *given: None)
        with pytest.raises(SystemExit) as stopped:
            ddp_training.main(["--batch-size", "33"])
        assert str(stopped.value.code).startswith(code)  # said once, by process 0


def lost(*given):
    raise RuntimeError("Connection closed by peer [127.0.0.1]:57478")


def broken(*given):
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_only_a_lost_connection_is_taken_for_one(monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    monkeypatch.setattr(ddp_training, "train", lost)
    with pytest.raises(SystemExit, match="another process of this run has died"):
        ddp_training.main([])
    monkeypatch.setattr(ddp_training, "train", broken)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        ddp_training.main([])
