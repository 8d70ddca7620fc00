"""Our GPT model against transformers' GPT2LMHeadModel: training steps and generation, as ratios.

    python benchmarks/model_speed.py [--size small|124M] [--rounds 9] [--jobs fp32 bf16 compiled generate]

Both models run in this one process with the same weights, the same loss and the same optimizer; rounds
alternate, and medians are compared, so that what else the machine does hits both alike. Each figure is
also given as a share of what this machine can do at best: a large matrix product for training, reading
memory for generation. Results are merged into model_speed.csv, and drawn as model_speed.png.

Theirs runs as it comes: its attention is PyTorch's fused one, its cache the default, and its GELU is
written out in Python (`gelu_new`); in the jobs named -gelu it gets PyTorch's fused GELU, as ours has.
Dropout is 0 in both (with dropout PyTorch takes another, slower path for attention on a CPU). Our time
for generation includes bringing the wide layers into the order that suits it, and back.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import itertools
import statistics
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import transformers

from shared.files import seal
from shared.gpt_model import GPTModel, generate_text_cached

HERE = Path(__file__).parent
SMALL = {"vocab_size": 4096, "context_length": 256, "emb_dim": 384, "n_heads": 6, "n_layers": 6}
GPT2 = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 768, "n_heads": 12, "n_layers": 12}
COMMON = {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}
SIZES = {"small": (SMALL | COMMON, 8, 256), "124M": (GPT2 | COMMON, 2, 256)}  # and a batch: B, T
TARGETS = {
    ("small", "fp32"): 1.05,
    ("124M", "fp32"): 1.05,
    ("small", "bf16"): 1.0,
    ("124M", "bf16"): 1.0,
    ("small", "generate"): 1.15,
    ("124M", "generate"): 1.0,
}
LABELS = {"fp32": "training, fp32", "bf16": "training, bf16 autocast"}
LABELS |= {f"{job}-gelu": f"{LABELS[job]}, both GELUs fused" for job in ("fp32", "bf16")}
LABELS |= {"compiled": "training, compiled", "generate": "generation, cached"}
PROMPT = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=128, help="to generate in one round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument(
        "--store", type=Path, default=HERE, help="folder for the table and the chart"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    limits = machine_limits()
    print(", ".join(f"{name} {value:,.1f}" for name, value in limits.items()))
    rows = [measure(job, options, limits) for job in options.jobs]
    table = merged(pd.DataFrame(rows), options.store / "model_speed.csv")
    draw(table, options.store / "model_speed.png")
    for name in ("model_speed.csv", "model_speed.png"):
        seal(options.store / name)


def measure(job: str, options: argparse.Namespace, limits: dict[str, float]) -> dict:
    """One row of the table: medians of alternating rounds."""
    cfg, B, T = SIZES[options.size]
    torch.manual_seed(123)
    ours = GPTModel(cfg)
    theirs = twin(ours, cfg, "gelu_pytorch_tanh" if job.endswith("-gelu") else "gelu_new")
    runs, tokens, cost, limit = JOBS[job](ours, theirs, cfg, B, T, options.tokens)
    times = ([], [])
    for run, _ in itertools.product(runs, range(2)):
        run()  # caches, threads, the compiler
    for i in range(options.rounds):
        for which in (0, 1) if i % 2 == 0 else (1, 0):
            start = time.perf_counter()
            runs[which]()
            times[which].append(time.perf_counter() - start)
    mine, other = (tokens / statistics.median(one) for one in times)
    row = {
        "size": options.size,
        "job": job,
        "ours, tokens/s": round(mine, 1),
        "transformers, tokens/s": round(other, 1),
        "ratio": round(mine / other, 3),
        "target": TARGETS.get((options.size, job)),
        "limit": limit,
        "ours, share of limit": round(mine * cost / limits[limit] / 1e9, 3),
        "transformers, share of limit": round(other * cost / limits[limit] / 1e9, 3),
        "rounds": options.rounds,
        "threads": options.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print({key: row[key] for key in list(row)[:6]}, flush=True)
    return row


def twin(model: GPTModel, cfg: dict, gelu: str) -> transformers.GPT2LMHeadModel:
    """transformers' model with the weights of ours; fails unless its logits are the same."""
    names = {"vocab_size": "vocab_size", "n_positions": "context_length", "n_embd": "emb_dim"}
    names |= {"n_head": "n_heads", "n_layer": "n_layers"}
    settings = {theirs: cfg[ours] for theirs, ours in names.items()}
    settings |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), cfg["drop_rate"])
    settings |= {"bos_token_id": None, "eos_token_id": None}  # nothing ends a text early
    settings["activation_function"] = gelu
    other = transformers.GPT2LMHeadModel(transformers.GPT2Config(**settings))
    state = {"wte.weight": model.tok_emb.weight, "wpe.weight": model.pos_emb.weight}
    state |= {"ln_f.weight": model.final_norm.scale, "ln_f.bias": model.final_norm.shift}
    for i, block in enumerate(model.trf_blocks):
        qkv = [block.att.W_query, block.att.W_key, block.att.W_value]
        state[f"h.{i}.attn.c_attn.weight"] = torch.cat([layer.weight for layer in qkv]).T
        state[f"h.{i}.attn.c_attn.bias"] = torch.cat([layer.bias for layer in qkv])
        pairs = {"attn.c_proj": block.att.out_proj}
        pairs |= {"mlp.c_fc": block.ff.layers[0], "mlp.c_proj": block.ff.layers[2]}
        for name, layer in pairs.items():
            state[f"h.{i}.{name}.weight"] = layer.weight.T  # Conv1D: (in, out)
            state[f"h.{i}.{name}.bias"] = layer.bias
        for name, norm in {"ln_1": block.norm1, "ln_2": block.norm2}.items():
            state[f"h.{i}.{name}.weight"], state[f"h.{i}.{name}.bias"] = norm.scale, norm.shift
    other.transformer.load_state_dict({name: value.detach() for name, value in state.items()})
    ids = torch.randint(cfg["vocab_size"], (2, 32))
    with torch.no_grad():
        assert torch.allclose(model(ids), other(input_ids=ids).logits, atol=1e-3), "no twins"
    return other


