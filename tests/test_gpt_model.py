"""The GPT model against torch and transformers, the cache against none, and what bad input says."""

import copy
import io
import pickle
import re

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from shared.gpt_model import (
    GELU,
    GPT_CONFIG_124M,
    FeedForward,
    GPTModel,
    KVCache,
    LayerNorm,
    TransformerBlock,
    generate_text_cached,
    generate_text_simple,
    next_token_logits,
)
from shared.guards import check_config, evaluation_mode, stored_by_columns

# vocabulary, context, width, heads, blocks
SIZES = [(61, 16, 24, 3, 2), (257, 32, 64, 4, 4), (1000, 24, 48, 12, 12)]


def config(V=61, context=16, C=24, H=3, L=2, **changes):
    cfg = {"vocab_size": V, "context_length": context, "emb_dim": C, "n_heads": H, "n_layers": L}
    return cfg | {"drop_rate": 0.0, "qkv_bias": True} | changes


def random_model(*size, seed=0, **changes):
    """A model in evaluation mode whose every parameter is random, those of norms and biases too."""
    torch.manual_seed(seed)
    model = GPTModel(config(*size, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("scale" in name), 0.5 if "norm" in name else 0.2)
    return model.eval()


def reference(model):
    """transformers' GPT2LMHeadModel with the same weights: Conv1D is transposed, q, k, v are one matrix."""
    transformers = pytest.importorskip("transformers")
    blocks = model.trf_blocks
    cfg = transformers.GPT2Config(
        vocab_size=model.tok_emb.num_embeddings,
        n_positions=model.pos_emb.num_embeddings,
        n_embd=model.tok_emb.embedding_dim,
        n_head=blocks[0].att.num_heads,
        n_layer=len(blocks),
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    theirs = transformers.GPT2LMHeadModel(cfg).to(model.tok_emb.weight.dtype)
    body = theirs.transformer
    pairs = [(body.wte.weight, model.tok_emb.weight), (body.wpe.weight, model.pos_emb.weight)]
    pairs += [(body.ln_f.weight, model.final_norm.scale), (body.ln_f.bias, model.final_norm.shift)]
    for h, block in zip(body.h, blocks):
        qkv = [block.att.W_query, block.att.W_key, block.att.W_value]
        pairs += [
            (h.ln_1.weight, block.norm1.scale),
            (h.ln_1.bias, block.norm1.shift),
            (h.ln_2.weight, block.norm2.scale),
            (h.ln_2.bias, block.norm2.shift),
            (h.attn.c_attn.weight, torch.cat([layer.weight for layer in qkv]).T),
            (h.attn.c_attn.bias, torch.cat([layer.bias for layer in qkv])),
            (h.attn.c_proj.weight, block.att.out_proj.weight.T),
            (h.attn.c_proj.bias, block.att.out_proj.bias),
            (h.mlp.c_fc.weight, block.ff.layers[0].weight.T),
            (h.mlp.c_fc.bias, block.ff.layers[0].bias),
            (h.mlp.c_proj.weight, block.ff.layers[2].weight.T),
            (h.mlp.c_proj.bias, block.ff.layers[2].bias),
        ]
    with torch.no_grad():
        for to, value in pairs:
            to.copy_(value)
    return theirs.eval(), pairs


def ids_for(model, B, T, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.tok_emb.num_embeddings, (B, T), generator=generator)


# parts


@pytest.mark.parametrize("shape", [(7,), (2, 3, 5), (4, 768)])
def test_layer_norm_is_torchs(shape):
    torch.manual_seed(0)
    x, ours = torch.randn(shape, dtype=torch.float64) * 3 + 2, LayerNorm(shape[-1]).double()
    theirs = nn.LayerNorm(shape[-1], dtype=torch.float64)
    for one, other in [(ours.scale, theirs.weight), (ours.shift, theirs.bias)]:
        nn.init.normal_(one)
        other.data.copy_(one)
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)
    assert ours.eps == theirs.eps == 1e-5
    unbiased = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-5)
    assert not torch.allclose(ours(x), ours.scale * unbiased + ours.shift, rtol=1e-5, atol=1e-5)


