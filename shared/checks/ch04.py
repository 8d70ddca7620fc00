"""Checks for the exercises of chapter 4: `from shared.checks import ch04 as check`."""

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import nn

from shared.checks import Verdict, exercise, require
from shared.checks.means import modules_built
from shared.checks.returned import number, numbers, yes_or_no

SIZES = {"small": (768, 12), "medium": (1024, 24), "large": (1280, 36), "xl": (1600, 48)}
# What a wrong forward pass may have done, as the end of "your logits are those of a model that ..."
MISTAKES = {
    "unbiased": "divides the variance by C - 1 instead of C",
    "exact": "bends with the exact GELU, where GPT-2 has the tanh form",
    "post": "normalizes after adding, instead of before attention and feed-forward",
    "unplaced": "forgets the positions",
    "unmasked": "lets tokens see the future",
    "rough": "leaves out the final norm",
    "unscaled": "does not divide the scores by the square root of the head size",
    "overscaled": "divides the scores by the square root of d_out, not of the head size",
    "norm1 twice": "uses norm1 in the place of norm2, too",
    "normed shortcut": "adds to what is normalized already, where the shortcut goes around the norm",
    "no shortcut 1": "has no shortcut around attention",
    "no shortcut 2": "has no shortcut around the feed-forward part",
}


def _config(**changes):
    cfg = {"vocab_size": 40, "context_length": 9, "emb_dim": 24, "n_heads": 3, "n_layers": 3}
    return cfg | {"drop_rate": 0.0, "qkv_bias": True} | changes


def _model(seed=0, **changes):
    """A small GPTModel in float64 whose norms, too, have random weights."""
    from shared.gpt_model import GPTModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPTModel(_config(**changes)).double()
        for name, parameter in model.named_parameters():
            if "norm" in name:
                nn.init.normal_(parameter, mean=float(name.endswith("scale")), std=0.3)
    return model


def _ids(B, T, vocab_size=40):
    return torch.randint(vocab_size, (B, T), generator=torch.Generator().manual_seed(B * 100 + T))


def _times_as_many(answer):
    """So many times as many parameters in feed-forward as in attention, in GPT-2 small."""
    from shared.gpt_model import GPT_CONFIG_124M

    attention, feed_forward = answer(dict(GPT_CONFIG_124M))
    return float(feed_forward / attention)


@exercise(guess=_times_as_many)
def parameters_in_block(answer):
    """`answer(cfg) -> (attention, feed-forward)`, the parameters of one block.

    How many there are is never said: it is to be predicted.
    """
    from shared.gpt_model import TransformerBlock

    for changes in [{}, {"qkv_bias": False}, {"emb_dim": 768, "n_heads": 12, "n_layers": 12}]:
        cfg = _config(**changes)
        with torch.device("meta"):
            block = TransformerBlock(cfg)
        wants = [sum(p.numel() for p in part.parameters()) for part in (block.att, block.ff)]
        with modules_built() as built:
            returned = answer(dict(cfg))
        gots = numbers(returned, 2, "two numbers are asked for, (attention, feed-forward)")
        require(not built, f"you build a {built and built[0]}; write formulas, without a model")
        for name, got, want in zip(["attention", "feed-forward"], gots, wants, strict=True):
            case = f"emb_dim {cfg['emb_dim']}, qkv_bias {cfg['qkv_bias']}"
            C, QKV = cfg["emb_dim"], cfg["qkv_bias"]
            more = "more" if want > got else "fewer"
            mistakes = {
                "that is all the blocks together": want * cfg["n_layers"],
                "the weights are counted, the biases are not": 4 * C * C
                if name == "attention"
                else 8 * C * C,
                "the output layer of attention has a bias, always": want - C,
                "queries, keys and values have biases only with qkv_bias": want + 3 * C,
                "queries, keys and values have biases, too, with qkv_bias": want - 3 * C * QKV,
                "the norms belong to neither part": want + 2 * C,
                "the norms belong to neither of the parts": want + 4 * C,
            }
            why = [text for text, wrong in mistakes.items() if got == wrong]
            why.append(f"{name} of one block has {more}")
            require(got == want, f"{case}, {name}: you say {got:,}, and {why[0]}")
    return f"biases included; feed-forward has about {wants[1] / wants[0]:.0f} times as many"


