"""How fast chapter 2's code is, and how much memory it takes.

    python benchmarks/text_data_speed.py [--corpus FOLDER] [--megabytes 100]

Byte pair encoding: `train_bpe` against `train_bpe_simple` on the story, and 1,000 merges on 1 MB.
Data loader: `GPTDatasetV1` on a large text, against windows kept in lists, which is the usual first
way to write it; those are measured on a 20th of the text, and the figures multiplied. Each has
a process of its own. Without a corpus, the text is made-up words. For Linux and macOS.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import itertools
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

WINDOW, STRIDE, BATCH, ROUNDS, SLICE = 256, 128, 8, 3, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, help="folder of *.txt and *.txt.gz")
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--only", help=argparse.SUPPRESS)  # what a process of its own is to measure
    parser.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.corpus and not options.corpus.is_dir():
        parser.error(f"there is no folder {options.corpus}")
    if options.only:
        return print(json.dumps(MEASURES[options.only](options)))
    with tempfile.TemporaryDirectory() as folder:
        options.text = Path(folder) / "text.txt"
        # this process stays small: Linux hands the size of a parent on to its children's peak
        text = measure("text", options)
        print(f"text: {text['MB']:.1f} MB from {options.corpus or 'made-up words'}\n")
        seconds = measure("bpe", options)
        print(f"train_bpe_simple, 300 merges on the story {seconds['simple']:8.3f} s")
        print(f"train_bpe, the same {seconds['fast']:30.3f} s")
        print(f"train_bpe, 1,000 merges on 1 MB {seconds['large']:18.3f} s\n")
        ours, lists = measure("ours", options), measure("lists", options)
        print(f"{'windows of 256, stride 128':30}{'start-up':>12}{'memory':>14}{'batches/s':>12}")
        row("GPTDatasetV1", ours, 1)
        row(f"lists, on 1/{SLICE} of the text", lists, 1)
        row(f"lists, times {SLICE} (not run)", lists, SLICE)
        print(f"\nGPTDatasetV1: {ours['tokens']:,} tokens, {ours['windows']:,} windows.")
        print(f"Memory: peak of the process, less the {ours['before']:,.0f} MiB it held before.")


def measure(what: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--only", what, "--text", options.text]
    command += ["--megabytes", str(options.megabytes)]
    command += ["--corpus", options.corpus] if options.corpus else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(1)  # the measurement has said why
    return json.loads(done.stdout)


def row(name: str, figures: dict, times: int) -> None:
    speed = f"{figures['speed']:10,.0f}" if times == 1 else "-"
    start, memory = figures["start"] * times, figures["memory"] * times
    print(f"{name:30}{start:10.1f} s{memory:10,.0f} MiB{speed:>12}")


def write_text(options: argparse.Namespace) -> dict:
    """So many MB of the corpus, or of words drawn like real ones: few often, most of them rarely."""
    if options.corpus:
        from shared.corpus import read_documents
        from shared.encodings import END_OF_TEXT

        text = END_OF_TEXT.join(document.text for document in read_documents(options.corpus))
    else:
        draw = random.Random(123)
        parts = [a + b for a in "bcdfglmnprst" for b in ("a", "e", "i", "o", "ou", "ing", "er")]
        words = ["".join(draw.choices(parts, k=draw.randint(1, 4))) for _ in range(30_000)]
        weights = [1 / rank for rank in range(1, len(words) + 1)]
        text = " ".join(draw.choices(words, weights, k=int(options.megabytes * 2e5)))
    data = text.encode()[: int(options.megabytes * 1e6)]  # readers drop half a letter at the end
    return {"MB": options.text.write_bytes(data) / 1e6}


def bpe(options: argparse.Namespace) -> dict:
    from shared import editions
    from shared.text_data import train_bpe, train_bpe_simple

    story = editions.STORY.read_text(encoding="utf-8")
    megabyte = options.text.read_bytes()[:1_000_000].decode(errors="ignore")
    jobs = {"simple": (train_bpe_simple, story, 556), "fast": (train_bpe, story, 556)}
    jobs["large"] = (train_bpe, megabyte, 1256)
    seconds, ranks = {name: [] for name in jobs}, {}
    for _ in range(ROUNDS):  # in turns, so that a busy moment hits all of them
        for name, (train, text, size) in jobs.items():
            start = time.perf_counter()
            ranks[name] = train(text, size, ())
            seconds[name].append(time.perf_counter() - start)
    if ranks["simple"] != ranks["fast"]:
        sys.exit("train_bpe and train_bpe_simple do not agree")
    return {name: statistics.median(times) for name, times in seconds.items()}


def loader(options: argparse.Namespace, share: int) -> dict:
    """Start-up, memory and speed of the course's loader, or, for a share of the text, of lists."""
    import torch
    from torch.utils.data import DataLoader

    from shared import encodings
    from shared.text_data import create_dataloader_v1

    tokenizer = encodings.tokenizer()
    with options.text.open("rb") as file:
        text = file.read(options.text.stat().st_size // share).decode(errors="ignore")
    torch.manual_seed(123)
    before = psutil.Process().memory_info().rss / 2**20
    start = time.perf_counter()
    if share == 1:
        batches = create_dataloader_v1(text, BATCH, WINDOW, STRIDE, tokenizer=tokenizer)
        tokens = len(batches.dataset.token_ids)
    else:
        ids = tokenizer.encode(text, allowed_special="all")
        starts = range(0, len(ids) - WINDOW, STRIDE)
        inputs = [torch.tensor(ids[i : i + WINDOW]) for i in starts]
        targets = [torch.tensor(ids[i + 1 : i + WINDOW + 1]) for i in starts]
        batches = DataLoader(list(zip(inputs, targets, strict=True)), BATCH, True, drop_last=True)
        tokens = len(ids)
    figures = {"start": time.perf_counter() - start, "before": before}
    figures |= {"tokens": tokens, "windows": len(batches.dataset)}
    start, count = time.perf_counter(), sum(1 for _ in itertools.islice(batches, 500))
    figures["speed"] = count / (time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures["memory"] = peak * (1 if sys.platform == "darwin" else 1024) / 2**20 - before
    return figures


MEASURES = {
    "text": write_text,
    "bpe": bpe,
    "ours": lambda options: loader(options, 1),
    "lists": lambda options: loader(options, SLICE),
}

if __name__ == "__main__":
    main()