def test_gelu_is_the_tanh_form_and_differs_from_the_exact_one():
    x = torch.linspace(-6, 6, 12_001, dtype=torch.float64)
    tanh = 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))
    assert torch.allclose(GELU()(x), tanh, atol=1e-12)
    gap = (GELU()(x) - F.gelu(x)).abs().max().item()
    assert 4.7e-4 < gap < 4.8e-4


def test_feed_forward_and_block_have_the_books_names():
    block = TransformerBlock(config(qkv_bias=False))
    names = {name.removesuffix(".weight").removesuffix(".bias") for name in block.state_dict()}
    parts = [
        "att.W_query",
        "att.W_key",
        "att.W_value",
        "att.out_proj",
        "ff.layers.0",
        "ff.layers.2",
    ]
    norms = ["norm1.scale", "norm1.shift", "norm2.scale", "norm2.shift"]
    assert names == {*parts, *norms}
    assert isinstance(block.ff, FeedForward) and isinstance(block.drop_shortcut, nn.Dropout)


# the model


@pytest.mark.parametrize("size", SIZES)
def test_logits_are_those_of_transformers(size):
    model = random_model(*size, tie_weights=True).double()
    theirs, _ = reference(model)
    for B, T in [(1, 1), (3, 7), (2, size[1])]:
        ids = ids_for(model, B, T)
        with torch.no_grad():
            want = theirs(ids).logits
            assert (model(ids) - want).abs().max().item() < 1e-9
            assert (model(ids, last_only=True) - want[:, -1:]).abs().max().item() < 1e-9


@pytest.mark.parametrize("size", SIZES)
def test_float32_logits_are_close_to_transformers(size, record_property):
    model = random_model(*size, tie_weights=True)
    theirs, _ = reference(model)
    ids = ids_for(model, 2, size[1])
    with torch.no_grad():
        want = theirs(ids).logits
        error = ((model(ids) - want).abs().max() / want.abs().max()).item()
    record_property("float32 error", error)
    print(f"{size}: float32 logits differ by {error:.1e} of the largest")
    assert error < 1e-5


