"""What makes pretraining fast on this machine: tokens per second of the course model, and the limit.

    python ch05_pretraining/pretrain_speed.py [--rounds 2] [--steps 12]

Short runs of ch05_pretraining/pretrain.py on text of our own, one after the other and round by round; the
best of each counts. The limit: the floating point operations of a token at the speed of the model's own
matrix products in bf16. Results go to pretrain_speed.csv. Nothing else should run meanwhile.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import csv
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import worksheets
from settling import attend_by_products

HERE = Path(__file__).parent

from shared.files import seal  # noqa: E402

LAYERS, WIDTH, CONTEXT, VOCAB, BATCH = 6, 256, 256, 4096, 8192
# a name, options of pretrain.py, processes
RUNS = [
    ("fp32, AdamW", "--precision fp32 --no-compile --optimizer adamw", 1),
    ("bf16, AdamW", "--precision bf16 --no-compile --optimizer adamw", 1),
    ("bf16, Muon", "--precision bf16 --no-compile --optimizer muon", 1),
    ("bf16, Muon, compiled", "--precision bf16 --compile --optimizer muon", 1),
    ("the same, in two processes", "--precision bf16 --compile --optimizer muon", 2),
]


def train(corpus: Path, options: str, processes: int, steps: int) -> float:
    """Tokens per second after the first row of the log, which holds the compiling."""
    with tempfile.TemporaryDirectory() as out:
        given = [HERE / "pretrain.py", "--corpus", corpus, "--out", out, *options.split()]
        given += ["--tokens", 2 * steps * BATCH, "--log-tokens", steps * BATCH]
        given += ["--held-out", corpus / "held_out.tsv", "--device", "cpu", "--valid-windows", 1]
        threads = str(torch.get_num_threads() // processes)
        run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
        command = [sys.executable, *(run if processes > 1 else []), *given]
        env = os.environ | {"OMP_NUM_THREADS": threads}
        subprocess.run(list(map(str, command)), check=True, capture_output=True, env=env)
        with open(Path(out, "log.csv"), newline="") as file:
            return float(list(csv.DictReader(file))[-1]["tokens_per_second"])


def seconds(job, times: int = 30) -> float:
    """The median time of a call."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        job()
        found.append(time.perf_counter() - start)
    return sorted(found)[times // 2]


def limit() -> float:
    """Tokens per second if nothing but the matrix products in bf16 took time, three for each in training."""
    rows, total = 8 * CONTEXT, 0.0
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
    for inner, outer in shapes * LAYERS + [(WIDTH, VOCAB)]:
        x = torch.randn(rows, inner, dtype=torch.bfloat16)
        weight = torch.randn(outer, inner, dtype=torch.bfloat16)
        total += 3 * seconds(lambda: F.linear(x, weight))
    return rows / total


def attention(fused: bool, dtype: torch.dtype) -> float:
    """Milliseconds of one layer's attention, there and back, for eight windows."""
    parts = [torch.randn(8, 8, CONTEXT, 32, dtype=dtype, requires_grad=True) for _ in range(3)]
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def job():
        found = sdpa(*parts, is_causal=True) if fused else attend_by_products(*parts)
        found.sum().backward()

    return 1000 * seconds(job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12, help="before and after the first row")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        sheets = list(itertools.islice(worksheets.documents(1), 3000))
        works = ["\n\n".join([f"Work {i}", *sheets[i : i + 100]]) for i in range(0, 3000, 100)]
        Path(corpus, "held_out.tsv").write_text("title\tsha256\nWork 0\t\nWork 100\t\n")
        Path(corpus, "works.txt").write_text("\n<|endoftext|>\n".join(works), encoding="utf-8")
        best = dict.fromkeys((name for name, *_ in RUNS), 0.0)
        for _, (name, *given) in itertools.product(range(options.rounds), RUNS):
            best[name] = max(best[name], train(Path(corpus), *given, options.steps))
    most = max(limit() for _ in range(3))
    rows = [
        {"what": name, "tokens_per_second": round(speed), "of_the_limit": round(speed / most, 2)}
        for name, speed in best.items()
    ]
    table = pd.DataFrame(
        [*rows, {"what": "matrix products alone, bf16", "tokens_per_second": most}]
    )
    table.to_csv(HERE / "pretrain_speed.csv", index=False, float_format="%.2f")
    seal(HERE / "pretrain_speed.csv")
    print(table.to_string(index=False, float_format="%.2f"))
    for dtype in (torch.float32, torch.bfloat16):
        fused, products = attention(True, dtype), attention(False, dtype)
        print(f"attention, {dtype}: fused {fused:.1f} ms, by products {products:.1f} ms")


if __name__ == "__main__":
    main()
