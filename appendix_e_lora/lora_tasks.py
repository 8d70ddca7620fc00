"""The two tasks of appendix E's comparisons, chapter 6's messages and chapter 7's instructions, and what is trained on them.

Each of ROWS changes one thing of the same recipe.
"""

import functools
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader

from shared import editions, encodings, models, scoring
from shared.classification import (
    BatchesByLength,
    SpamDataset,
    classifier_from,
    loader_logits,
    train_step,
)
from shared.instruction import (
    InstructionDataset,
    custom_collate_fn,
    generate_responses,
    train_epoch,
)
from shared.lora import ATTENTION, FEED_FORWARD, quantize_linear, replace_linear_with_lora
from shared.pretraining import bits_per_byte, calc_loss_batch, calc_loss_loader
from shared.training import learning_rate

BATCH = 16
EPOCHS = {"spam": 2, "instructions": 1}
FAMILIES = ("active_to_passive", "statement_to_question", "extraction")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Recipe:
    """LoRA as the rows begin from it, and what can be changed."""

    train: str = "lora"  # or "all", "last block", "head"
    rank: int = 8
    alpha: int = 8
    layers: tuple = ATTENTION
    scaling: str = "alpha/rank"
    init: str = "peft"
    bits: int = 32  # of a number in the base's matrices; 4: NormalFloat
    middle: float = 3e-3  # where the sweep begins


DEFAULT = Recipe()
RANKS = (1, 2, 4, 8, 16, 32, 64)
ROWS = {
    "rank 8": DEFAULT,
    "all weights": Recipe("all", middle=3e-4),
    "last block": Recipe("last block", middle=1e-3),
    "head": Recipe("head", middle=1e-2),
    **{f"rank {rank}": replace(DEFAULT, rank=rank) for rank in RANKS},
    "query and value": replace(DEFAULT, layers=("W_query", "W_value")),
    "attention and feed-forward": replace(DEFAULT, layers=ATTENTION + FEED_FORWARD),
    "the book's first A": replace(DEFAULT, init="book", middle=1e-3),
    "scale alpha": replace(DEFAULT, scaling="alpha", middle=1e-3),
    "scale alpha/sqrt(rank)": replace(DEFAULT, scaling="alpha/sqrt(rank)"),
    "rank 8 on 4 bits": replace(DEFAULT, bits=4),
}
TASKS = {
    "instructions": ["rank 8", "all weights", "last block", "rank 8 on 4 bits"],
    "spam": [row for row in ROWS if row != "rank 8 on 4 bits"],
}


def prepare(model, recipe: Recipe, task: str) -> list[nn.Parameter]:
    """Freeze what does not learn, put LoRA in if the recipe says so; the parameters that learn."""
    model.requires_grad_(False)
    if recipe.bits == 4:
        quantize_linear(model)
    if recipe.train == "lora":
        options = {"layers": recipe.layers, "scaling": recipe.scaling, "init": recipe.init}
        replace_linear_with_lora(model, recipe.rank, recipe.alpha, **options)
    elif recipe.train == "all":
        model.requires_grad_(True)
    elif recipe.train == "last block":
        model.trf_blocks[-1].requires_grad_(True)
        model.final_norm.requires_grad_(True)
    # a new head must learn in any case; the language model's own is the embedding, and stays as chapter 7 leaves it
    model.out_head.requires_grad_(task == "spam")
    return [p for p in model.parameters() if p.requires_grad]


# --- chapter 6's task -----------------------------------------------------------------------------


@functools.cache
def messages(part: str) -> SpamDataset:
    table = editions.messages()
    table = table[table.split == part].sort_values("text", key=lambda t: t.str.len(), kind="stable")
    tokenizer = encodings.tokenizer(first=True)
    return SpamDataset(table, tokenizer, pad_token_id=tokenizer.eot_token)


