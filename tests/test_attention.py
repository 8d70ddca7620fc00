"""Chapter 3's attention against independent implementations, and what it promises."""

import copy
import inspect
import pickle
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared import attention
from shared.attention import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionExplicit,
    MultiHeadAttentionWrapper,
    SelfAttention_v1,
    SelfAttention_v2,
    causal_weights,
    future_mask,
    influence,
    merge_heads,
    split_heads,
)
from shared.checks import (
    check_every_token_sees_its_past,
    check_no_token_sees_the_future,
    check_rows_sum_to_one,
    check_same_values_and_gradients,
)
from shared.finite import check_input, drop_mask
from shared.measure import peak_megabytes

FORMS = [MultiHeadAttentionExplicit, MultiHeadAttention]
INPUTS = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)
BATCH = torch.stack([INPUTS, INPUTS])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(123)


def double(form, d_in=12, d_out=12, context=16, heads=3, bias=True, dropout=0.0):
    return form(d_in, d_out, context, dropout, heads, bias).double()


def numbers(B, T, d_in=12):
    return torch.randn(B, T, d_in, dtype=torch.float64)


# --- what the book prints


@pytest.mark.parametrize(
    ("make", "seed", "rows"),
    [
        (
            lambda: SelfAttention_v1(3, 2),
            123,
            [[0.2996, 0.8053], [0.3061, 0.8210], [0.3058, 0.8203]],
        ),
        (lambda: SelfAttention_v2(3, 2), 789, [[-0.0739, 0.0713], [-0.0748, 0.0703]]),
        (lambda: CausalAttention(3, 2, 6, 0.0), 123, [[-0.4519, 0.2216], [-0.5874, 0.0058]]),
        (
            lambda: MultiHeadAttentionWrapper(3, 2, 6, 0.0, num_heads=2),
            123,
            [[-0.4519, 0.2216, 0.4772, 0.1063], [-0.5874, 0.0058, 0.5891, 0.3257]],
        ),
        *(
            (
                lambda form=form: form(3, 2, 6, 0.0, num_heads=2),
                123,
                [[0.3190, 0.4858], [0.2943, 0.3897]],
            )
            for form in FORMS
        ),
    ],
)
def test_the_book_s_seeds_give_the_book_s_tensors(make, seed, rows):
    torch.manual_seed(seed)
    module = make()
    x = INPUTS if isinstance(module, SelfAttention_v1 | SelfAttention_v2) else BATCH
    out = module(x).detach().reshape(-1, len(rows[0]))[: len(rows)]
    assert torch.allclose(out, torch.tensor(rows), atol=6e-5)


# --- parity


def torch_s_own(ours):
    """nn.MultiheadAttention with the weights of ours."""
    theirs = nn.MultiheadAttention(
        ours.d_out, ours.num_heads, bias=True, batch_first=True, dtype=torch.float64
    )
    parts = [ours.W_query, ours.W_key, ours.W_value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    return theirs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("B", "T"), [(1, 1), (1, 16), (3, 7)])
@pytest.mark.parametrize("heads", [1, 3, 12])
def test_equals_torch_s_multihead_attention(form, B, T, heads):
    ours, x = double(form, heads=heads), numbers(B, T)
    theirs, mask = torch_s_own(ours), torch.ones(T, T).triu(1).bool()
    want, weights = theirs(x, x, x, attn_mask=mask, average_attn_weights=False)
    assert torch.allclose(ours(x), want, atol=1e-12, rtol=0)
    if form is MultiHeadAttentionExplicit:
        assert torch.allclose(ours.weights, weights, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [1, 3])
def test_gradients_equal_those_of_torch_s(form, heads):
    ours = double(form, heads=heads)
    theirs, x = torch_s_own(ours), numbers(2, 7)
    mask, chosen = torch.ones(7, 7).triu(1).bool(), numbers(2, 7)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    (ours(one) * chosen).sum().backward()
    (theirs(other, other, other, attn_mask=mask)[0] * chosen).sum().backward()
    parts = [ours.W_query, ours.W_key, ours.W_value]
    pairs = {
        "x": (one.grad, other.grad),
        "weight": (torch.cat([p.weight.grad for p in parts]), theirs.in_proj_weight.grad),
        "bias": (torch.cat([p.bias.grad for p in parts]), theirs.in_proj_bias.grad),
        "out": (ours.out_proj.weight.grad, theirs.out_proj.weight.grad),
    }
    for name, (mine, want) in pairs.items():
        assert want.abs().max() > 1e-3, name
        assert torch.allclose(mine, want, atol=1e-12, rtol=0), name


