"""Checks for the exercises of chapter 3: `from shared.checks import ch03 as check`."""

import torch

from shared.checks import (
    Verdict,
    check_every_token_sees_its_past,
    check_no_token_sees_the_future,
    check_rows_sum_to_one,
    exercise,
    require,
    require_error,
)
from shared.checks.means import modules_built
from shared.checks.returned import number, yes_or_no


def _gap(one, other):
    """The largest difference of two tensors; infinite if it is not a number."""
    return torch.nan_to_num((one - other).abs(), nan=torch.inf).max().item()


@exercise
def same_attention(answer):
    """`answer(v2) -> v1`: a SelfAttention_v1 of its own, equal in its outputs."""
    from shared.attention import SelfAttention_v1, SelfAttention_v2

    # with a size of 1, a transposed view is laid out as its copy would be
    for d_in, d_out, T in [(3, 2, 6), (2, 5, 3), (4, 4, 1), (4, 4, 7), (3, 1, 4), (1, 3, 4)]:
        torch.manual_seed(123)
        v2, x = SelfAttention_v2(d_in, d_out), torch.randn(T, d_in)
        v1 = answer(v2)
        require(isinstance(v1, SelfAttention_v1), f"a {type(v1).__name__} is no SelfAttention_v1")
        names = ["W_query", "W_key", "W_value"]
        for name in names:
            own = dict(v1.named_parameters()).get(name)
            learns = own is not None and own.is_leaf and own.requires_grad
            require(
                learns,
                f"{name} is no parameter of v1 that can learn: it takes a torch.nn.Parameter",
            )
            shape = tuple(own.shape)
            require(shape == (d_in, d_out), f"{name} has shape {shape}; v1 needs {(d_in, d_out)}")
            theirs, ours = getattr(v2, name).weight.detach(), getattr(v1, name).detach()
            require(
                _gap(ours, theirs.T) == 0,
                f"{name} does not hold v2's weights ({d_in} to {d_out} numbers): v2 computes x @ weight.T",
            )
        require(_gap(v1(x), v2(x)) < 1e-5, "the weights are v2's, and yet the outputs are not")
        v1(x).square().sum().backward()
        lost = any(weight.grad is not None for weight in v2.parameters())
        require(not lost, "v1's gradients arrive in v2: its weights must be parameters of its own")
        before = [weight.detach().clone() for weight in (*v2.parameters(), *v1.parameters())]
        for i, name in enumerate(names):
            with torch.no_grad():
                getattr(v1, name).add_(1.0)
            after = [*v2.parameters(), *v1.parameters()]
            moved = [j for j, weight in enumerate(after) if not weight.equal(before[j])]
            require(
                min(moved) >= 3,
                "v1 shares its memory with v2: a change of v1 changed v2, too",
            )
            require(len(moved) == 1 + i, f"v1's {name} shares its memory with another of its own")
    return "v1 computes what v2 computes, with a copy of its own"


@exercise
def two_numbers(answer):
    """`answer(d_in, context_length, num_heads)` -> a wrapper with two numbers a token."""
    from shared.attention import MultiHeadAttentionWrapper

    for d_in, context_length, num_heads in [(3, 6, 2), (5, 9, 1), (4, 4, 2)]:
        wrapper = answer(d_in, context_length, num_heads)
        require(
            isinstance(wrapper, MultiHeadAttentionWrapper),
            f"a {type(wrapper).__name__} is no MultiHeadAttentionWrapper",
        )
        found = len(wrapper.heads)
        require(found == num_heads, f"num_heads={num_heads}: there are {found}")
        for head in wrapper.heads:
            context, dropout = head.context_length, head.dropout.p
            require(
                context == context_length,
                f"a context of {context_length} tokens was asked for, the heads take {context}",
            )
            require(dropout == 0, f"dropout is {dropout}; the exercise asks for none")
        require(
            len(set(wrapper.heads)) == found, "the heads are one and the same: each needs its own"
        )
        torch.manual_seed(123)
        out = wrapper(torch.randn(2, context_length, d_in))
        require(
            out.shape[-1] == 2,
            f"num_heads={num_heads}: the size of a token's output is {out.shape[-1]}, not 2: d_out is "
            "the size of one head",
        )
    for num_heads in [3, 4, 5, 8, 0, -1, -2]:
        case = f"{num_heads} heads cannot share 2 numbers"
        require_error(ValueError, case, answer, 3, 6, num_heads)
    return "two numbers a token with one head and with two, and a ValueError for three"