def spam_model(recipe: Recipe, seed: int):
    """A classifier with a new head of this seed, its parameters that learn, and its batches."""
    torch.manual_seed(seed)
    model = classifier_from(*models.pretrained(first=True))
    learn = prepare(model, recipe, "spam")
    train = messages("train")
    return model, learn, DataLoader(train, batch_sampler=BatchesByLength(train.lengths, BATCH))


def spam_step(batch, model, optimizer, rate: float) -> None:
    train_step(batch, model, optimizer, CPU, encodings.tokenizer(first=True).eot_token, rate=rate)


def spam_found(model, part: str) -> dict:
    """Loss, accuracy and average precision on a part of the messages."""
    pad = encodings.tokenizer(first=True).eot_token
    labels, logits = loader_logits(DataLoader(messages(part), 64), model, CPU, pad_token_id=pad)
    right = (logits.argmax(-1) == labels).float().mean().item()
    score = average_precision_score(labels, logits.softmax(-1)[:, 1])
    return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": right, "score": score}


# --- chapter 7's task -----------------------------------------------------------------------------


@functools.cache
def entries(part: str, families: tuple[str, ...] = FAMILIES) -> list[dict]:
    stored = editions.read_instructions(editions.INSTRUCTIONS)
    return [e for e in stored if e["split"] == part and e["family"] in families]


def asked(part: str, size: int, shuffled: bool, families=FAMILIES) -> DataLoader:
    """Instructions in batches, with answers to be learned."""
    tokenizer = encodings.tokenizer(first=True)
    data = InstructionDataset(entries(part, families), tokenizer, mask_instruction=True)
    collate = functools.partial(custom_collate_fn, pad_token_id=tokenizer.eot_token)
    if not shuffled:
        return DataLoader(data, size, collate_fn=collate)
    batches = BatchesByLength([len(ids) for ids, _ in data], size)
    return DataLoader(data, batch_sampler=batches, collate_fn=collate)


def instructed_model(recipe: Recipe, seed: int):
    torch.manual_seed(seed)
    model, _ = models.pretrained(first=True)
    return model, prepare(model, recipe, "instructions"), asked("train", BATCH, True)


def instructed(model, part: str) -> dict:
    """Loss on a part of the items; of the test items also the share answered right."""
    if part != "test":
        return {"loss": calc_loss_loader(asked(part, 64, False), model, CPU)}
    responses = generate_responses(model, entries(part), encodings.tokenizer(first=True), 32)
    right = [scoring.is_right(*pair) for pair in zip(entries(part), responses)]
    return {"score": sum(right) / len(right)}


@torch.no_grad()
def prose_bits(model) -> float:
    """Bits per byte of the story of chapter 2, in windows of 256 tokens."""
    tokenizer = encodings.tokenizer(first=True)
    ids = tokenizer.encode_ordinary(editions.STORY.read_text(encoding="utf-8"))
    nats = size = 0
    for start in range(0, len(ids) - 1, 256):
        window = torch.tensor([ids[start : start + 257]])
        count = window.shape[1] - 1
        nats += calc_loss_batch(window[:, :-1], window[:, 1:], model, CPU).item() * count
        size += len(tokenizer.decode_bytes(window[0, 1:].tolist()))
    return bits_per_byte(nats, size)


# --- training -------------------------------------------------------------------------------------


def train(task: str, recipe: Recipe, rate: float, seed: int):
    """The model of a task, trained by a recipe."""
    build = {"spam": spam_model, "instructions": instructed_model}[task]
    model, learn, loader = build(recipe, seed)
    optimizer = torch.optim.AdamW(learn, lr=rate, weight_decay=0.0)
    total = EPOCHS[task] * len(loader)

    def rate_at(step):
        return learning_rate(step + 1, total + 1, total // 10, rate)

    for epoch in range(EPOCHS[task]):
        begin = epoch * len(loader)
        if task == "spam":
            for step, batch in enumerate(loader, start=begin):
                spam_step(batch, model, optimizer, rate_at(step))
        else:
            for _ in train_epoch(model, loader, optimizer, rate_at, CPU, begin):
                pass
    return model.eval()
