"""Chapter 7: instruction. Promoted from ch07_instruction/ch07.ipynb by `make promote`.

Edit the notebook, not this file; the comments below name the notebook's cells.
"""

import codecs
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from shared import checkpoints
from shared.attention import future_mask
from shared.finite import whole_number
from shared.gpt_model import KVCache, next_token_logits
from shared.guards import check_instruction, check_room, evaluation_mode
from shared.measure import fast_in_bf16
from shared.pretraining import (
    calc_loss_batch,
    evaluate_model,
    generate,
    load_checkpoint,
    save_checkpoint,
)
from shared.training import learning_rate

__all__ = ["format_input", "format_prompt", "short_prompt", "InstructionDataset",
    "custom_collate_fn", "stream_response", "fast_dtype", "reduced", "train_epoch",
    "own_texts", "drift", "rehearsal", "finetune", "left_padded", "generate_batch",
    "generate_responses"]  # fmt: skip


# ch07.ipynb: format-input
def format_input(entry):
    """An entry's instruction, and input if it has one, in the style of Alpaca (Taori and others, 2023).

    ValueError where there is no instruction.
    """
    check_instruction(entry)
    task = "Below is an instruction that describes a task. "
    task += "Write a response that appropriately completes the request."
    task += f"\n\n### Instruction:\n{entry['instruction']}"
    return task + (f"\n\n### Input:\n{entry['input']}" if entry.get("input") else "")


# ch07.ipynb: format-prompt
def format_prompt(entry):
    """All that stands before an answer in the style of Alpaca."""
    return format_input(entry) + "\n\n### Response:\n"


def short_prompt(entry):
    """The course's own prompt: a line for each turn, those `before` it first, then the name of who is to speak."""
    check_instruction(entry)
    asked = entry["instruction"] + (f" | {entry['input']}" if entry.get("input") else "")
    turns = [*entry.get("before", []), {"role": "user", "content": asked}]
    said = [f"{turn['role'].capitalize()}: {turn['content']}\n" for turn in turns]
    return "".join(said) + "Assistant:"


# ch07.ipynb: instruction-dataset
class InstructionDataset(Dataset):
    """Entries as token IDs, prompt and answer: a list each; `(ids, prompt length)` with mask_instruction.

    Both parts are encoded on their own: the prompt is what generation will read, to the token. A space
    parts them unless a new line does.
    """

    def __init__(self, data, tokenizer, *, mask_instruction=False, prompt=short_prompt):
        self.data, self.encoded_texts = data, []
        for i, entry in enumerate(data):
            if not isinstance(entry.get("output"), str):
                raise ValueError(f"entry {i} has no text under 'output': {entry}")
            before = prompt(entry)
            space = "" if before.endswith("\n") else " "
            start = tokenizer.encode_ordinary(before)
            ids = start + tokenizer.encode_ordinary(space + entry["output"])
            self.encoded_texts.append((ids, len(start)) if mask_instruction else ids)

    def __getitem__(self, index):
        return self.encoded_texts[index]

    def __len__(self):
        return len(self.data)