@pytest.mark.parametrize("size", SIZES[:2])
def test_gradients_are_those_of_transformers(size):
    model = random_model(*size, tie_weights=True).double()
    theirs, pairs = reference(model)
    ids = ids_for(model, 3, size[1])
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    other = F.cross_entropy(theirs(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
    loss.backward()
    other.backward()
    assert abs(loss.item() - other.item()) < 1e-9
    ours = {id(parameter): parameter.grad for parameter in model.parameters()}
    checked = 0
    for to, source in pairs:
        if id(source) in ours:  # a parameter itself, not transposed or joined
            assert (to.grad - ours[id(source)]).abs().max().item() < 1e-9
            checked += 1
    for h, block in zip(theirs.transformer.h, model.trf_blocks):
        qkv = [block.att.W_query, block.att.W_key, block.att.W_value]
        matrices = {
            h.attn.c_attn: torch.cat([layer.weight.grad for layer in qkv]),
            h.attn.c_proj: block.att.out_proj.weight.grad,
            h.mlp.c_fc: block.ff.layers[0].weight.grad,
            h.mlp.c_proj: block.ff.layers[2].weight.grad,
        }
        for layer, grad in matrices.items():
            assert (layer.weight.grad - grad.T).abs().max().item() < 1e-9
        biases = torch.cat([layer.bias.grad for layer in qkv])
        assert (h.attn.c_attn.bias.grad - biases).abs().max().item() < 1e-9
    assert checked == 4 + 7 * size[4]


def test_changing_a_token_leaves_earlier_outputs_exactly_as_they_were():
    model = random_model(*SIZES[1])
    ids = ids_for(model, 2, 12)
    with torch.no_grad():
        before = model(ids)
        for j in range(12):
            changed = ids.clone()
            changed[:, j] = (changed[:, j] + 1) % 257
            moved = (model(changed) != before).any(dim=-1)
            assert not moved[:, :j].any() and moved[:, j:].all()


def test_the_books_seed_gives_the_books_numbers():
    torch.manual_seed(123)
    model = GPTModel(GPT_CONFIG_124M)
    batch = torch.tensor([[6109, 3626, 6100, 345], [6109, 1110, 6622, 257]])
    logits = model(batch)  # in training mode, as there
    assert logits[0, 0, :3].tolist() == pytest.approx([0.3613, 0.4222, -0.0711], abs=5e-5)
    assert logits[1, 3, -3:].tolist() == pytest.approx([1.2630, -0.1858, 0.0388], abs=5e-5)
    start = torch.tensor([[15496, 11, 314, 716]])
    want = [15496, 11, 314, 716, 27018, 24086, 47843, 30961, 42348, 7267]
    assert generate_text_simple(model.eval(), start, 6, 1024).tolist() == [want]
    assert generate_text_cached(model, start, 6, 1024).tolist() == [want]


@pytest.mark.parametrize(
    ("width", "depth", "untied", "tied"),
    [
        (768, 12, 163_009_536, 124_412_160),
        (1024, 24, 406_212_608, 354_749_440),
        (1280, 36, 838_220_800, 773_891_840),
        (1600, 48, 1_637_792_000, 1_557_380_800),
    ],
)
def test_parameter_counts(width, depth, untied, tied):
    size = {"emb_dim": width, "n_layers": depth, "n_heads": width // 64}
    for tie_weights, want in [(False, untied), (True, tied)]:
        with torch.device("meta"):
            model = GPTModel(GPT_CONFIG_124M | size | {"tie_weights": tie_weights})
        assert sum(p.numel() for p in model.parameters()) == want
    if width == 768:
        assert round(untied * 4 / 2**20, 2) == 621.83


def test_an_untrained_model_starts_near_the_loss_of_guessing():
    for tie_weights in (False, True):
        torch.manual_seed(0)
        model = GPTModel(config(1000, 32, 192, 6, 2, tie_weights=tie_weights))
        ids = ids_for(model, 8, 32)
        loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).item()
        assert abs(loss - torch.log(torch.tensor(1000.0)).item()) < 0.5


# state dicts


class PlainNorm(nn.Module):
    """As in the book: the variance by hand, the same two names."""

    def __init__(self, C):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(C)), nn.Parameter(torch.zeros(C))

    def forward(self, x):
        size = (x.var(-1, keepdim=True, correction=0) + 1e-5) ** 0.5
        return self.scale * (x - x.mean(-1, keepdim=True)) / size + self.shift


class PlainAttention(nn.Module):
    """As in the book: a stored mask as long as the context, and every step written out."""

    def __init__(self, cfg):
        super().__init__()
        C, T, self.heads = cfg["emb_dim"], cfg["context_length"], cfg["n_heads"]
        for name in ("W_query", "W_key", "W_value"):
            setattr(self, name, nn.Linear(C, C, bias=cfg["qkv_bias"]))
        self.out_proj, self.dropout = nn.Linear(C, C), nn.Dropout(cfg["drop_rate"])
        self.register_buffer("mask", torch.ones(T, T).triu(1))

    def forward(self, x):
        q, k, v = (
            layer(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for layer in (self.W_query, self.W_key, self.W_value)
        )
        hidden = self.mask[: x.shape[1], : x.shape[1]].bool()
        scores = (q @ k.mT).masked_fill(hidden, -torch.inf) / k.shape[-1] ** 0.5
        return self.out_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape))


