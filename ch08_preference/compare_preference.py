"""What chapter 8's methods bring, over three seeds: reward model, best of n, policies, DPO, rewards that can be checked.

    python ch08_preference/compare_preference.py [--part reward best policy dpo checked] [--seeds 123 124 125]

Each run is a row or a few of compare_preference.csv, written as soon as it is measured; the same command goes on with
what is missing. Everything is tested on the validation words, on which nothing is trained; the test words are read by
make_preferred.py alone. Reward models are kept beside the CSV (`reward-SEED.state-HASH.pt`), as the runs against them
need them.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import functools
import hashlib
import json
from pathlib import Path

import pandas as pd
import preference_tasks as tasks
import torch
from checked_rewards import checked

from shared import editions, files, models, program, sentences
from shared.files import seal, write_table
from shared.measure import fast_in_bf16
from shared.preference import (
    PreferenceDataset,
    RewardModel,
    best_of_n,
    collate_pairs,
    compute_reward_loss,
    policy_gradient_step,
    sample_answers,
    store_reference,
    train_model_dpo_simple,
)
from shared.training import learning_rate, stable_then_decay

HERE = Path(__file__).resolve().parent
TABLE = HERE / "compare_preference.csv"
SEEDS = 123, 124, 125
DRAWS = 1, 2, 4, 8, 16, 32, 64, 128, 256  # of best of n
STEPS, EVERY, RATE = 48, 8, 2e-3  # of a policy
BETAS = {"rule": (0.0, 0.03, 0.1), "learned": (0.0, 0.03, 0.1, 0.3)}
ARMS = {
    "reward": ("100", "300", "all"),
    "best": ("learned", "rule", "coin"),
    "policy": tuple(f"{reward} {beta}" for reward, betas in BETAS.items() for beta in betas),
    "dpo": ("0.1", "0.3"),
    "checked": ("checked", "random", "supervised"),
}
KEY = ["part", "arm", "seed"]


@functools.cache
def pairs(split: str) -> PreferenceDataset:
    entries = editions.read_instructions(
        editions.PREFERENCES, ("instruction", "input", "chosen", "rejected")
    )
    return PreferenceDataset([e for e in entries if e["split"] == split], tasks.tokenizer())


# --- the reward model -----------------------------------------------------------------------------


def train_reward_model(
    model: RewardModel, some: list[dict], rate: float = 3e-4, batch: int = 16
) -> None:
    """Once through the pairs, as the lesson does it."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    batches = torch.randperm(len(some)).split(batch)
    for step, rows in enumerate(batches, start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, len(batches) + 1, 5, rate)
        chosen, rejected = model(*collate_pairs([some[i] for i in rows], tasks.END)).chunk(2)
        optimizer.zero_grad()
        compute_reward_loss(chosen, rejected).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def gaps(model: RewardModel, some: list[dict]) -> torch.Tensor:
    """Scores of the chosen minus those of the rejected responses, `(N,)`."""
    found = [tasks.scores(model, [p["prompt"] for p in some], [p[side] for p in some]) for side in ("chosen", "rejected")]  # fmt: skip
    return found[0] - found[1]


def reward(arm: str, seed: int) -> list[dict]:
    torch.manual_seed(seed)
    model = RewardModel(tasks.assistant()).eval()
    some = pairs("train").pairs
    if arm != "all":
        some = [some[i] for i in torch.randperm(len(some))[: int(arm)]]
    train_reward_model(model, some)
    if arm == "all":
        with files.landing(kept(seed)) as file:
            torch.save(model.state_dict(), file)
    found, train = gaps(model, pairs("test").pairs), gaps(model, pairs("train").pairs)
    flipped = torch.tensor([entry["flipped"] for entry in pairs("train").data])
    return [{"accuracy": share(found > 0), "train": share(train > 0), "flipped": share(train[flipped] > 0),
             "gaps": json.dumps([round(g, 3) for g in found.tolist()]) if arm == "all" else ""}]  # fmt: skip


def share(verdicts: torch.Tensor) -> float:
    return verdicts.double().mean().item()


def kept(seed: int) -> Path:
    """Where the reward model of a seed is kept: by what it is made of."""
    made = (editions.PREFERENCES.read_bytes(), (models.ASSISTANT_GPT / files.WEIGHTS).read_bytes())
    name = hashlib.sha256(b"".join(made)).hexdigest()[:12]
    return HERE / f"reward-{seed}.state-{name}.pt"


@functools.cache
def reward_model(seed: int) -> RewardModel:
    if not kept(seed).exists():
        reward("all", seed)
    model = RewardModel(tasks.assistant()).eval()
    model.load_state_dict(torch.load(kept(seed), weights_only=True))
    return model


@functools.cache
def unit(seed: int) -> tuple[float, float]:
    """Mean and spread of a reward model's scores of the assistant's own answers to training words."""
    torch.manual_seed(seed)
    prompts = tasks.prompts_for(
        [word for word in sentences.words()["train"][:60] for _ in range(4)]
    )
    answers = sample_answers(tasks.assistant(), prompts, tasks.LENGTH, tasks.END)
    found = tasks.scores(reward_model(seed), prompts, answers)
    return found.mean().item(), found.std().item()


# --- best of n ------------------------------------------------------------------------------------


