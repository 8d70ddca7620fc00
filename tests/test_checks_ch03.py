"""Every check of chapter 3's exercises: accepts right answers, refuses the usual wrong ones."""

import functools

import notebooks
import pytest
import torch
import torch.nn.functional as F

from shared.attention import MultiHeadAttention, MultiHeadAttentionWrapper, SelfAttention_v1
from shared.checks import ch03 as check

answers = functools.partial(notebooks.answers, "ch03_attention")
NAMES = ["W_query", "W_key", "W_value"]


# --- 3.1


def copied(change):
    """An answer to 3.1 whose weights are `change(weights of v2's layer, name)`."""

    def answer(v2):
        d_out, d_in = v2.W_query.weight.shape
        v1 = SelfAttention_v1(d_in, d_out)
        for name in NAMES:
            setattr(v1, name, torch.nn.Parameter(change(v2, name)))
        return v1

    return answer


def layer(v2, name):
    return getattr(v2, name).weight.detach()


OTHER = {"W_query": "W_key", "W_key": "W_query", "W_value": "W_value"}


# --- 3.2


def wrapper_of(d_out):
    return lambda d_in, context, heads: MultiHeadAttentionWrapper(
        d_in, d_out(heads), context, 0.0, heads
    )


def shared_by_heads(context_length=None, dropout=0.0, width=None, more=0):
    """The right answer, but for what is hard-coded in it."""

    def answer(d_in, context, heads):
        if heads not in (1, 2):
            raise ValueError(f"{heads} heads cannot share 2 numbers")
        return MultiHeadAttentionWrapper(
            width or d_in, 2 // heads, (context_length or context) + more, dropout, heads
        )

    return answer


def always_two_heads(d_in, context, heads):
    if heads > 2:
        raise ValueError
    return MultiHeadAttentionWrapper(d_in, 1, context, 0.0, 2)


# --- 3.3


def gpt2(d_in=768, d_out=768, context=1024, dropout=0.0, heads=12, bias=False):
    return lambda: MultiHeadAttention(d_in, d_out, context, dropout, heads, bias)


# --- 3.4


def peek(hidden=lambda T, ahead: torch.ones(T, T).triu(1 + ahead).bool(), way="fill", dim=-1):
    def answer(scores, ahead=0):
        mask = hidden(scores.shape[-1], ahead)
        if way == "fill":
            return scores.masked_fill(mask, -torch.inf).softmax(dim=dim)
        if way == "in place":
            return scores.masked_fill_(mask, -torch.inf).softmax(dim=dim)
        if way == "ones":
            return (scores + mask.float()).softmax(dim=dim)
        if way == "ones times infinity":
            return (scores + mask.float() * -torch.inf).softmax(dim=dim)
        if way == "zeros after":
            return scores.softmax(dim=dim).masked_fill(mask, 0.0)
        if way in ("divided", "divided exponentials"):
            large = scores.softmax(dim=dim) if way == "divided" else scores.exp()
            kept = large.masked_fill(mask, 0.0)
            return kept / kept.sum(dim=dim, keepdim=True)
        if way == "one text":
            return scores[..., :1, :].masked_fill(mask[:1], -torch.inf).softmax(dim=dim)
        if way == "zeros before":
            return scores.masked_fill(mask, 0.0).softmax(dim=dim)
        return (2 * scores).masked_fill(mask, -torch.inf).softmax(dim=dim)

    return answer


# --- 3.5


def attention(
    q, k, v, num_heads, transpose=True, divisor="head", mask="hide", dim=-1, join=True, merge=True
):
    B, T, C = q.shape
    D = C // num_heads
    if transpose:
        q, k, v = (x.reshape(B, T, num_heads, D).transpose(1, 2) for x in (q, k, v))
    else:
        q, k, v = (x.reshape(B, num_heads, T, D) for x in (q, k, v))
    by = {"head": D**0.5, "d_out": C**0.5, "none": 1, "no root": D, "tokens": T**0.5}[divisor]
    scores, future = q @ k.mT / by, torch.ones(T, T).triu(diagonal=1)
    if mask == "hide":
        scores = scores.masked_fill(future.bool(), -torch.inf)
    if mask == "ones":
        scores = scores + future
    if mask == "infinity":
        scores = scores + future * -torch.inf
    if mask == "strict":  # a token does not see itself
        scores = scores.masked_fill(future.triu(0).bool() | torch.eye(T).bool(), -torch.inf)
    if mask == "past":
        scores = scores.masked_fill(future.bool().T, -torch.inf)
    weights = scores.softmax(dim=dim)
    if mask == "after":
        weights = weights.tril()
    out = weights @ v
    if not merge:
        return out
    return (out.transpose(1, 2) if transpose and join else out).reshape(B, T, C)