class PlainBlock(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.att, self.ff = PlainAttention(cfg), nn.Module()
        self.ff.layers = nn.Sequential(nn.Linear(C, 4 * C), GELU(), nn.Linear(4 * C, C))
        self.norm1, self.norm2 = PlainNorm(C), PlainNorm(C)

    def forward(self, x):
        x = x + self.att(self.norm1(x))
        return x + self.ff.layers(self.norm2(x))


class PlainGPT(nn.Module):
    """The structure of the book's model: what is made in which order, under which name."""

    def __init__(self, cfg):
        super().__init__()
        C = cfg["emb_dim"]
        self.tok_emb = nn.Embedding(cfg["vocab_size"], C)
        self.pos_emb = nn.Embedding(cfg["context_length"], C)
        self.trf_blocks = nn.Sequential(*[PlainBlock(cfg) for _ in range(cfg["n_layers"])])
        self.final_norm = PlainNorm(C)
        self.out_head = nn.Linear(C, cfg["vocab_size"], bias=False)

    def forward(self, idx):
        x = self.tok_emb(idx) + self.pos_emb(torch.arange(idx.shape[1]))
        return self.out_head(self.final_norm(self.trf_blocks(x)))


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_the_books_structure_has_our_parameters_and_its_state_dict_gives_its_logits(qkv_bias):
    cfg = config(*SIZES[1], qkv_bias=qkv_bias)
    torch.manual_seed(123)
    theirs = PlainGPT(cfg).eval()
    torch.manual_seed(123)
    ours = GPTModel(cfg).eval()
    for (name, one), (other_name, other) in zip(
        theirs.named_parameters(), ours.named_parameters(), strict=True
    ):
        assert name == other_name and one.equal(other)
    assert "trf_blocks.3.att.mask" in theirs.state_dict()
    fresh = GPTModel(cfg).eval()
    fresh.load_state_dict(theirs.state_dict())
    ids = ids_for(ours, 3, 32)
    with torch.no_grad():
        want = theirs(ids)
        for model in (ours, fresh):
            assert (model(ids) - want).abs().max().item() < 2e-6 * want.abs().max().item()


@pytest.mark.parametrize("buffers", [True, False])
def test_a_state_dict_of_the_books_classes_loads(buffers):
    model = random_model(*SIZES[0], qkv_bias=False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    if buffers:
        for i in range(2):
            state[f"trf_blocks.{i}.att.mask"] = torch.triu(torch.ones(16, 16), diagonal=1)
    other = random_model(*SIZES[0], seed=1, qkv_bias=False)
    assert str(other.load_state_dict(state, strict=True)) == "<All keys matched successfully>"
    ids = ids_for(model, 1, 16)
    assert other(ids).equal(model(ids))


def test_parameters_are_created_in_the_books_order():
    names = [name.split(".")[0] for name, _ in GPTModel(config(L=1)).named_parameters()]
    order = ["tok_emb", "pos_emb", "trf_blocks", "final_norm", "out_head"]
    assert list(dict.fromkeys(names)) == order
    block = [name.rsplit(".", 1)[0] for name, _ in TransformerBlock(config()).named_parameters()]
    att = ["att.W_query", "att.W_key", "att.W_value", "att.out_proj"]
    assert list(dict.fromkeys(block)) == [*att, "ff.layers.0", "ff.layers.2", "norm1", "norm2"]


def test_tied_weights_are_one_matrix_in_training_and_in_files(tmp_path):
    model = random_model(*SIZES[0], tie_weights=True)
    assert model.out_head.weight is model.tok_emb.weight
    state = model.state_dict()
    assert "out_head.weight" in state and "tok_emb.weight" in state
    model(ids_for(model, 1, 4)).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert model.out_head.weight is model.tok_emb.weight
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = random_model(*SIZES[0], seed=1, tie_weights=True)
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert fresh.out_head.weight is fresh.tok_emb.weight
    assert fresh.out_head.weight.equal(model.out_head.weight)
    with pytest.raises(RuntimeError, match="share memory"):
        safetensors.torch.save_file(model.state_dict(), tmp_path / "two.safetensors")
    one = {name: value for name, value in model.state_dict().items() if name != "out_head.weight"}
    safetensors.torch.save_file(one, tmp_path / "one.safetensors")
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "one.safetensors"))
    assert fresh.out_head.weight.equal(model.tok_emb.weight)