# ch07.ipynb: custom-collate-fn
def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Lists of IDs, or `(ids, prompt length)`, as inputs and targets, `(B, T)` each, T of the longest.

    Asked for: each text's next tokens and one end token; of a text with a prompt length, its answer alone.
    ValueError where nothing of a text would be asked for.
    """
    if allowed_max_length is not None and allowed_max_length < 1:
        raise ValueError(f"allowed_max_length is {allowed_max_length}; it must be at least 1")
    items = [item if isinstance(item, tuple) else (item, 1) for item in batch]
    shape = len(items), max((len(ids) for ids, _ in items), default=0)
    if 0 in shape or not all(len(ids) for ids, _ in items):
        raise ValueError("the batch, or one of its texts, is empty: there is nothing to learn from")
    inputs, targets = torch.full(shape, pad_token_id), torch.full(shape, ignore_index)
    for row, (ids, prompt) in enumerate(items):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, : len(ids)] = torch.tensor([*ids[1:], pad_token_id])
        start = max(0, prompt - 1)  # the prompt's last token announces the answer
        targets[row, :start] = ignore_index
    inputs, targets = inputs[:, :allowed_max_length], targets[:, :allowed_max_length]
    for row, asked in enumerate((targets != ignore_index).any(dim=1).tolist()):
        if not asked:
            size = f"a prompt of {items[row][1]} tokens, but {allowed_max_length} are allowed"
            raise ValueError(f"text {row} of the batch has {size}: no answer is left to learn from")
    return inputs.to(device), targets.to(device)


# ch07.ipynb: stream-response
@torch.inference_mode()
def stream_response(model, entry, tokenizer, max_new_tokens=64, prompt=short_prompt):
    """Yield the answer to one entry piece by piece, as soon as a piece is there."""
    ids, context = tokenizer.encode_ordinary(prompt(entry)), model.pos_emb.num_embeddings
    check_room([ids], context)
    cache = [KVCache(context) for _ in model.trf_blocks]
    letters = codecs.getincrementaldecoder("utf-8")("replace")  # a letter may need several tokens
    said = False
    with evaluation_mode(model):
        for _ in range(min(max_new_tokens, context - len(ids))):
            idx = torch.tensor([ids], device=model.pos_emb.weight.device)
            ids.append(next_token_logits(model, idx, context, cache).argmax().item())
            if ids[-1] == tokenizer.eot_token:
                break
            piece = letters.decode(tokenizer.decode_single_token_bytes(ids[-1]))
            if piece := piece if said else piece.lstrip():
                said = True
                yield piece
    yield letters.decode(b"", final=True)


# ch07.ipynb: fast-dtype
def fast_dtype(device):
    """bfloat16 where this device multiplies in it, else float32: for `torch.autocast`."""
    return torch.bfloat16 if fast_in_bf16(device) else torch.float32


def reduced(device, dtype):
    """Within the block, matrix products in `dtype`, the rest in float32."""
    return torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32)


# ch07.ipynb: train-epoch
def train_epoch(model, loader, optimizer, rate, device, step=0, dtype=torch.float32, rehearse=None):
    """Train on all batches of a loader once; yields `(step, loss)` after each. `rate`: step -> learning rate.

    `rehearse(model, step)`, where it is given, is a second loss: added before each step, and not in what is yielded.
    """
    for step, (inputs, targets) in enumerate(loader, start=step):
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        optimizer.zero_grad()
        with reduced(device, dtype):
            loss = calc_loss_batch(inputs, targets, model, device)
            more = rehearse(model, step) if rehearse else 0.0
        (loss + more).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step, loss.item()


# ch07.ipynb: drift
def own_texts(model, count, length, end_id, batch_size=64):
    """What a pretrained model writes of its own accord, as token IDs `(count, length)`: drawn, from an end token on."""
    start = torch.full((1, 1), end_id, device=model.pos_emb.weight.device)
    sizes = [min(batch_size, count - first) for first in range(0, count, batch_size)]
    context = model.pos_emb.num_embeddings
    drawn = [generate(model, start.repeat(B, 1), length, context, temperature=1.0) for B in sizes]
    return torch.cat(drawn)[:, 1:]


def drift(model, base, texts):
    """How far a model's predictions on texts, `(B, T)`, are from the base's: KL(base, model), in nats a token."""
    with torch.no_grad():
        wanted = F.log_softmax(base(texts).flatten(0, 1), dim=-1)  # (B * T, V)
    found = F.log_softmax(model(texts).flatten(0, 1), dim=-1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")


def rehearsal(base, texts, weight=1.0, rows=4):
    """A second loss for `train_epoch`: `weight` times the drift on the next `rows` of the texts, `(N, T)`."""

    def loss(model, step):
        chosen = torch.arange(step * rows, (step + 1) * rows) % len(texts)
        return weight * drift(model, base, texts[chosen])

    return loss


# ch07.ipynb: finetune
def finetune(model, train_loader, val_loader, optimizer, device, num_epochs, peak, *,
             eval_freq, checkpoint=None, dtype=torch.float32, rehearse=None, watch=None):  # fmt: skip
    """Train with warm-up, cosine decay and clipping; a list of {"step", "training", "validation"}: losses.

    With `checkpoint`, a path, the state is saved after each epoch: a run that was stopped goes on there.
    `rehearse`: as in `train_epoch`. `watch(model)` returns further numbers by name, for each look."""
    every, batches = whole_number(eval_freq, "eval_freq"), len(train_loader)
    run = checkpoint and checkpoints.identity(model, train_loader, val_loader, optimizer, checkpoint,
        num_epochs=num_epochs, batches=batches, peak=peak, eval_freq=eval_freq, dtype=dtype)  # fmt: skip
    saved = load_checkpoint(checkpoint, model, optimizer, run) if run and Path(checkpoint).exists() else {}  # fmt: skip
    history, total = saved.get("history", []), num_epochs * batches

    def rate(step):
        return learning_rate(step + 1, total + 1, 0.05 * total, peak)

    for epoch in range(saved.get("epochs", 0), num_epochs):
        given, recent = (optimizer, rate, device, epoch * batches, dtype, rehearse), []
        for step, loss in train_epoch(model, train_loader, *given):
            recent.append(loss)
            if (step + 1) % every == 0 or (step + 1) % batches == 0:
                with reduced(device, dtype):
                    _, loss = evaluate_model(model, [], val_loader, device, None)
                row = {"step": step + 1, "training": sum(recent) / len(recent), "validation": loss}
                print(f"step {step + 1:5d}: training {row['training']:.3f}, validation {loss:.3f}")
                history, recent = [*history, row | (watch(model) if watch else {})], []
        if run:
            save_checkpoint(checkpoint, model, optimizer, run=run, epochs=epoch + 1, history=history)  # fmt: skip
    return history


# ch07.ipynb: left-padded
@contextmanager
def left_padded(model, padding):
    """Within the block the model reads texts, `(B, T)`, as if row b's first padding[b] tokens were not there."""

    def positions(_, args):
        return ((args[0] - padding.unsqueeze(1)).clamp(min=0),)  # (B, T)

    def attend(queries, keys, values):
        T, S = queries.shape[-2], keys.shape[-2]
        pads = torch.arange(S, device=padding.device) < padding.view(-1, 1, 1, 1)
        hidden = pads | future_mask(T, S, padding.device)  # (B, 1, T, S)
        # a softmax over nothing would be nan, so each pad may see itself
        itself = torch.eye(S, dtype=torch.bool, device=padding.device)[-T:]
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=~hidden | itself)

    handle = model.pos_emb.register_forward_pre_hook(positions)
    for block in model.trf_blocks:
        block.att.attend = attend
    try:
        yield model
    finally:
        handle.remove()
        for block in model.trf_blocks:
            del block.att.attend