@pytest.mark.parametrize("heads", [1, 4])
def test_explicit_equals_fused_in_values_and_gradients(heads):
    explicit = double(MultiHeadAttentionExplicit, d_in=10, d_out=8, heads=heads)
    fused = double(MultiHeadAttention, d_in=10, d_out=8, heads=heads)
    fused.load_state_dict(explicit.state_dict())
    for T in [1, 5, 16]:
        check_same_values_and_gradients(explicit, fused, numbers(2, T, 10), tolerance=1e-12)


def test_in_single_precision_they_differ_by_rounding_only():
    explicit = MultiHeadAttentionExplicit(64, 64, 128, 0.0, num_heads=4)
    fused = MultiHeadAttention(64, 64, 128, 0.0, num_heads=4)
    fused.load_state_dict(explicit.state_dict())
    x = torch.randn(2, 128, 64)
    assert (explicit(x) - fused(x)).abs().max() < 1e-5


def test_causal_weights_and_the_wrapper_equal_the_fused_kernel():
    q, k, v = torch.randn(3, 2, 4, 7, 5, dtype=torch.float64)
    want = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(causal_weights(q, k) @ v, want, atol=1e-12)
    check_rows_sum_to_one(causal_weights(q, k))
    wrapper, x = MultiHeadAttentionWrapper(12, 4, 16, 0.0, 3, True).double(), numbers(2, 9)
    heads = [
        F.scaled_dot_product_attention(h.W_query(x), h.W_key(x), h.W_value(x), is_causal=True)
        for h in wrapper.heads
    ]
    assert torch.allclose(wrapper(x), torch.cat(heads, dim=-1), atol=1e-12)


def large_queries_and_keys(*shape):
    """Scores far below -10,000 everywhere: a mask of -1e4 would win against what may be seen."""
    queries, keys = 200 * (1 + torch.rand(2, *shape, dtype=torch.float64))
    return queries, -keys


def test_large_scores_stay_hidden():
    queries, keys = large_queries_and_keys(2, 4, 7, 5)
    assert (queries @ keys.mT / 5**0.5).max() < -5e4
    values = torch.randn(2, 4, 7, 5, dtype=torch.float64)
    weights = causal_weights(queries, keys)
    assert (weights.triu(1) == 0).all()
    check_rows_sum_to_one(weights)
    want = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    assert torch.allclose(weights @ values, want, atol=1e-12)


@pytest.mark.parametrize("form", [*FORMS, CausalAttention])
def test_large_scores_stay_hidden_in_the_classes(form):
    """With the identity as value and output layer, what comes out is the weights."""
    T, heads = 7, (() if form is CausalAttention else (1,))
    module = form(2 + T, T, T, 0.0, *heads).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        module.W_query.weight[:, :2], module.W_key.weight[:, :2] = 200, -200
        module.W_value.weight[:, 2:] = torch.eye(T)
        if heads:
            module.out_proj.weight.copy_(torch.eye(T))
    x = torch.cat([1 + torch.rand(T, 2), torch.eye(T)], dim=1)[None].double()
    weights = module(x)
    assert (weights.triu(1) == 0).all()
    check_rows_sum_to_one(weights)
    assert (module.W_query(x) @ module.W_key(x).mT / T**0.5).max() < -5e4


def test_the_explicit_form_keeps_weights_without_a_gradient():
    module = double(MultiHeadAttentionExplicit)
    module(numbers(2, 5)).sum().backward()
    assert module.weights.shape == (2, 3, 5, 5) and not module.weights.requires_grad


def test_with_dropout_both_forms_have_the_same_distribution():
    explicit = double(MultiHeadAttentionExplicit, dropout=0.3)
    fused = double(MultiHeadAttention, dropout=0.3)
    fused.load_state_dict(explicit.state_dict())
    copies = numbers(1, 6).expand(8000, 6, 12)
    with torch.no_grad():
        one, other = explicit(copies), fused(copies)
        error = one.std(dim=0).max() / 8000**0.5
        assert (one.mean(dim=0) - other.mean(dim=0)).abs().max() < 7 * error
        assert torch.allclose(one.std(dim=0), other.std(dim=0), rtol=0.1)
        # inverted dropout: the mean is what comes out without it
        assert (one.mean(dim=0) - explicit.eval()(copies[:1])[0]).abs().max() < 7 * error