def test_weights_move_between_tied_and_untied_models_unless_something_would_be_lost():
    tied, untied = (random_model(*SIZES[0], tie_weights=tie) for tie in (True, False))
    ids = ids_for(tied, 2, 5)
    other = random_model(*SIZES[0], seed=1)
    other.load_state_dict(tied.state_dict())
    assert other(ids).equal(tied(ids))
    random_model(*SIZES[0], seed=2, tie_weights=True).load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="differ"):
        tied.load_state_dict(untied.state_dict())
    whole = nn.ModuleDict({"gpt": random_model(*SIZES[0], seed=3, tie_weights=True)})
    part = {f"gpt.{k}": v for k, v in tied.state_dict().items() if k != "tok_emb.weight"}
    whole.load_state_dict(part)  # under a prefix, and with the other name only
    assert whole["gpt"](ids).equal(tied(ids))


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_tied_model_stays_tied_when_weights_are_assigned(device):
    state = random_model(*SIZES[0], tie_weights=True).state_dict()
    with torch.device(device):
        model = GPTModel(config(*SIZES[0], tie_weights=True))
    model.load_state_dict(state, assign=True)
    assert model.out_head.weight is model.tok_emb.weight
    assert model.out_head.weight.equal(state["out_head.weight"])


def test_a_tied_model_made_without_memory_is_tied_again_by_loading():
    source = random_model(*SIZES[0], tie_weights=True)
    with torch.device("meta"):
        model = GPTModel(config(*SIZES[0], tie_weights=True))
    model = model.to_empty(device="cpu").eval()
    model.load_state_dict(source.state_dict())
    assert model.out_head.weight is model.tok_emb.weight
    ids = ids_for(source, 2, 5)
    assert model(ids).equal(source(ids))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copied_tied_model_loads_and_stays_tied(copied):
    model = random_model(*SIZES[0], tie_weights=True)
    other = copied(model)
    positions = other.pos_emb.weight.clone()
    other.load_state_dict(model.state_dict(), assign=True)
    assert other.out_head.weight is other.tok_emb.weight
    assert other.pos_emb.weight.equal(positions)  # loading draws no new random numbers


def test_positions_of_a_tied_model_start_small():
    for tie_weights, want in [(True, 0.02), (False, 1.0)]:
        torch.manual_seed(0)
        model = GPTModel(config(*SIZES[1], tie_weights=tie_weights))
        assert 0.9 * want < model.pos_emb.weight.std().item() < 1.1 * want


# generation


@pytest.mark.parametrize("B", [1, 2, 5])
def test_cached_generation_gives_the_same_tokens_for_every_prompt_length(B):
    model = random_model(*SIZES[0])
    for T in range(1, 22):  # the context is 16: prompts up to it, at it, and beyond it
        ids = ids_for(model, B, T, seed=T)
        for new in (1, 8):
            want = generate_text_simple(model, ids, new, 16)
            assert want.shape == (B, T + new) and want[:, :T].equal(ids)
            assert generate_text_cached(model, ids, new, 16).equal(want)


def test_cached_generation_gives_the_same_tokens_when_weights_lie_by_columns():
    model = random_model(*SIZES[1], tie_weights=True)
    ids = ids_for(model, 2, 5)
    want = generate_text_simple(model, ids, 40, 32)
    assert generate_text_cached(model, ids, 40, 32).equal(want)
    assert generate_text_cached(model, ids, 40, 24).equal(generate_text_simple(model, ids, 40, 24))