def training(dtype=None, compiled=False):
    """A training step: forward, loss, backward, AdamW."""

    def job(ours, theirs, cfg, B, T, new_tokens):
        inputs, targets = (torch.randint(cfg["vocab_size"], (B, T)) for _ in range(2))

        def step(model, logits_of):
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
            runner = torch.compile(model) if compiled else model

            def run():
                with torch.autocast("cpu", dtype, enabled=dtype is not None):
                    logits = logits_of(runner, inputs)
                    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()

            return run

        runs = (
            step(ours.train(), lambda model, ids: model(ids)),
            step(theirs.train(), lambda model, ids: model(input_ids=ids, use_cache=False).logits),
        )
        # three times the forward pass: two operations for each weight and token, and attention
        C, L = cfg["emb_dim"], cfg["n_layers"]
        cost = 3 * (2 * weights_read(cfg) + 4 * L * T * C)
        return runs, B * T, cost, "bf16 GFLOP/s" if dtype else "fp32 GFLOP/s"

    return job


def generation(ours, theirs, cfg, B, T, new_tokens):
    """Greedy text from a prompt, batch 1, with a cache; both must write the same tokens."""
    ours.eval(), theirs.eval()
    prompt = torch.randint(cfg["vocab_size"], (1, PROMPT))

    def run_ours():
        return generate_text_cached(ours, prompt, new_tokens, cfg["context_length"])

    def run_theirs():
        mask = torch.ones_like(prompt)
        options = {"max_new_tokens": new_tokens, "do_sample": False, "use_cache": True}
        with torch.inference_mode():
            return theirs.generate(prompt, attention_mask=mask, pad_token_id=0, **options)

    assert run_ours().equal(run_theirs()), "the two models wrote different texts"
    cache = 2 * cfg["n_layers"] * cfg["emb_dim"] * (PROMPT + new_tokens / 2)  # on average
    return (run_ours, run_theirs), new_tokens, 4 * (weights_read(cfg) + cache), "memory GB/s"


JOBS = {
    "fp32": training(),
    "fp32-gelu": training(),
    "bf16": training(torch.bfloat16),
    "bf16-gelu": training(torch.bfloat16),
    "compiled": training(compiled=True),
    "generate": generation,
}


def weights_read(cfg: dict) -> int:
    """Weights of all linear layers, each used once for each token."""
    C = cfg["emb_dim"]
    return 12 * cfg["n_layers"] * C * C + cfg["vocab_size"] * C


def machine_limits() -> dict[str, float]:
    """The best of some rounds: operations a second of a square matrix product, bytes read a second."""

    def best(run, rounds=8):
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    found, n = {}, 2048
    for name, dtype in [("fp32", torch.float32), ("bf16", torch.bfloat16)]:
        a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
        found[f"{name} GFLOP/s"] = 2 * n**3 / best(lambda: a @ b) / 1e9
    block = torch.randn(2**26)  # 268 MB, far beyond any cache
    found["memory GB/s"] = block.nbytes / best(block.sum) / 1e9
    return found


def merged(new: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The stored table with the new rows in place of those of the same size and job."""
    if path.exists():
        old = pd.read_csv(path)
        new = pd.concat([old, new]).drop_duplicates(["size", "job"], keep="last")
    new = new.sort_values(["size", "job"], ascending=[False, True], ignore_index=True)
    new.to_csv(path, index=False)
    return new


def draw(table: pd.DataFrame, path: Path) -> None:
    from matplotlib import pyplot as plt

    from shared.plotting import PALETTE

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 0.5 * len(table) + 1.4), sharey=True)
    places, labels = range(len(table)), table["size"] + ": " + table["job"].map(LABELS)
    left.barh(places, table["ratio"], color=PALETTE[0])
    left.plot(table["target"], places, "|", markersize=22, color=PALETTE[3], label="target", mew=4)
    left.axvline(1, color="black", linewidth=1)
    for place, ratio in zip(places, table["ratio"]):
        left.text(ratio, place, f" {ratio:.2f}", va="center")
    left.set(xlabel="speed, as a multiple of transformers'", yticks=places, yticklabels=labels)
    left.margins(x=0.15)
    left.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    for shift, who in [(-0.2, "ours"), (0.2, "transformers")]:
        color = PALETTE[0 if who == "ours" else 1]
        shares = 100 * table[f"{who}, share of limit"]
        right.barh([place + shift for place in places], shares, 0.38, color=color, label=who)
    right.set(xlabel="% of the machine's own limit")
    right.invert_yaxis()
    right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    fig.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