@exercise(guess=lambda answer: answer(768, 768, 12, False))
def predicted_parameters(answer):
    """`answer(d_in, d_out, num_heads, qkv_bias)` predicts the parameters of MultiHeadAttention.

    How many there are is said only when the formula is right: it is to be predicted.
    """
    from shared.attention import MultiHeadAttention

    for d_in, d_out, num_heads in [(768, 768, 12), (3, 2, 1), (3, 2, 2), (10, 6, 3)]:
        for qkv_bias in [False, True]:
            layer = MultiHeadAttention(d_in, d_out, 4, 0.0, num_heads, qkv_bias)
            want = sum(p.numel() for p in layer.parameters())
            with modules_built() as built:
                got = number(answer(d_in, d_out, num_heads, qkv_bias))
            require(
                not built, f"you build a {built and built[0]}; write a formula, without a layer"
            )
            biases = 3 * d_out
            mistakes = {
                "the output layer has a bias, always": want - d_out,
                "the output layer has a bias, always, and the others only with qkv_bias": want
                - d_out
                + biases * (1 if not qkv_bias else 0),
                "queries, keys and values have biases only with qkv_bias": want + biases,
                "queries, keys and values have biases, too, with qkv_bias": want - biases,
                "there is a fourth layer, behind the heads": want - d_out * d_out - d_out,
                "the output layer goes from d_out to d_out": want - d_out * d_out + d_in * d_out,
                "the number of heads does not matter: d_out is that of all heads together": want
                + (num_heads - 1) * (want - d_out * d_out - d_out),
                "the number of heads does not matter, however it comes in": want * num_heads,
            }
            why = [text for text, wrong in mistakes.items() if got == wrong]
            why.append(f"the layer has {'more' if want > got else 'fewer'}")
            require(
                got == want,
                f"from {d_in} to {d_out} numbers, {num_heads} heads, qkv_bias={qkv_bias}: you predict "
                f"{got:,} parameters, and {why[0]}",
            )
    want = answer(768, 768, 12, False)
    return f"your formula agrees with the layer for every size and any number of heads; GPT-2's has {want:,}"


@exercise
def gpt2_attention(answer):
    """`answer()` -> a MultiHeadAttention of GPT-2's smallest size."""
    from shared.attention import MultiHeadAttention

    layer = answer()
    require(
        isinstance(layer, MultiHeadAttention), f"a {type(layer).__name__} is no MultiHeadAttention"
    )
    require(layer.W_query.in_features == 768, f"d_in is {layer.W_query.in_features}, not 768")
    require(
        layer.d_out == 768, f"d_out is {layer.d_out}, not 768: it is the size of all heads together"
    )
    require(layer.num_heads == 12, f"there are {layer.num_heads} heads, not 12")
    require(
        layer.context_length == 1024, f"the context is {layer.context_length} tokens, not 1,024"
    )
    require(layer.W_query.bias is None, "queries have a bias; the exercise asks for none")
    require(layer.dropout.p == 0, f"dropout is {layer.dropout.p}; the exercise asks for none")
    return "12 heads of 64 numbers each, and a context of 1,024 tokens"