@pytest.mark.parametrize("generate", [generate_text_simple, generate_text_cached])
def test_generation_is_what_taking_the_last_logits_gives(generate):
    model = random_model(*SIZES[0])
    ids = want = ids_for(model, 2, 3)
    with torch.no_grad():
        for _ in range(20):
            best = model(want[:, -16:])[:, -1].argmax(dim=-1, keepdim=True)
            want = torch.cat((want, best), dim=1)
    assert generate(model, ids, 20, 16).equal(want)
    assert generate(model, ids, 0, 16).equal(ids)


@pytest.mark.parametrize("generate", [generate_text_simple, generate_text_cached])
def test_generation_switches_dropout_off_and_restores_every_mode(generate):
    model = random_model(*SIZES[0], drop_rate=0.5)
    ids = ids_for(model, 1, 3)
    want = generate(model, ids, 12, 16)
    model.train()
    model.trf_blocks[0].eval()
    modes = [part.training for part in model.modules()]
    assert generate(model, ids, 12, 16).equal(want)
    assert [part.training for part in model.modules()] == modes
    with pytest.raises(ValueError):
        generate(model, ids.new_full((1, 2), 61), 1, 16)
    assert [part.training for part in model.modules()] == modes


@pytest.mark.parametrize("generate", [generate_text_simple, generate_text_cached])
def test_generated_ids_can_be_trained_on(generate):
    model = random_model(*SIZES[0])
    out = generate(model, ids_for(model, 1, 3), 4, 16)
    model(out).sum().backward()
    assert model.tok_emb.weight.grad is not None


@pytest.mark.parametrize("generate", [generate_text_simple, generate_text_cached])
def test_generation_stores_nothing_for_a_backward_pass(generate):
    model, modes = random_model(*SIZES[0]), []
    model.out_head.register_forward_hook(
        lambda *call: modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
    )
    generate(model, ids_for(model, 1, 3), 2, 16)
    assert modes == [(False, generate is generate_text_cached)] * 2
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_weights_lie_by_columns_from_32_new_tokens_on():
    model, strides = random_model(*SIZES[0]), []
    model.out_head.register_forward_hook(lambda head, *call: strides.append(head.weight.stride()))
    for new, want in [(31, (24, 1)), (32, (1, 61))]:
        strides.clear()
        generate_text_cached(model, ids_for(model, 1, 3), new, 16)
        assert set(strides) == {want} and len(strides) == new


def test_only_the_last_positions_logits_are_computed_in_generation():
    model, rows = random_model(*SIZES[0]), []
    model.out_head.register_forward_hook(lambda layer, inputs, out: rows.append(out.shape[1]))
    for generate in (generate_text_simple, generate_text_cached):
        generate(model, ids_for(model, 1, 9), 3, 16)
    assert rows == [1] * 6


def test_a_cache_feeds_only_what_is_new_to_the_blocks():
    model, rows = random_model(*SIZES[0]), []
    model.trf_blocks[0].register_forward_hook(lambda block, inputs, out: rows.append(out.shape[1]))
    generate_text_cached(model, ids_for(model, 1, 9), 10, 16)
    assert rows == [9] + [1] * 7 + [16] * 2  # then the window slides, and all is computed anew


def test_logits_from_a_cache_in_pieces_of_any_size():
    model = random_model(*SIZES[1]).double()
    ids = ids_for(model, 2, 32)
    with torch.no_grad():
        want = model(ids)
        for cuts in [(0, 32), (0, 1, 2, 3, 32), (0, 10, 11, 31, 32), (0, 10, 12, 32), (0, 16, 32)]:
            cache = [KVCache(32) for _ in model.trf_blocks]
            got = [model(ids[:, a:b], cache) for a, b in zip(cuts, cuts[1:])]
            assert (torch.cat(got, dim=1) - want).abs().max().item() < 1e-9