@pytest.mark.parametrize("form", [*FORMS, CausalAttention])
def test_dropout_is_off_in_eval(form):
    heads = () if form is CausalAttention else (2,)
    module, x = form(4, 4, 8, 0.5, *heads), torch.randn(2, 8, 4)
    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


# --- causality


@pytest.mark.parametrize("form", [*FORMS, CausalAttention, MultiHeadAttentionWrapper])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_past_is_bit_identical_when_the_future_changes(form, dtype):
    """Guaranteed for finite numbers; a NaN or infinity in a later value spreads (0 times it is NaN)."""
    heads = () if form is CausalAttention else (2,)
    module = form(8, 8, 40, 0.0, *heads).to(dtype)
    x = torch.randn(2, 40, 8).to(dtype)
    before = module(x)
    for j in [1, 17, 39]:
        changed = x.clone()
        changed[:, j] = 100 * torch.randn(2, 8).to(dtype)
        after = module(changed)
        assert torch.equal(after[:, :j], before[:, :j])
        assert not torch.equal(after[:, j:], before[:, j:])


def test_every_token_sees_its_past_and_no_more():
    for form in FORMS:
        module = double(form)
        check_no_token_sees_the_future(module, numbers(2, 16))
        check_every_token_sees_its_past(module, numbers(2, 16))


@pytest.mark.parametrize(("T", "S"), [(1, 1), (3, 3), (2, 5), (1, 4)])
def test_future_mask_is_aligned_at_the_last_token(T, S):
    mask = future_mask(T, S)
    assert mask.tolist() == [[s > S - T + t for s in range(S)] for t in range(T)]


def test_future_mask_is_made_where_it_is_wanted():
    assert future_mask(2, 3, device="meta").device.type == "meta"
    assert future_mask(2, 3).device.type == "cpu"


class Kept:
    """The plainest cache: keys and values of all tokens so far."""

    keys = values = None

    def append(self, keys, values):
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cuts", [[1] * 9, [9], [4, 1, 1, 3], [1, 8]])
def test_in_pieces_with_a_cache_as_in_one(form, cuts):
    module, x, cache = double(form), numbers(2, 9), Kept()
    pieces = [module(piece, cache) for piece in x.split(cuts, dim=1)]
    assert torch.allclose(torch.cat(pieces, dim=1), module(x), atol=1e-12)


# --- weights from elsewhere

BOOK_ORDER = [
    "W_query.weight",
    "W_key.weight",
    "W_value.weight",
    "out_proj.weight",
    "out_proj.bias",
]


@pytest.mark.parametrize("form", FORMS)
def test_names_and_order_are_the_book_s(form):
    assert list(form(4, 4, 6, 0.0, 2).state_dict()) == BOOK_ORDER
    assert list(form(4, 4, 6, 0.0, 2, qkv_bias=True).state_dict()) == [
        f"{part}.{kind}"
        for part in ["W_query", "W_key", "W_value", "out_proj"]
        for kind in ["weight", "bias"]
    ]


@pytest.mark.parametrize("form", [*FORMS, CausalAttention, MultiHeadAttentionWrapper])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [6, 9])
def test_loads_with_and_without_a_mask(form, nested, size):
    heads = () if form is CausalAttention else (2,)
    one, other = (form(4, 4, 6, 0.0, *heads) for _ in range(2))
    prefixes = ["heads.0.", "heads.1."] if form is MultiHeadAttentionWrapper else [""]
    if nested:
        one, other = nn.Sequential(one), nn.Sequential(other)
        prefixes = ["0." + prefix for prefix in prefixes]
    saved = one.state_dict()
    assert not any("mask" in key for key in saved)
    masks = {prefix + "mask": torch.ones(size, size).triu(1) for prefix in prefixes}
    for stored in [saved, {**saved, **masks}]:
        kept = set(stored)
        assert other.load_state_dict(stored, strict=True)
        assert set(stored) == kept  # the caller's dictionary is left alone
    x = torch.randn(2, 6, 4)
    assert torch.equal(one(x), other(x))


def test_an_unknown_key_is_still_an_error():
    module = MultiHeadAttention(4, 4, 6, 0.0, 2)
    with pytest.raises(RuntimeError, match="masque"):
        module.load_state_dict({**module.state_dict(), "masque": torch.ones(1)})
    state = {"a.mask": 1, "a.masks": 2, "mask": 3}
    drop_mask(module, state, "a.")
    assert state == {"a.masks": 2, "mask": 3}