@exercise
def peeking_weights(answer):
    """`answer(scores, ahead)` -> weights that reach `ahead` tokens into the future."""
    for shape in [(6, 6), (2, 5, 5), (2, 3, 4, 4), (1, 1)]:
        for ahead in [0, 1, 3, 10]:
            torch.manual_seed(123)
            scores, T = torch.randn(shape), shape[-1]
            weights = answer(scores, ahead)
            case = f"scores {shape}, ahead={ahead}"
            require(
                weights.shape == shape, f"{case}: the weights have shape {tuple(weights.shape)}"
            )
            require(not weights.isnan().any(), f"{case}: some weights are not a number")
            reach = torch.ones(T, T).tril(diagonal=ahead).bool()
            leaks = (weights[..., ~reach] != 0).any()
            require(not leaks, f"{case}: a token has a weight for one that it may not see")
            require(
                (weights[..., reach] > 0).all(), f"{case}: a token does not see all that it may see"
            )
            check_rows_sum_to_one(weights)
            want = torch.stack(
                [
                    torch.cat(
                        [row.softmax(dim=-1), row.new_zeros(*row.shape[:-1], T - row.shape[-1])],
                        dim=-1,
                    )
                    for row in (scores[..., t, : t + 1 + ahead] for t in range(T))
                ],
                dim=-2,
            )
            require(
                _gap(weights, want) < 1e-6,
                f"{case}: the right tokens are seen, with wrong weights. Were the scores changed before the "
                "softmax, other than by hiding?",
            )
            if T > ahead + 1:
                loud = scores.clone()
                loud[..., 0, -1] = 200.0
                require(
                    _gap(answer(loud, ahead), want) < 1e-6,
                    f"{case}: a hidden score of 200 leaves nothing to divide: hide before the softmax",
                )
            # adding the same to every score changes no weight; 1e-4: a score near 100 has fewer digits left
            require(
                _gap(answer(scores + 100, ahead), want) < 1e-4,
                f"{case}: a score of 100 is too large for `exp` alone: let torch.softmax take the largest off",
            )
    return "ahead=0 hides the future; ahead=1 sees one token of it, and no more"


def _attention(q, k, v, num_heads, transpose=True, divisor=None, mask="hide", dim=-1):
    """Attention in heads; the options make the usual mistakes, which `repaired_attention` names."""
    B, T, C = q.shape
    D = C // num_heads
    if transpose:
        q, k, v = (x.reshape(B, T, num_heads, D).transpose(1, 2) for x in (q, k, v))
    else:
        q, k, v = (x.reshape(B, num_heads, T, D) for x in (q, k, v))
    scores = q @ k.mT / (divisor or D) ** 0.5
    future = torch.ones(T, T).triu(diagonal=1)
    if mask == "hide":
        scores = scores.masked_fill(future.bool(), -torch.inf)
    elif mask == "add":
        scores = scores + future
    context = torch.softmax(scores, dim=dim) @ v
    return (context.transpose(1, 2) if transpose else context).reshape(B, T, C)