def best(arm: str, seed: int) -> list[dict]:
    """By one score: what the score itself and the judge say of the best of n of 256 answers to a word."""
    torch.manual_seed(seed)
    n, (middle, spread), sums = max(DRAWS), unit(seed), {count: [0.0, 0.0] for count in DRAWS}
    words = sentences.words()["validation"]
    for word in words:
        prompts = tasks.prompts_for([word] * n)
        answers = sample_answers(tasks.assistant(), prompts, tasks.LENGTH, tasks.END)
        texts, rule = [tasks.text_of(ids) for ids in answers], tasks.by_rule([word] * n)
        truth = tasks.judge()([word] * n, texts).tolist()
        score = {
            "learned": lambda p=prompts, a=answers: ((tasks.scores(reward_model(seed), p, a) - middle) / spread).tolist(),
            "rule": lambda a=answers, r=rule: [r(i, ids) for i, ids in enumerate(a)],
            "coin": lambda: torch.rand(n).tolist(),
        }[arm]()  # fmt: skip
        for count in DRAWS:
            sums[count][0] += best_of_n(score, score, count) / len(words)
            sums[count][1] += best_of_n(score, truth, count) / len(words)
    return [{"n": count, "proxy": proxy, "judge": judge} for count, (proxy, judge) in sums.items()]


# --- policies -------------------------------------------------------------------------------------


def measured(model, words, seed: int, samples: int = 8) -> dict:
    """A policy on validation words: rule, judge, KL, length, and the score by the seed's reward model."""
    found = tasks.tested(model, words, samples)
    middle, spread = unit(seed)
    score = tasks.scores(reward_model(seed), found["prompts"], found["answers"]).mean().item()
    return {"rule": found["rule"].mean().item(), "judge": found["judge"].mean().item(), "kl": found["kl"],
            "words": found["words"], "proxy": (score - middle) / spread}  # fmt: skip


def policy(arm: str, seed: int) -> list[dict]:
    """Policy gradients against the rule, or against the reward model of the seed."""
    kind, beta = arm.split()
    torch.manual_seed(seed)
    model, optimizer = tasks.policy()
    words, middle_spread, rows = sentences.words(), unit(seed), []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            rows.append({"step": step} | measured(model, words["validation"], seed))
        if step == STEPS:
            break
        some = [words["train"][(8 * step + i) % len(words["train"])] for i in range(8)]
        prompts = tasks.prompts_for(some)
        score = {
            "rule": tasks.by_rule(some),
            "learned": by_model(prompts, reward_model(seed), *middle_spread),
        }
        optimizer.param_groups[0]["lr"] = learning_rate(
            step + 1, STEPS + 1, 4, RATE, shape=stable_then_decay
        )
        policy_gradient_step(model, prompts, score[kind], optimizer, tasks.END, beta=float(beta))
    return rows


def by_model(prompts, rewarder: RewardModel, middle: float, spread: float):
    """A reward model's score as a reward, in spreads of the assistant's own answers."""
    return lambda i, ids: ((tasks.scores(rewarder, [prompts[i]], [ids]) - middle) / spread).item()


def dpo(arm: str, seed: int) -> list[dict]:
    torch.manual_seed(seed)
    model, optimizer = tasks.policy()
    train, valid = (
        PreferenceDataset(pairs(split).data, tasks.tokenizer()) for split in ("train", "validation")
    )
    for part in train, valid:
        store_reference(part, tasks.assistant(), tasks.END)
    rows = train_model_dpo_simple(
        model, train, valid, optimizer, 1, float(arm), tasks.END, eval_freq=10, peak_lr=RATE
    )
    rows[-1] |= measured(model, sentences.words()["validation"], seed)
    return rows


# --- the table ------------------------------------------------------------------------------------

PARTS = {"reward": reward, "best": best, "policy": policy, "dpo": dpo, "checked": checked}


def made_of() -> dict:
    """What a row holds of what made it: the assistant's checksum, torch, and the precision of products."""
    sha = files.sha256(models.ASSISTANT_GPT / files.WEIGHTS)[:12]
    return {"checkpoint": sha, "torch": torch.__version__, "bf16": fast_in_bf16("cpu")}


def compare(path: Path, parts: list[str], seeds: list[int]) -> pd.DataFrame:
    """The table, completed run by run, and written after each. ValueError if it is of another assistant."""
    table = pd.read_csv(path, dtype={"checkpoint": str}) if path.exists() else pd.DataFrame()
    if len(table) and set(table.checkpoint) != {made_of()["checkpoint"]}:
        raise ValueError(f"{path} is of another assistant: delete it to make all rows anew")
    done = {*table[KEY].itertuples(index=False, name=None)} if len(table) else set()
    for seed in seeds:
        for part in parts:
            for arm in ARMS[part]:
                if (part, arm, seed) in done:
                    continue
                found = [
                    dict(zip(KEY, (part, arm, seed))) | row | made_of()
                    for row in PARTS[part](arm, seed)
                ]
                table = pd.concat([table, pd.DataFrame(found)], ignore_index=True)
                write_table(path, table)
                seal(path)
                print(
                    part,
                    arm,
                    seed,
                    {k: v for k, v in found[-1].items() if isinstance(v, float)},
                    flush=True,
                )
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), dest="parts")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with program.in_one_line("compare_preference", "where it stopped"):
        compare(TABLE, options.parts, options.seeds)


if __name__ == "__main__":
    main()