def test_next_token_logits_with_and_without_a_cache():
    model = random_model(*SIZES[0]).double()
    ids, cache = ids_for(model, 2, 20), [KVCache(16) for _ in model.trf_blocks]
    with torch.inference_mode():
        for T in [3, 4, 9, 16, 17, 20]:
            want = model(ids[:, max(0, T - 16) : T])[:, -1]
            for logits in (next_token_logits(model, ids[:, :T], 16, c) for c in (None, cache)):
                assert logits.shape == (2, 61) and (logits - want).abs().max().item() < 1e-9


def test_stored_by_columns_changes_no_value_and_restores_everything_after_an_error():
    model = random_model(*SIZES[0], tie_weights=True)
    before = {name: (p.data_ptr(), p.stride()) for name, p in model.named_parameters()}
    ids = ids_for(model, 2, 5)
    want = model(ids)
    with pytest.raises(ZeroDivisionError), stored_by_columns(model):
        assert model.out_head.weight.stride() == (1, 61)
        assert model.out_head.weight is model.tok_emb.weight
        assert model.trf_blocks[0].ff.layers[0].weight.stride() == (1, 96)
        narrow = model.trf_blocks[0].att.out_proj.weight, model.trf_blocks[0].ff.layers[2].weight
        assert [weight.stride() for weight in narrow] == [(24, 1), (96, 1)]
        assert torch.allclose(model(ids), want, atol=1e-5)
        1 / 0
    assert {name: (p.data_ptr(), p.stride()) for name, p in model.named_parameters()} == before
    with stored_by_columns(model, tokens=31):
        assert {n: (p.data_ptr(), p.stride()) for n, p in model.named_parameters()} == before


def test_evaluation_mode_gives_the_model_and_restores_after_an_error():
    model = random_model(*SIZES[0]).train()
    with pytest.raises(ZeroDivisionError), evaluation_mode(model) as same:
        assert same is model and not any(part.training for part in model.modules())
        1 / 0
    assert all(part.training for part in model.modules())


# bad input

BAD_CONFIGS = [
    ({"n_head": 12}, "unknown key 'n_head'; did you mean 'n_heads'?"),
    ({"ctx": 12}, "unknown key 'ctx'"),
    ({"emb_dim": 768.0}, "emb_dim is 768.0; a whole number above 0 is needed"),
    ({"n_layers": 0}, "n_layers is 0; a whole number above 0 is needed"),
    ({"vocab_size": "many"}, "vocab_size is 'many'"),
    ({"drop_rate": 1.0}, "drop_rate is 1.0; it must be at least 0 and below 1"),
    ({"drop_rate": 10}, "drop_rate is 10"),
    ({"drop_rate": -0.1}, "drop_rate is -0.1; it must be at least 0 and below 1"),
    ({"drop_rate": "0.1"}, "drop_rate is '0.1'"),
    ({"drop_rate": None}, "drop_rate is None"),
    ({"n_layers": -1}, "n_layers is -1; a whole number above 0 is needed"),
    ({"n_layers": True}, "n_layers is True; a whole number above 0 is needed"),
    ({"n_heads": 7}, "emb_dim 768 is not divisible by n_heads 7"),
    ({"qkv_bias": "False"}, "qkv_bias and tie_weights must be True or False"),
    ({"tie_weights": 1}, "qkv_bias and tie_weights must be True or False"),
]