# of heads H, context C: the mistake as options of _attention, and what to say
_MISTAKES = [
    (lambda H, C: {"divisor": 1}, "the scores are not divided by the root of the head size"),
    (
        lambda H, C: {"divisor": C},
        "the scores are divided by the root of all {C} numbers, not of one head's",
    ),
    (
        lambda H, C: {"divisor": (C // H) ** 2},
        "the scores are divided by the head size, not by its root",
    ),
    (
        lambda H, C: {"dim": -2},
        "the softmax runs over the queries: a query's weights do not sum to 1",
    ),
    (lambda H, C: {"dim": 1}, "the softmax runs over the heads: a query's weights do not sum to 1"),
]


@exercise
def repaired_attention(answer):
    """`answer(queries, keys, values, num_heads)`: causal attention in heads, `(B, T, C)` each."""
    for B, T, H, D in [(2, 5, 3, 2), (1, 6, 2, 4), (3, 4, 4, 1), (2, 7, 1, 3), (2, 1, 2, 2)]:
        torch.manual_seed(123)
        C = H * D
        case = f"B={B}, T={T}, {H} heads of {D}"
        W = torch.randn(3, C, C, dtype=torch.float64)
        x = torch.randn(B, T, C, dtype=torch.float64)

        def attention(x):
            return answer(*(x @ w for w in W), H)

        got, want = attention(x), _attention(*(x @ w for w in W), H)
        require(
            got.shape == want.shape,
            f"{case}: the shape is {tuple(got.shape)}, not {tuple(want.shape)}",
        )
        require(
            not got.isnan().any(),
            f"{case}: some outputs are not a number. Does the softmax find nothing but minus infinity (is its "
            "axis the last?), or is a 0 of the mask multiplied by infinity?",
        )
        for options, message in _MISTAKES:
            wrong = _attention(*(x @ w for w in W), H, **options(H, C))
            if _gap(got, wrong) < 1e-9 < _gap(wrong, want):
                raise Verdict(f"{case}: {message.format(C=C)}")
        check_every_token_sees_its_past(attention, x)
        check_no_token_sees_the_future(attention, x)
        require(
            _gap(got, want) < 1e-9,
            f"{case}: each token sees the right ones, but outputs differ by {_gap(got, want):.2g}. Look at "
            "the divisor, the axis of the softmax, and how heads are joined again",
        )
    return "heads, scale, mask and softmax are as they ought to be, on shapes of every kind"


class _Function(torch.nn.Module):
    """A function as a module, so that an answer may call `.eval()` on it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@exercise
def order_matters(answer):
    """`answer(attention, x)`: does the last output depend on the order of the tokens before it?"""
    from shared.attention import CausalAttention, MultiHeadAttention, SelfAttention_v2

    torch.manual_seed(123)
    places = torch.randn(9, 6)
    causal = MultiHeadAttention(6, 6, 9, 0.0, num_heads=2)

    def changed(x):  # the output's numbers change places in sum: their mean stays
        first, out = x[:, :1, 0], x.clone()
        out[..., -2], out[..., -1] = out[..., -2] + first, out[..., -1] - first
        return out

    modules = {
        "attention without a mask": (SelfAttention_v2(6, 6), False),
        "one causal head": (CausalAttention(6, 6, 9, 0.0), False),
        "one causal layer of two heads": (causal, False),
        "a causal layer with positions": (
            _Function(lambda x: causal(x + places[: x.shape[1]])),
            True,
        ),
        "two causal layers": (torch.nn.Sequential(CausalAttention(6, 6, 9, 0.0), causal), True),
        "a copy of the token before": (_Function(lambda x: x.roll(1, dims=1)), True),
        "a copy of the first token": (_Function(lambda x: x[:, :1].expand(x.shape)), True),
        "the sum of all tokens": (
            _Function(lambda x: x.sum(dim=1, keepdim=True).expand(x.shape)),
            False,
        ),
        "the last token alone": (_Function(lambda x: 3 * x), False),
        "two of its numbers, moved by the first token": (_Function(changed), True),
        "the last text alone, a copy of the first token": (
            _Function(lambda x: torch.cat([x[:-1], x[-1:, :1].expand(x[-1:].shape)])),
            True,
        ),
    }
    for B, T in [(1, 9), (3, 7), (2, 4)]:
        x = torch.randn(B, T, 6)
        for name, (module, want) in modules.items():
            got = yes_or_no(answer(module.eval(), x))
            says = "depends" if want else "does not depend"
            hint = (
                "do all tokens before the last change places?"
                if want
                else "does the last token keep its place, and is there a tolerance for the last digits?"
            )
            require(
                got == want,
                f"{name} (T={T}): the last output {says} on the order, your instrument says the opposite; "
                f"{hint}",
            )
    return "one causal layer does not know the order of what came before; with positions, or with a second layer, it does"