def wrong(**options):
    def answer(queries, keys, values, num_heads):
        return attention(queries, keys, values, num_heads, **options)

    return answer


def without_heads(queries, keys, values, num_heads):
    return attention(queries, keys, values, 1)


def right_only_for_one_text(queries, keys, values, num_heads):
    out = attention(queries, keys, values, num_heads)
    return out[:1].expand_as(out)


def interleaved_heads(queries, keys, values, num_heads):
    def cut(x):  # number c belongs to head c % H
        return x.unflatten(-1, (-1, num_heads)).mT.flatten(2)

    return attention(cut(queries), cut(keys), cut(values), num_heads)


# --- 3.6


def orders(change, same):
    def answer(module, x):
        with torch.no_grad():
            return not same(module(change(x)), module(x))

    return answer


def last_close(one, other):
    return torch.allclose(one[:, -1], other[:, -1], atol=1e-5)


def but_the_last(x):
    return torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)


def two_exchanged(x):
    """Only the two tokens before the last change places."""
    order = list(range(x.shape[1]))
    order[-3], order[-2] = order[-2], order[-3]
    return x[:, order]


def the_gap_itself(module, x):
    with torch.no_grad():
        return (module(but_the_last(x)) - module(x))[:, -1].abs().max().item()


def in_eval(module, x):
    module.eval()
    order = [*torch.arange(x.shape[1] - 1).roll(1).tolist(), x.shape[1] - 1]
    return not torch.allclose(module(x[:, order])[:, -1], module(x)[:, -1], atol=1e-6)


def in_place(module, x):
    before = module(x)[:, -1]
    x[:, :-1] = x[:, :-1].flip(1)
    return not torch.allclose(module(x)[:, -1], before, atol=1e-5)