# ch07.ipynb: generate-batch
def generate_batch(model, prompts, max_new_tokens, eos_id):
    """The likeliest answers to lists of IDs, as lists of IDs, each up to its end token.

    Where the longest prompt and its answer fill the context, all answers end. ValueError: no room at all.
    """
    if not prompts:
        return []
    context, device = model.pos_emb.num_embeddings, model.pos_emb.weight.device
    check_room(prompts, context)
    T = max(map(len, prompts))
    padding = torch.tensor([T - len(ids) for ids in prompts], device=device)
    rows = [[eos_id] * (T - len(ids)) + list(ids) for ids in prompts]
    with left_padded(model, padding):
        room = min(max_new_tokens, context - T)
        found = generate(model, torch.tensor(rows, device=device), room, context, eos_id=eos_id)
    answers = found[:, T:].tolist()
    return [ids[: ids.index(eos_id)] if eos_id in ids else ids for ids in answers]


# ch07.ipynb: generate-responses
def generate_responses(
    model, data, tokenizer, max_new_tokens=64, batch_size=64, prompt=short_prompt
):
    """The model's answers to entries: strings, in the order of `data`."""
    prompts = [tokenizer.encode_ordinary(prompt(entry)) for entry in data]
    check_room(prompts, model.pos_emb.num_embeddings)  # before the first answer
    order = sorted(range(len(data)), key=lambda i: len(prompts[i]))  # little padding
    answers = {}
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = [prompts[i] for i in rows]
        found = generate_batch(model, batch, max_new_tokens, tokenizer.eot_token)
        answers |= dict(zip(rows, map(tokenizer.decode, found)))
    return [answers[i].strip() for i in range(len(data))]
