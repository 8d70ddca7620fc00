"""Train appendix A's network on the rings: in one process or in several, on CPUs or on GPUs, unchanged.

    python appendix_a_pytorch/ddp_training.py
    torchrun --nproc_per_node=2 appendix_a_pytorch/ddp_training.py

torchrun starts the processes and tells each of them, in environment variables, which one it is. Every process
works on its share of every batch, and DistributedDataParallel makes the gradients of all of them equal to
those of the whole batch. So both commands end with the same weights, but for rounding.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import os
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path

import safetensors.torch
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from shared.finite import checked_loss
from shared.pytorch import NeuralNetwork, ToyDataset, compute_accuracy, make_rings

PATIENCE = timedelta(seconds=60)  # for a process that neither answers nor dies
ALONE = "ddp_training: another process of this run has died or does not answer; this one ends, too"


def choose_device(local_rank, local_world_size):
    """`(device, backend)`: a GPU for each process of this machine, or the CPU if there are not enough."""
    if torch.cuda.device_count() >= local_world_size:
        return torch.device("cuda", local_rank), "nccl"
    return torch.device("cpu"), "gloo"


def ddp_setup():
    """Meet the other processes that torchrun started, if it did: `(rank, world_size, device, backend)`."""
    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    rank, world_size, *local = (int(os.environ.get(name, alone)) for name, alone in names.items())
    device, backend = choose_device(*local)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if world_size > 1:
        dist.init_process_group(backend, timeout=PATIENCE)
    return rank, world_size, device, backend


def prepare_dataset(batch_size, rank, world_size):
    """Loaders of this process's share of each training batch, and of the whole test set.

    Raises ValueError for a batch that cannot be shared equally: a mean of means would not be its mean.
    """
    if batch_size % world_size:
        raise ValueError(
            f"a batch of {batch_size} cannot be shared equally by {world_size} processes"
        )
    train_ds = ToyDataset(*make_rings(320, seed=123))
    test_ds = ToyDataset(*make_rings(200, seed=7))
    # every process shuffles alike, by the seed, and then takes each world_size-th example
    sampler = DistributedSampler(train_ds, world_size, rank, seed=123, drop_last=True)
    share = batch_size // world_size
    train_loader = DataLoader(train_ds, batch_size=share, sampler=sampler, drop_last=True)
    return train_loader, DataLoader(test_ds, batch_size=len(test_ds))


def train(model, loader, device, num_epochs, lr=0.1):
    """Train the model in place; returns the gradients of the first step, by the parameters' names."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    first = {}
    for epoch in range(num_epochs):
        loader.sampler.set_epoch(epoch)  # else every epoch would have the first one's order
        for features, labels in loader:
            loss = checked_loss(F.cross_entropy(model(features.to(device)), labels.to(device)))
            optimizer.zero_grad()
            loss.backward()  # under DDP: and the gradients of all processes are averaged
            first = first or {name: p.grad.clone() for name, p in model.named_parameters()}
            optimizer.step()
    return first


def stop(*signal_and_frame):
    """End this process in one line: what torchrun asks of the others, by SIGTERM, when one has died."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may ask while this process is ending
    sys.exit(ALONE)


def run(rank, world_size, device, backend, options):
    """Train in this process, say how it went, and store gradients and weights where that is asked for."""
    train_loader, test_loader = prepare_dataset(options.batch_size, rank, world_size)
    about = f"process {rank} of {world_size} (pid {os.getpid()}): {device}, {backend}"
    # in one piece, lest two processes write into each other's lines
    sys.stdout.write(
        f"{about}, {train_loader.batch_size} of {options.batch_size} examples a step\n"
    )
    sys.stdout.flush()
    torch.manual_seed(123 + rank)  # seeds may differ: DDP sends the weights of process 0 to all
    model = NeuralNetwork(2, 2).to(device)
    trained = DistributedDataParallel(model) if world_size > 1 else model
    gradients = train(trained, train_loader, device, options.epochs)
    if options.out:
        tensors = {f"weight.{name}": p.detach() for name, p in model.named_parameters()}
        tensors |= {f"gradient.{name.removeprefix('module.')}": g for name, g in gradients.items()}
        options.out.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(tensors, options.out / f"process-{rank}.safetensors")
    if rank == 0:
        accuracy = compute_accuracy(model.cpu(), test_loader)
        print(f"test accuracy after {options.epochs} epochs: {accuracy:.2f}", flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32, help="of all processes together")
    parser.add_argument("--out", type=Path, help="folder for each process's gradients and weights")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, stop)
    rank, world_size, device, backend = ddp_setup()
    try:
        run(rank, world_size, device, backend, options)
    except ValueError as error:
        sys.exit(f"ddp_training: {error}" if rank == 0 else 1)
    except RuntimeError as error:  # gloo has no error of its own for a lost connection
        if isinstance(error, dist.DistError) or re.search("by peer|[Tt]imed out", str(error)):
            stop()
        raise
    if world_size > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