WRONG = {
    "same_attention": {
        "not transposed": copied(lambda v2, name: layer(v2, name).clone()),
        "reshaped": copied(lambda v2, name: layer(v2, name).reshape(layer(v2, name).T.shape)),
        "shared memory": copied(lambda v2, name: layer(v2, name).T),
        "queries and keys exchanged": copied(lambda v2, name: layer(v2, OTHER[name]).T.clone()),
        "new weights": lambda v2: SelfAttention_v1(*v2.W_query.weight.T.shape),
        "v2 itself": lambda v2: v2,
    },
    "two_numbers": {
        "d_out of all heads": wrapper_of(lambda heads: 2),
        "one number a head": wrapper_of(lambda heads: 1),
        "no error": wrapper_of(lambda heads: max(1, 2 // heads)),
        "always two heads": always_two_heads,
        "a fixed context": shared_by_heads(context_length=1024),
        "a fixed short context": shared_by_heads(context_length=6),
        "a context of one more": shared_by_heads(more=1),
        "with dropout": shared_by_heads(dropout=0.1),
        "a fixed width": shared_by_heads(width=3),
        "another class": lambda d_in, context, heads: MultiHeadAttention(
            d_in, 2, context, 0.0, heads
        ),
    },
    "predicted_parameters": {
        "no output layer": lambda d_in, d_out, heads, bias: 3 * (d_in * d_out + bias * d_out),
        "no bias in it": lambda d_in, d_out, heads, bias: (
            3 * (d_in * d_out + bias * d_out) + d_out**2
        ),
        "heads counted": lambda d_in, d_out, heads, bias: (
            3 * heads * (d_in * d_out + bias * d_out) + d_out**2 + d_out
        ),
        "bias ignored": lambda d_in, d_out, heads, bias: 3 * d_in * d_out + d_out**2 + d_out,
        "square layers": lambda d_in, d_out, heads, bias: 4 * d_out**2 + d_out + 3 * bias * d_out,
    },
    "gpt2_attention": {
        "d_out of one head": gpt2(d_out=12, heads=12),
        "a head too few": gpt2(heads=6),
        "a short context": gpt2(context=256),
        "a long context": gpt2(context=2048),
        "with bias": gpt2(bias=True),
        "with dropout": gpt2(dropout=0.1),
        "narrow": gpt2(d_in=512),
        "a wrapper": lambda: MultiHeadAttentionWrapper(768, 64, 1024, 0.0, 12),
    },
    "peeking_weights": {
        "no mask": peek(lambda T, ahead: torch.zeros(T, T).bool()),
        "ahead ignored": peek(lambda T, ahead: torch.ones(T, T).triu(1).bool()),
        "one too few": peek(lambda T, ahead: torch.ones(T, T).triu(2 + ahead).bool()),
        "self hidden": peek(lambda T, ahead: torch.ones(T, T).triu(ahead).bool()),
        "the past hidden": peek(lambda T, ahead: torch.ones(T, T).tril(-1 - ahead).bool()),
        "a mask of ones added": peek(way="ones"),
        "ones times infinity": peek(way="ones times infinity"),
        "zeros before": peek(way="zeros before"),
        "zeros after, not renormalised": peek(way="zeros after"),
        "softmax, then hidden and divided": peek(way="divided"),
        "exponentials, divided": peek(way="divided exponentials"),
        "weights of one query": peek(way="one text"),
        "wrong axis": peek(dim=-2),
        "dim=1": peek(dim=1),
        "scores doubled": peek(way="doubled"),
        "scores overwritten": peek(way="in place"),
    },
    "repaired_attention": {
        "missing transpose": wrong(transpose=False),
        "heads joined without the transpose": wrong(join=False),
        "heads not joined": wrong(merge=False),
        "missing causal mask": wrong(mask="none"),
        "mask of ones added": wrong(mask="ones"),
        "ones times infinity": wrong(mask="infinity"),
        "zeros after the softmax": wrong(mask="after"),
        "self hidden": wrong(mask="strict"),
        "the past hidden": wrong(mask="past"),
        "softmax over queries": wrong(dim=-2),
        "softmax over heads": wrong(dim=1),
        "softmax over texts": wrong(dim=0),
        "no scaling": wrong(divisor="none"),
        "scaled by d_out": wrong(divisor="d_out"),
        "scaled without the root": wrong(divisor="no root"),
        "scaled by the number of tokens": wrong(divisor="tokens"),
        "no heads": without_heads,
        "the first text only": right_only_for_one_text,
        "interleaved heads": interleaved_heads,
        "the broken one": "broken_attention",
    },
    "order_matters": {
        "always": lambda module, x: True,
        "never": lambda module, x: False,
        "no tolerance": orders(but_the_last, lambda a, b: torch.equal(a[:, -1], b[:, -1])),
        "the last moved, too": orders(lambda x: x.flip(1), last_close),
        "all outputs compared": orders(but_the_last, lambda a, b: torch.allclose(a, b, atol=1e-5)),
        "nothing shuffled": orders(lambda x: x, last_close),
        "two tokens exchanged": orders(two_exchanged, last_close),
        "the gap itself": the_gap_itself,
        "the input changed": in_place,
        "a token replaced": orders(
            lambda x: torch.cat([x[:, :-1] + 1, x[:, -1:]], dim=1), last_close
        ),
    },
}

# other answers that are right
RIGHT = {
    "two_numbers": {"in a closure": shared_by_heads()},
    "peeking_weights": {
        "a large negative number": lambda scores, ahead=0: scores.masked_fill(
            torch.ones(scores.shape[-2:]).triu(1 + ahead).bool(), -1e9
        ).softmax(dim=-1),
        "minus infinity added": lambda scores, ahead=0: (
            scores + torch.full(scores.shape[-2:], -torch.inf).triu(1 + ahead)
        ).softmax(dim=-1),
        "a mask of what may be seen": lambda scores, ahead=0: F.softmax(
            scores.masked_fill(torch.ones(scores.shape[-2:]).tril(ahead) == 0, -torch.inf), dim=-1
        ),
    },
    "repaired_attention": {"in full": wrong()},
    "order_matters": {"in eval, rotated": in_eval},
}
RIGHT_CASES = [(exercise, name) for exercise, rights in RIGHT.items() for name in rights]
CASES = [(exercise, name) for exercise, wrongs in WRONG.items() for name in wrongs]


@pytest.fixture(scope="module")
def solutions():
    return answers("solutions.ipynb")


@pytest.mark.parametrize(("exercise", "name"), RIGHT_CASES)
def test_accepts_other_right_answers(exercise, name):
    result = getattr(check, exercise)(RIGHT[exercise][name])
    assert result.ok, result.text


@pytest.mark.parametrize(("exercise", "name"), CASES)
def test_refuses_wrong_answers(exercise, name, solutions):
    answer = WRONG[exercise][name]
    result = getattr(check, exercise)(solutions[answer] if isinstance(answer, str) else answer)
    assert not result.ok and result.text.startswith("wrong: "), f"{name}: {result.text}"


SAYS = {
    "same_attention": {
        "not transposed": "W_query has shape (2, 3); v1 needs (3, 2)",
        "reshaped": "v2 computes x @ weight.T",
        "shared memory": "shares its memory",
        "v2 itself": "a SelfAttention_v2 is no SelfAttention_v1",
    },
    "two_numbers": {
        "d_out of all heads": "num_heads=2: the size of a token's output is 4, not 2",
        "one number a head": "num_heads=1: the size of a token's output is 1, not 2",
        "no error": "3 heads cannot share 2 numbers: a ValueError is due",
        "always two heads": "num_heads=1: there are 2",
        "a fixed context": "a context of 6 tokens was asked for, the heads take 1024",
        "a fixed short context": "a context of 9 tokens was asked for, the heads take 6",
        "with dropout": "dropout is 0.1",
        "a fixed width": "5 numbers a token, but d_in is 3",
        "another class": "is no MultiHeadAttentionWrapper",
    },
    "predicted_parameters": {
        "no output layer": "you predict 1,769,472",
        "bias ignored": "qkv_bias=True",
        "square layers": "from 3 to 2 numbers",
    },
    "gpt2_attention": {
        "d_out of one head": "d_out is 12, not 768",
        "a head too few": "6 heads, not 12",
        "a short context": "256 tokens, not 1,024",
        "a long context": "2048 tokens, not 1,024",
        "with bias": "have a bias",
        "with dropout": "dropout is 0.1",
        "narrow": "d_in is 512, not 768",
        "a wrapper": "is no MultiHeadAttention",
    },
    "peeking_weights": {
        "no mask": "that it may not see",
        "ahead ignored": "ahead=1: a token does not see all that it may see",
        "ones times infinity": "not a number",
        "softmax, then hidden and divided": "leaves nothing to divide: hide before the softmax",
        "exponentials, divided": "too large for `exp`",
        "weights of one query": "the weights have shape (1, 6)",
        "zeros after, not renormalised": "not to 1",
        "wrong axis": "not to 1",
        "scores doubled": "with wrong weights",
        "scores overwritten": "changed what it was given",
    },
    "repaired_attention": {
        "missing transpose": "did not change",
        "heads joined without the transpose": "sees the future",
        "heads not joined": "the shape is (2, 3, 5, 2), not (2, 5, 6)",
        "missing causal mask": "sees the future",
        "mask of ones added": "sees the future",
        "ones times infinity": "a 0 of the mask multiplied by infinity",
        "softmax over queries": "softmax runs over the queries",
        "softmax over heads": "is its axis the last?",
        "no scaling": "not divided",
        "scaled by d_out": "not of one head's",
        "scaled without the root": "not by its root",
        "interleaved heads": "how heads are joined",
    },
    "order_matters": {
        "always": "is there a tolerance",
        "never": "do all tokens before the last change places?",
        "no tolerance": "is there a tolerance",
        "the last moved, too": "does the last token keep its place",
        "two tokens exchanged": "a copy of the first token (T=9): the last output depends",
        "the gap itself": "True or False is asked for",
        "the input changed": "changed what it was given",
    },
}
SAYINGS = [(exercise, name) for exercise, names in SAYS.items() for name in names]


@pytest.mark.parametrize(("exercise", "name"), SAYINGS)
def test_names_the_property_that_failed(exercise, name):
    text = getattr(check, exercise)(WRONG[exercise][name]).text
    assert SAYS[exercise][name] in text, text


def test_every_check_is_tested():
    checks = {name for name, value in vars(check).items() if hasattr(value, "is_exercise")}
    assert checks == set(WRONG) == set(SAYS)