@exercise
def gpt2_config(answer):
    """`answer(size) -> cfg` for "small", "medium", "large", "xl"; a new dictionary each time."""
    from shared.gpt_model import GPT_CONFIG_124M

    standard = dict(GPT_CONFIG_124M)
    try:
        for size, (width, depth) in SIZES.items():
            returned = answer(size)
            got = dict(returned)
            if got.get("tie_weights") is False:
                del got["tie_weights"]  # the default, said aloud
            want = standard | {"emb_dim": width, "n_layers": depth, "n_heads": width // 64}
            for key in got:
                require(key in want, f"{size}: the key {key!r} does not belong here")
            for key in want:
                require(key in got, f"{size}: {key} is missing")
                found = got[key]
                same = found == want[key] and not isinstance(found, str)
                require(same, f"{size}: {key} is {found!r}, not {want[key]!r}")
            require(
                GPT_CONFIG_124M == standard,
                f"asking for {size!r} changed GPT_CONFIG_124M itself: every later model has that size",
            )
            returned["emb_dim"] = 1
            again = answer(size)["emb_dim"]
            require(again == width, f"{size}: who changes one answer changes the next one, too")
    finally:
        GPT_CONFIG_124M.clear()
        GPT_CONFIG_124M.update(standard)
    return "four configurations, with heads 64 wide, and GPT_CONFIG_124M is what it was"


@exercise
def with_dropout_rates(answer):
    """`answer(cfg, embedding, attention, shortcut)` -> a GPTModel with these three dropout rates."""
    from shared.gpt_model import GPTModel

    models = []
    for rates in [(0.1, 0.2, 0.3), (0.0, 0.5, 0.0), (0.4, 0.0, 0.0)]:
        cfg = _config(drop_rate=0.15)
        model = answer(cfg, *rates)
        require(isinstance(model, GPTModel), f"a {type(model).__name__} came back, not a GPTModel")
        models.append(model)
        require(len(set(models)) == len(models), "the same model comes back again: make a new one")
        found = {("the embeddings", 0): model.drop_emb.p}
        for i, block in enumerate(model.trf_blocks):
            found[(f"attention in block {i}", 1)] = block.att.dropout.p
            found[(f"the shortcuts of block {i}", 2)] = block.drop_shortcut.p
        for (place, which), rate in found.items():
            require(
                rate == rates[which], f"{place}: the rate is {rate}, it should be {rates[which]}"
            )
        require(
            model.training, "the model came back in evaluation mode, in which no rate does anything"
        )
        same = set(model.state_dict()) == set(GPTModel(cfg).state_dict())
        require(same, "the parameters' names have changed: stored weights would not load")
    return "three places, three rates, in every block; names and configuration as they were"


def _forgotten(gap, parts):
    """The names of the fewest parts, at most three, that add up to `gap`; "" if none do."""
    for count in range(1, 4):
        for names in combinations(parts, count):
            if sum(parts[name] for name in names) == gap:
                return " and ".join(names)
    return ""


def _billions(answer):
    """Billions of operations, when GPT-2 small reads 1,024 tokens."""
    from shared.gpt_model import GPT_CONFIG_124M

    return round(answer(dict(GPT_CONFIG_124M), 1024) / 1e9)


@exercise(guess=_billions)
def forward_flops(answer):
    """`answer(cfg, T)` -> operations of all matrix products for one text, as PyTorch counts them.

    How many there are is never said: it is to be predicted.
    """
    from torch.utils.flop_counter import FlopCounterMode

    from shared.gpt_model import GPTModel

    for T, changes in [(1, {}), (9, {}), (5, {"emb_dim": 48, "n_layers": 2, "vocab_size": 100})]:
        cfg = _config(**changes)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            GPTModel(cfg)(torch.zeros(1, T, dtype=torch.long))
        want, got = counter.get_total_flops(), number(answer(dict(cfg), T))
        C, L, V = cfg["emb_dim"], cfg["n_layers"], cfg["vocab_size"]
        parts = {
            "what queries times keys and weights times values cost": 4 * L * T * T * C,
            "one of attention's two products of its own": 2 * L * T * T * C,
            "the head": 2 * T * V * C,
            "attention's four matrices": 2 * T * L * 4 * C * C,
            "the feed-forward part": 2 * T * L * 8 * C * C,
        }
        more = "more" if want > got else "fewer"
        about = f"{T} tokens, {L} blocks of {C}: you say {got:,}, and the counter says {more}"
        missing = _forgotten(want - got, parts)
        if got * 2 == want:
            missing = "that a product and a sum are two operations"
        require(got == want, about + (f": you left out {missing}" if missing else ""))
    return "your formula and PyTorch's counter agree: two for each weight and token, and attention"


def _logits(weights, idx, n_heads, mistakes=()):
    """GPTModel's logits from its state dict, with any of MISTAKES."""

    def linear(x, name):
        return F.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        variance = x.var(dim=-1, keepdim=True, correction=int("unbiased" in mistakes))
        x = (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(variance + 1e-5)
        return weights[f"{name}.scale"] * x + weights[f"{name}.shift"]

    def attention(x, at):
        q, k, v = (
            linear(x, f"{at}.W_{part}").unflatten(-1, (n_heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        causal = "unmasked" not in mistakes
        size = x.shape[-1] if "overscaled" in mistakes else q.shape[-1]
        scale = 1.0 if "unscaled" in mistakes else size**-0.5
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)
        return linear(seen.transpose(1, 2).flatten(2), f"{at}.out_proj")

    def feed_forward(x, at):
        form = "none" if "exact" in mistakes else "tanh"
        return linear(F.gelu(linear(x, f"{at}.layers.0"), approximate=form), f"{at}.layers.2")

    x = weights["tok_emb.weight"][idx]
    if "unplaced" not in mistakes:
        x = x + weights["pos_emb.weight"][: idx.shape[1]]
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("trf_blocks"))
    for at in (f"trf_blocks.{i}" for i in range(depth)):
        for part, where, i in [(attention, "att", 1), (feed_forward, "ff", 2)]:
            road = 0 if f"no shortcut {i}" in mistakes else x
            name = f"{at}.norm{1 if 'norm1 twice' in mistakes else i}"
            if "post" in mistakes:
                x = norm(road + part(x, f"{at}.{where}"), name)
                continue
            normed = norm(x, name)
            road = normed if "normed shortcut" in mistakes else road
            x = road + part(normed, f"{at}.{where}")
    return linear(x if "rough" in mistakes else norm(x, "final_norm"), "out_head")


def _diagnosis(got, weights, idx, n_heads):
    """Which of MISTAKES, at most four together, give exactly these logits; "" if none do."""
    width = weights["tok_emb.weight"].shape[1]
    for heads in (n for n in range(1, width + 1) if width % n == 0 and n != n_heads):
        if torch.allclose(got, _logits(weights, idx, heads), atol=1e-9):
            return f"has {heads} heads, where {n_heads} were given"
    for count in range(1, 5):
        for mistakes in combinations(MISTAKES, count):
            other = _logits(weights, idx, n_heads, mistakes)
            if got.shape == other.shape and torch.allclose(got, other, atol=1e-9):
                return " and ".join(MISTAKES[mistake] for mistake in mistakes)
    return ""


@exercise
def repaired_logits(answer):
    """`answer(weights, idx, n_heads)` -> the logits of the GPTModel whose state dict is `weights`."""
    for changes in [{}, {"qkv_bias": False, "n_heads": 2, "n_layers": 1}, {"tie_weights": True}]:
        model = _model(**changes)
        n_heads = model.trf_blocks[0].att.num_heads
        for idx in (_ids(2, 9), _ids(1, 1), _ids(3, 4)):
            with torch.no_grad():
                want, weights = model(idx), model.state_dict()
                got = answer(dict(weights), idx, n_heads)
                require(
                    got.shape == want.shape,
                    f"the shape is {tuple(got.shape)}, not {tuple(want.shape)}",
                )
                require(
                    got.dtype == want.dtype,
                    f"your logits are {got.dtype}; the weights are {want.dtype}, and so should they be",
                )
                if torch.allclose(got, want, atol=1e-9):
                    continue
                found = _diagnosis(got, weights, idx, n_heads)
            gap = f"the logits differ by up to {(got - want).abs().max().item():.2g}"
            raise Verdict(
                f"{gap}; yours are those of a model that {found}"
                if found
                else f"{gap}; no known mistake explains it"
            )
    return "equal to GPTModel to nine decimals, with and without biases, for one token and for many"


@exercise
def repaired_generator(answer):
    """`answer(model, idx, max_new_tokens, context_size)` gives what generate_text_simple gives."""
    from shared.gpt_model import generate_text_simple

    with torch.random.fork_rng():
        for B, T, training in [(1, 3, False), (2, 3, True), (2, 12, True)]:
            torch.manual_seed(B * T)
            model, idx = _model(drop_rate=0.5).train(training), _ids(B, T)
            want = generate_text_simple(model, idx, 12, 9)
            got = answer(model, idx.clone(), 12, 9)
            require(
                got.shape == want.shape, f"the shape is {tuple(got.shape)}, not {tuple(want.shape)}"
            )
            require(got[:, :T].equal(idx), "the prompt itself came back changed")
            if training and not got.equal(want):
                again = answer(model, idx.clone(), 12, 9)
                require(got.equal(again), "asked twice, it answers differently: dropout is active")
            start = (got != want).any(dim=0).float().argmax().item()
            place = "within the context" if start < 9 else "beyond the context"
            require(
                got.equal(want), f"{place}, from token {start} on, it is not the likeliest token"
            )
            _require_no_gradient(answer, model, idx)
    return "the same text from a model in any mode, also past the end of the context"


def _require_no_gradient(answer, model, idx):
    """Whether gradients were switched off is seen by a hook while the model runs."""
    enabled = []
    hook = model.out_head.register_forward_hook(
        lambda *call: enabled.append(torch.is_grad_enabled())
    )
    answer(model, idx.clone(), 1, 9)
    hook.remove()
    require(not any(enabled), "gradients are recorded: memory for a backward pass that never comes")


V = 41  # odd, so that one token is its own mirror image


class _Leaking(nn.Module):
    """A model to whose output at `to` something of the token at `source` is added, in texts that have both.

    Negative places are counted from the end of six tokens. What is added to one logit is taken from
    another; with `text`, only this text of a batch leaks.
    """

    def __init__(self, to=None, source=None, size=1.0, text=slice(None)):
        super().__init__()
        self.model = _model(drop_rate=0.3, vocab_size=V)
        self.leak, self.size, self.text = None if to is None else (to % 6, source % 6), size, text

    def forward(self, idx):
        logits = self.model(idx)
        if self.leak is None or max(self.leak) >= idx.shape[1]:
            return logits
        to, source = self.leak
        hint = self.size * self.model.tok_emb(idx)[self.text, source, 0]
        logits = logits.clone()
        logits[self.text, to, 3] += hint
        logits[self.text, to, 5] -= hint
        return logits


@exercise
def looks_ahead(answer):
    """`answer(model, idx, vocab_size)` -> True if an output depends on a token that comes after it."""
    honest = {"an honest model in evaluation mode": False, "an honest model in training mode": True}
    for name, training in honest.items():
        found = yes_or_no(answer(_Leaking().train(training), _ids(2, 6, V), V))
        reason = (
            "dropout's noise is no leak"
            if training
            else "later outputs may depend on earlier tokens"
        )
        require(not found, f"{name} was accused: {reason}")
    places = [(0, 1), (2, 3), (-2, -1), (0, -1), (1, 4)]
    for to, source in places:
        found = yes_or_no(answer(_Leaking(to, source).eval(), _ids(2, 6, V), V))
        about = f"output {to % 6} depends on token {source % 6}, and the experiment did not notice"
        require(found, about)
    for token in (
        0,
        1,
        2,
        3,
        5,
        7,
        10,
        V // 2,
        V - 2,
        V - 1,
        "the one before it",
        "the one after it",
    ):
        idx = _ids(2, 6, V)
        others = {"the one before it": idx[:, 2], "the one after it": idx[:, 4]}
        idx[:, 3] = others.get(token, token)
        found = yes_or_no(answer(_Leaking(1, 3).eval(), idx, V))
        about = f"output 1 depends on token 3, which is {token} of {V}, and the experiment did not notice"
        require(found, f"{about}: was it replaced by itself?")
    hidden = {"only a little": {"size": 1e-3}}
    hidden |= {f"in text {text + 1} of 3 alone": {"text": text} for text in range(3)}
    for where, leak in hidden.items():
        found = yes_or_no(answer(_Leaking(1, 3, **leak).eval(), _ids(3, 6, V), V))
        require(found, f"output 1 depends on token 3, {where}, and the experiment did not notice")
    return f"{len(places) + 16} leaks found, and no honest model accused"