@pytest.mark.parametrize(("changes", "says"), BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_a_wrong_configuration_is_refused(changes, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        GPTModel(GPT_CONFIG_124M | {"n_layers": 1, "vocab_size": 10} | changes)


@pytest.mark.parametrize("key", list(GPT_CONFIG_124M))
def test_an_incomplete_configuration_names_what_it_lacks(key):
    cfg = {k: v for k, v in GPT_CONFIG_124M.items() if k != key}
    with pytest.raises(ValueError, match=f"the configuration lacks '{key}'"):
        GPTModel(cfg)


def test_good_configurations_pass():
    check_config(GPT_CONFIG_124M)
    check_config(GPT_CONFIG_124M | {"tie_weights": True, "drop_rate": 0})


BAD_IDS = [
    (
        torch.zeros(1, 17, dtype=torch.long),
        ValueError,
        "17 tokens, but the model has only 16 positions",
    ),
    (torch.zeros(5, dtype=torch.long), ValueError, "must be (B, T), T > 0; got (5,)"),
    (torch.zeros(1, 2, 3, dtype=torch.long), ValueError, "got (1, 2, 3)"),
    (torch.zeros(1, 0, dtype=torch.long), ValueError, "got (1, 0)"),
    (torch.tensor([[0, 61]]), ValueError, "token IDs must be 0 to 60; these are 0 to 61"),
    (torch.tensor([[-1, 3]]), ValueError, "token IDs must be 0 to 60; these are -1 to 3"),
    (torch.rand(1, 4), TypeError, "whole numbers (int64); got torch.float32"),
    (torch.ones(1, 4, dtype=torch.bool), TypeError, "got torch.bool"),
]


@pytest.mark.parametrize(("ids", "error", "says"), BAD_IDS, ids=range(len(BAD_IDS)))
def test_wrong_ids_are_refused(ids, error, says):
    with pytest.raises(error, match=re.escape(says)):
        random_model(*SIZES[0])(ids)


def test_another_index_error_is_not_taken_for_a_wrong_id():
    model = random_model(*SIZES[0])
    with pytest.raises(IndexError, match="list index"):
        model(ids_for(model, 1, 3), [KVCache(16)])  # a cache for one block of two


@pytest.mark.parametrize("generate", [generate_text_simple, generate_text_cached])
def test_wrong_prompts_are_refused(generate):
    model = random_model(*SIZES[0])
    for ids, error, says in [*BAD_IDS[1:], (torch.tensor(5), ValueError, "got ()")]:
        for new in (1, 40):
            with pytest.raises(error, match=re.escape(says)):
                generate(model, ids, new, 16)
    with pytest.raises(ValueError, match="0 tokens long; it must be at least 1"):
        generate(model, ids_for(model, 2, 3), 1, 0)


def test_a_cache_for_another_number_of_texts_is_refused():
    model = random_model(*SIZES[0])
    for first, then in [(2, 1), (1, 2), (2, 3)]:
        cache = [KVCache(16) for _ in model.trf_blocks]
        model(ids_for(model, first, 3), cache)
        with pytest.raises(ValueError, match=f"the cache holds {first} texts, got {then}"):
            model(ids_for(model, then, 1), cache)


def test_a_text_that_is_wholly_in_the_cache_is_refused():
    model = random_model(*SIZES[0])
    cache, ids = [KVCache(16) for _ in model.trf_blocks], ids_for(model, 2, 3)
    next_token_logits(model, ids, 16, cache)
    with pytest.raises(ValueError, match="no new token"):
        next_token_logits(model, ids, 16, cache)


def test_a_full_cache_is_refused_with_the_total():
    model = random_model(*SIZES[0])
    cache = [KVCache(16) for _ in model.trf_blocks]
    model(ids_for(model, 1, 16), cache)
    with pytest.raises(ValueError, match="17 tokens, but the model has only 16 positions"):
        model(ids_for(model, 1, 1), cache)


# what training needs


def test_dropout_acts_in_training_only():
    model = random_model(*SIZES[0], drop_rate=0.5)
    ids = ids_for(model, 1, 8)
    assert model(ids).equal(model(ids))
    model.train()
    assert not model(ids).equal(model(ids))


def test_int32_ids_and_bfloat16_autocast_work():
    model = random_model(*SIZES[0])
    ids = ids_for(model, 2, 8)
    assert model(ids.int()).equal(model(ids))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids)
        text = generate_text_cached(model, ids, 3, 16)
    assert torch.allclose(logits.float(), model(ids), atol=1.0) and text.shape == (2, 11)
