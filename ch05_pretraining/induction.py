"""How well a model copies from its context: two measures, on what no worksheet and no work contains.

    accuracy = repeated_tokens(model, ordinary_tokens(tokenizer))
    accuracy = returning_names(model, tokenizer, passages_with_names(texts, tokenizer))

A model that has not learned to look back scores near 0 in the first: random tokens cannot be foretold in
another way (induction, Olsson et al., 2022).
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext

import tiktoken
import torch
from names import names_in, with_names
from torch import Tensor, nn

from shared.guards import evaluation_mode

# Two vowels stand side by side in each syllable, which no syllable of `shared/invented.py` has.
ONSETS = "b d f g h k l m n p r s t v z br dr gr kr pl sk tr".split()
VOWEL_PAIRS = "ai au ea ei eo ia ie oa oi ou ua ui".split()
CODAS = "b d f g k l m n p r s t x".split()


def repeated_tokens(
    model: Callable[[Tensor], Tensor],
    vocab_ids: Sequence[int],
    sequences: int = 200,
    length: int = 100,
    seed: int = 123,
    batch_size: int = 16,
) -> float:
    """Next-token accuracy when `length` random tokens come a second time, from the second token on.

    model: `(B, T) -> (B, T, V)`, T = 2 * length - 1. A token occurs once in a half, so that 1.0 can be
    reached; the first of the second half cannot be foretold and does not count.
    Raises ValueError if there are fewer than `length` tokens to draw from.
    """
    if not 2 <= length <= len(vocab_ids):
        raise ValueError(f"cannot draw {length} different tokens out of {len(vocab_ids)}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(sequences, len(vocab_ids), generator=generator).argsort(dim=1)
    half = torch.tensor(vocab_ids)[order[:, :length]]  # (sequences, length)
    ids = torch.cat((half, half), dim=1)
    counted = torch.zeros_like(ids, dtype=torch.bool)
    counted[:, length + 1 :] = True
    return _accuracy(model, ids, counted, batch_size)


def held_out_name(rng: random.Random, tokenizer: tiktoken.Encoding, tokens: int = 3) -> str:
    """An invented name of at least so many tokens, which the worksheets cannot contain."""
    while True:
        count = rng.choice((2, 2, 3))
        parts = [rng.choice(ONSETS) + rng.choice(VOWEL_PAIRS) for _ in range(count)]
        name = rng.choice(CODAS).join(parts).capitalize() + rng.choice(CODAS)
        both = (f" {name}", name)  # within a line and at its start
        if all(len(tokenizer.encode_ordinary(text)) >= tokens for text in both):
            return name


def passages_with_names(
    texts: Sequence[str],
    tokenizer: tiktoken.Encoding,
    count: int = 200,
    length: int = 250,
    seed: int = 123,
) -> list[str]:
    """Passages of about `length` tokens, drawn from works, in which a name comes back.

    Fewer than `count` where the works do not have so many. Overlapping ones are possible in short works.
    """
    rng = random.Random(f"passages {seed}")
    starts = [(text, match.end()) for text in texts for match in re.finditer(r"\n\s*\n|\A", text)]
    rng.shuffle(starts)
    passages = []
    for text, start in starts:
        ids = tokenizer.encode_ordinary(text[start : start + 6 * length])[:length]
        passage = tokenizer.decode(ids, errors="ignore")
        if len(ids) == length and names_in(passage):
            passages.append(passage)
            if len(passages) == count:
                break
    return passages


def returning_names(
    model: Callable[[Tensor], Tensor],
    tokenizer: tiktoken.Encoding,
    passages: Sequence[str],
    context: int = 256,
    seed: int = 123,
    batch_size: int = 16,
) -> float:
    """Accuracy on the tokens of an invented name that comes back, its first token given.

    In each passage the most frequent name is replaced by one of at least three tokens. Of each occurrence that
    has occurred before in the same tokens, all tokens but the first count.
    model: `(B, T) -> (B, T, V)`, T <= context. Raises ValueError if no name comes back.
    """
    rng = random.Random(f"names {seed}")
    rows = []
    for passage in passages:
        if not (names := names_in(passage)):
            continue
        name = held_out_name(rng, tokenizer)
        text = with_names(passage, {names[0]: name})
        ids = tokenizer.encode_ordinary(text)[:context]
        counted = [place for form in (f" {name}", name) for place in _returns(ids, tokenizer, form)]
        if counted:
            rows.append((ids, counted))
    if not rows:
        raise ValueError("no passage has a name that comes back: give longer ones, or others")
    longest = max(len(ids) for ids, _ in rows)
    batch = torch.zeros(
        len(rows), longest, dtype=torch.int64
    )  # padded on the right: seen by no token before
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, (ids, counted) in enumerate(rows):
        batch[i, : len(ids)] = torch.tensor(ids)
        mask[i, counted] = True
    return _accuracy(model, batch, mask, batch_size)


def _returns(ids: list[int], tokenizer: tiktoken.Encoding, form: str) -> Iterator[int]:
    """Where the second and later tokens of the form stand, from its second occurrence on."""
    name = tokenizer.encode_ordinary(form)
    starts = [i for i in range(len(ids)) if ids[i : i + len(name)] == name]
    for start in starts[1:]:
        yield from range(start + 1, start + len(name))


def _accuracy(model, ids: Tensor, counted: Tensor, batch_size: int) -> float:
    """The share of counted tokens, `(N, T)`, that the model gives the highest logit: a float."""
    is_module = isinstance(model, nn.Module)
    weight = next(model.parameters(), None) if is_module else None
    device = weight.device if weight is not None else ids.device
    right = 0
    with evaluation_mode(model) if is_module else nullcontext(), torch.inference_mode():
        for batch, mask in zip(ids.split(batch_size), counted.split(batch_size)):
            batch, mask = batch.to(device), mask.to(device)
            wanted = mask[:, 1:]  # (B, T - 1), a token and its prediction one place before
            logits = model(batch[:, :-1])[wanted]  # (how many count, V)
            right += (logits.argmax(dim=-1) == batch[:, 1:][wanted]).sum().item()
    return right / counted.sum().item()
