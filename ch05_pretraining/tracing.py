"""Where in a model an answer comes from: its residual stream read, exchanged, and parts of it put out of action.

    lens(model, ids, words)                   how likely some tokens are, read after each block, at each place
    given_back(model, ids, other, words)      which places hold what one text says and another does not
    by_place(model, encoding, text, other, answers)   the same for a sentence and another, with labels
    with replaced(model, 3, "ff", mean):      a block's feed-forward or attention says the same everywhere

    labels, nats = by_place(model, encoding, "The young of the cow is called the", "The young of the cat is called the",
                            [" calf", " kitten"])

Nothing is trained: all is measured on the finished model (nostalgebraist, 2020, "interpreting GPT: the logit lens";
Meng and others, 2022, "Locating and Editing Factual Associations in GPT").
"""

from contextlib import contextmanager

import torch
from torch import Tensor

from shared.guards import evaluation_mode

PARTS = ("att", "ff")


@torch.inference_mode()
def streams(model, ids: Tensor) -> Tensor:
    """The residual stream before the first block and after each: `(B, T) -> (L + 1, B, T, C)`."""
    with evaluation_mode(model):
        x = model.tok_emb(ids) + model.pos_emb(torch.arange(ids.shape[1], device=ids.device))
        found = [x]
        for block in model.trf_blocks:
            found.append(block(found[-1]))
    return torch.stack(found)


@torch.inference_mode()
def read(model, x: Tensor) -> Tensor:
    """What the model would say next if no block came after: `(..., C) -> (..., V)`, log-probabilities."""
    return model.out_head(model.final_norm(x)).log_softmax(dim=-1)


def lens(model, ids: list[int], words: list[int]) -> Tensor:
    """Log-probabilities of the tokens `words` after each token of a text and each block: `(L + 1, T, W)`."""
    return read(model, streams(model, torch.tensor([ids]))[:, 0])[..., words]


@torch.inference_mode()
def given_back(model, ids: list[int], other: list[int], words: list[int], groups=None) -> Tensor:
    """Nats of an answer's margin that places of `other` give back if they get what they hold in `ids`: `(L + 1, G)`.

    Two texts of as many tokens, which differ in their subject. The margin: that of words[0], which follows `ids`, over
    the mean of the other words. Row l: exchanged after block l, 0 before the first. A group is a list of places,
    exchanged together (default: each place alone). The last place after the last block gives back all that there is.
    ValueError where lengths differ.
    """
    if len(ids) != len(other):
        raise ValueError(f"the texts have {len(ids)} and {len(other)} tokens: give two as long")
    groups = groups or [[place] for place in range(len(ids))]
    found = []

    def margin(x):
        said = read(model, x[:, -1])[:, words]  # (B, W)
        return said[:, 0] - said[:, 1:].mean(dim=1)

    both = streams(model, torch.tensor([ids, other]))
    with evaluation_mode(model):
        start = margin(both[-1, 1:])
        for layer, (mine, others) in enumerate(both):
            x = others.repeat(len(groups), 1, 1)  # (G, T, C), a copy of the text for each group
            for row, places in zip(x, groups):
                row[list(places)] = mine[list(places)]
            for block in model.trf_blocks[layer:]:
                x = block(x)
            found.append(margin(x) - start)
    return torch.stack(found)


def by_place(
    model, encoding, text: str, other: str, answers: list[str]
) -> tuple[list[str], Tensor]:
    """`given_back` for two sentences of as many tokens: `(the tokens of text, nats (L + 1, T))`.

    answers: the one that follows `text`, then wrong ones, each with its space; the first token of each counts.
    """
    rows = [[encoding.eot_token, *encoding.encode_ordinary(some)] for some in (text, other)]
    words = [encoding.encode_ordinary(answer)[0] for answer in answers]
    if words[0] in words[1:]:
        raise ValueError(f"{answers[0]!r} begins with the same token as a wrong answer")
    return [encoding.decode([i]) for i in rows[0]], given_back(model, *rows, words)


@torch.inference_mode()
def means(model, ids: Tensor) -> dict[tuple[int, str], Tensor]:
    """The mean output of each block's attention and feed-forward over texts `(B, T)`: `{(layer, part): (C,)}`."""
    found, hooks = {}, []
    for layer, block in enumerate(model.trf_blocks):
        for part in PARTS:

            def keep(module, given, out, key=(layer, part)):
                found[key] = out.flatten(0, 1).mean(dim=0)

            hooks.append(getattr(block, part).register_forward_hook(keep))
    try:
        streams(model, ids)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def replaced(model, layer: int, part: str, mean: Tensor, places: Tensor | None = None):
    """In the block the part's output is `mean` `(C,)`, at all places or where `places` `(B, T)` is True."""

    def hook(module, given, out):
        if places is None:
            return mean.expand_as(out)
        return torch.where(places[..., None], mean, out)

    handle = getattr(model.trf_blocks[layer], part).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
