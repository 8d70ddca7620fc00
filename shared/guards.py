"""The care around a GPT that its lesson leaves out: what it refuses, and what it puts back as it was."""

import difflib
import functools
from contextlib import contextmanager

import torch
from torch import nn

SIZES = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers")
KEYS = (*SIZES, "drop_rate", "qkv_bias")  # needed; tie_weights may be there

# --- bad input ------------------------------------------------------------------------------------


def check_config(cfg):
    """Raise ValueError for a configuration with an unknown or missing key, or an impossible value."""
    for key in cfg:
        if key not in KEYS and key != "tie_weights":
            near = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"the configuration has an unknown key {key!r}{hint}")
    if missing := [key for key in KEYS if key not in cfg]:
        raise ValueError(f"the configuration lacks {', '.join(map(repr, missing))}")
    for key in SIZES:
        if type(cfg[key]) is not int or cfg[key] < 1:
            raise ValueError(f"{key} is {cfg[key]!r}; a whole number above 0 is needed")
    if cfg["emb_dim"] % cfg["n_heads"]:
        raise ValueError(f"emb_dim {cfg['emb_dim']} is not divisible by n_heads {cfg['n_heads']}")
    if not (isinstance(cfg["drop_rate"], (int, float)) and 0 <= cfg["drop_rate"] < 1):
        raise ValueError(f"drop_rate is {cfg['drop_rate']!r}; it must be at least 0 and below 1")
    if not all(isinstance(flag, bool) for flag in (cfg["qkv_bias"], cfg.get("tie_weights", False))):
        raise ValueError("qkv_bias and tie_weights must be True or False, without quotes")


def check_ids(in_idx, past, context_length):
    """Raise unless in_idx holds whole numbers, `(B, T)`, and `past` tokens and these fit the context."""
    if in_idx.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"token IDs are whole numbers (int64); got {in_idx.dtype}")
    if in_idx.dim() != 2 or in_idx.shape[1] == 0:
        hint = "one text? ids.unsqueeze(0)" if in_idx.numel() else "there is no new token to read"
        raise ValueError(f"token IDs must be (B, T), T > 0; got {tuple(in_idx.shape)}: {hint}")
    if context_length < 1:
        raise ValueError(f"the context is {context_length} tokens long; it must be at least 1")
    if (total := past + in_idx.shape[1]) > context_length:
        have = f"the model has only {context_length} positions (context_length)"
        raise ValueError(f"{total} tokens, but {have}: shorten the text, or keep its last tokens")


def check_prompt(idx, context_size):
    """As check_ids, for a text to be continued: it may be longer than the context, as its last tokens are read."""
    check_ids(idx, 1 - idx.shape[-1:].numel(), context_size)  # so it counts as one token


def checked_ids(forward):
    """Decorate a model's `forward(in_idx, cache, ...)`: it refuses IDs of a wrong kind, too many, or unknown."""

    @functools.wraps(forward)
    def checked(self, in_idx, cache=None, *args, **kwargs):
        check_ids(in_idx, cache[0].length if cache else 0, self.pos_emb.num_embeddings)
        try:
            return forward(self, in_idx, cache, *args, **kwargs)
        except IndexError:
            low, high, last = in_idx.min(), in_idx.max(), self.tok_emb.num_embeddings - 1
            if low >= 0 and high <= last:  # another mistake
                raise
            raise ValueError(f"token IDs must be 0 to {last}; these are {low} to {high}") from None

    return checked


def check_instruction(entry):
    """Raise ValueError unless the entry says what is to be done."""
    if not str(entry.get("instruction") or "").strip():
        given = [f"{key} {text!r}" for key, text in entry.items() if text and key != "instruction"]
        only = f" (only {', '.join(given)})" if given else ""
        raise ValueError(f"there is no instruction{only}: say what is to be done")


def check_room(prompts, context_size):
    """Raise ValueError unless each prompt, a list of IDs, leaves a position for an answer."""
    if not all(map(len, prompts)):
        raise ValueError(
            f"prompt {[*map(len, prompts)].index(0)} is empty: there is nothing to answer"
        )
    longest = max(map(len, prompts), default=0)
    if longest >= context_size:
        raise ValueError(
            f"a prompt of {longest} tokens leaves no room for an answer: "
            f"the model has {context_size} positions. Shorten the instruction or its input"
            + f" (prompt {[*map(len, prompts)].index(longest)})"
            * (len(prompts) > 1)
        )


# --- what is put back -----------------------------------------------------------------------------


@contextmanager
def evaluation_mode(model):
    """Within the block the model is in evaluation mode; afterwards each part is as it was."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        yield model.eval()
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def stored_by_columns(model, tokens=32):
    """Within the block, a CPU's wide linear layers lie by columns (a second copy), from 32 tokens on.

    A single row times such a layer is up to three times as fast then; the values stay.
    """
    layers = [part for part in model.modules() if tokens >= 32 and isinstance(part, nn.Linear)]
    wide = [layer.weight for layer in layers if layer.out_features >= 2 * layer.in_features]
    kept = {weight: weight.data for weight in wide if weight.is_cpu}
    for weight, data in kept.items():
        weight.data = data.t().contiguous().t()
    try:
        yield model
    finally:
        for weight, data in kept.items():
            weight.data = data


# --- tied weights ---------------------------------------------------------------------------------


def keep_tied(model):
    """Let a model whose embedding and head share a matrix load files, and be tied again afterward."""
    model.register_load_state_dict_pre_hook(share_head)
    model.register_load_state_dict_post_hook(tie_again)


def share_head(model, state_dict, prefix, *_):
    """Before a tied model loads: one of the two names suffices, two different matrices do not fit."""
    names = [f"{prefix}tok_emb.weight", f"{prefix}out_head.weight"]
    found = [state_dict[name] for name in names if name in state_dict]
    if len(found) == 2 and not torch.equal(*found):
        raise ValueError("tie_weights is set, but tok_emb.weight and out_head.weight differ")
    state_dict.update((name, found[0]) for name in names if found)


def tie_again(model, loaded):
    """After a tied model has `loaded`: assigned tensors, or a model made without memory, are two again."""
    model.tok_emb.weight = model.out_head.weight
