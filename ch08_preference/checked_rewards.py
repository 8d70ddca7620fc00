"""Rewards that can be checked: four families of chapter 7 by policy gradients, with a random reward and imitation beside them.

`compare_preference.py` runs it; facts are not trained on and show what sampling cannot find.
"""

import time

import preference_tasks as tasks
import torch

from shared import editions
from shared.guards import evaluation_mode
from shared.instruction import short_prompt
from shared.preference import compute_logprobs, padded, policy_gradient_step, sample_answers
from shared.scoring import is_right

CHECKED = "arithmetic", "plural", "past_tense", "unit_conversion"
STEPS, RATE = 48, 1e-3


def checked(arm: str, seed: int) -> list[dict]:
    """Four families of chapter 7, and facts, which are not trained on: pass@1 and pass@8 before and after."""
    items = editions.read_instructions(editions.INSTRUCTIONS)
    train = [e for e in items if e["split"] == "train" and e["family"] in CHECKED]
    torch.manual_seed(seed)
    model, optimizer = tasks.policy()
    optimizer.param_groups[0]["lr"] = RATE
    rows = [{"step": 0} | passed(model, items)]
    order = torch.randperm(len(train)).tolist()
    begun = time.process_time()
    for step in range(STEPS):
        some = [train[i] for i in order[8 * step : 8 * step + 8]]
        prompts = [tasks.tokenizer().encode_ordinary(short_prompt(e)) for e in some]
        if arm == "supervised":  # as many items a step as answers are drawn
            more = [train[i] for i in order[64 * step % len(train) :][:64]]
            imitate(model, more, optimizer)
            continue
        right = {"checked": lambda i, ids, some=some: float(bool(is_right(some[i], tasks.text_of(ids)))),
                 "random": lambda i, ids: float(torch.rand(()) < 0.5)}[arm]  # fmt: skip
        policy_gradient_step(model, prompts, right, optimizer, tasks.END, beta=0.0)
    spent = time.process_time() - begun
    return rows + [{"step": STEPS, "cpu": round(spent, 1)} | passed(model, items)]


def imitate(model, entries: list[dict], optimizer) -> None:
    """A step of ordinary fine-tuning on the right answers."""
    prompts = [tasks.tokenizer().encode_ordinary(short_prompt(e)) for e in entries]
    answers = [[*tasks.tokenizer().encode_ordinary(" " + e["output"]), tasks.END] for e in entries]
    ids, mask = padded(prompts, answers, tasks.END)
    optimizer.zero_grad()
    with evaluation_mode(model):
        (-compute_logprobs(model(ids), ids, mask).sum() / mask.sum()).backward()
    optimizer.step()


def passed(model, items: list[dict], samples: int = 8, each: int = 25) -> dict:
    """pass@1 and pass@8 over validation items of the trained families, and over facts."""
    found = {}
    for name, families in (("", CHECKED), ("facts_", ("facts",))):
        some = [e for family in families for e in [e for e in items if e["family"] == family and e["split"] == "validation"][:each]]  # fmt: skip
        torch.manual_seed(0)
        prompts = [
            tasks.tokenizer().encode_ordinary(short_prompt(e)) for e in some for _ in range(samples)
        ]
        texts = map(tasks.text_of, sample_answers(model, prompts, tasks.LENGTH, tasks.END))
        right = torch.tensor(
            [bool(is_right(some[i // samples], text)) for i, text in enumerate(texts)]
        ).view(-1, samples)
        found |= {f"{name}pass1": share_of(right), f"{name}pass8": share_of(right.any(dim=1))}
    return found


def share_of(verdicts: torch.Tensor) -> float:
    return verdicts.double().mean().item()