@pytest.mark.parametrize("form", FORMS)
def test_can_be_copied_and_pickled(form):
    module = form(4, 4, 6, 0.0, 2)
    x = torch.randn(1, 6, 4)
    for twin in [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]:
        assert torch.equal(twin(x), module(x))
        twin.load_state_dict({**module.state_dict(), "mask": torch.ones(6, 6)})


# --- bad input


@pytest.mark.parametrize("form", [*FORMS, CausalAttention, MultiHeadAttentionWrapper])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((6, 4), r"the input has shape (6, 4); it must be (B, T, 4)"),
        ((1, 2, 6, 4), r"the input has shape (1, 2, 6, 4); it must be (B, T, 4)"),
        ((2, 6, 5), "the input has 5 numbers a token, but d_in is 4"),
        ((2, 9, 4), "the input has 9 tokens, but context_length is 8"),
    ],
)
def test_bad_input_has_one_clear_message(form, shape, message):
    module = form(4, 4, 8, 0.0, *(() if form is CausalAttention else (2,)))
    with pytest.raises(ValueError, match=re.escape(message)):
        module(torch.zeros(shape))
    with pytest.raises(ValueError, match=re.escape(message)):
        check_input(torch.zeros(shape), 4, 8)
    module(torch.zeros(2, 8, 4))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("heads", [3, 16])
def test_heads_must_divide_the_width(form, heads):
    with pytest.raises(ValueError, match=rf"d_out \(8\) is not divisible by num_heads \({heads}\)"):
        form(4, 8, 6, 0.0, heads)


# --- the docstrings' shapes

SIZES = {"B": 2, "T": 5, "S": 7, "H": 3, "D": 4, "d_in": 6, "d_out": 12, "num_heads": 3}
CONTRACT = re.compile(r"`(\([^`]*\)) -> (\([^`]*\))`")
SHAPE = re.compile(r"\([^()]*\)")


def shapes(text):
    return [tuple(eval(shape, {}, SIZES)) for shape in SHAPE.findall(text.replace("..., ", "B, "))]


def call(thing, shapes_in):
    """What comes out of a promoted function or class for random input of these shapes."""
    if inspect.isclass(thing):
        known = {"context_length": 8, "dropout": 0.0, **SIZES}
        if thing is MultiHeadAttentionWrapper:
            known["d_out"] = 12
        wanted = inspect.signature(thing).parameters
        thing = thing(**{name: known[name] for name in wanted if name in known})
    options = {"num_heads": 3} if thing is split_heads else {}
    first = (lambda x: torch.cumsum(x, dim=-2),) if thing is influence else ()
    return thing(*first, *(torch.randn(shape) for shape in shapes_in), **options)


@pytest.mark.parametrize("name", attention.__all__)
def test_the_docstring_s_shapes_hold(name):
    thing = getattr(attention, name)
    found = CONTRACT.search(inspect.getdoc(thing))
    if name == "future_mask":
        return  # tested above; it maps sizes
    assert found, f"{name} has no shape contract"
    want = shapes(found[2])[0]
    assert call(thing, shapes(found[1])).shape == want
    if name in ("merge_heads", "split_heads"):
        assert torch.equal(
            merge_heads(split_heads(torch.arange(24).reshape(1, 2, 12), 3)),
            torch.arange(24).reshape(1, 2, 12),
        )


# --- memory


def test_peak_megabytes_counts_what_is_held_at_a_time(capfd):
    million = 1_000_000
    assert peak_megabytes(lambda: torch.ones(million)) == pytest.approx(4, abs=0.01)
    assert peak_megabytes(lambda: [torch.ones(million) for _ in range(3)]) == pytest.approx(
        12, abs=0.01
    )

    def one_after_the_other():
        for _ in range(3):
            torch.ones(million).sum()

    assert peak_megabytes(one_after_the_other) == pytest.approx(4, abs=0.01)
    assert capfd.readouterr().err == ""


def test_the_fused_form_needs_memory_linear_in_the_text():
    peaks = {}
    for form in FORMS:
        module = form(32, 32, 512, 0.0, 4)
        for T in [256, 512]:
            x = torch.randn(1, T, 32)
            module(x).sum().backward()
            peaks[form, T] = peak_megabytes(lambda x=x, module=module: module(x).sum().backward())
    assert peaks[MultiHeadAttentionExplicit, 512] > 3.3 * peaks[MultiHeadAttentionExplicit, 256]
    assert peaks[MultiHeadAttention, 512] < 2.4 * peaks[MultiHeadAttention, 256]
