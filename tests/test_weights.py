"""Weights that come from elsewhere: GPT-2's layout, weight files good and bad, and no network for GPT-2."""

import copy
import pickle
import re
import socket
import sys
import types

import pytest
import safetensors.torch
import torch

from shared import assets, files, models
from shared.assets import AssetError
from shared.gpt_model import GPT_CONFIG_124M, GPTModel
from shared.guards import share_head
from shared.pretraining import (
    gpt2_config,
    gpt2_views,
    initialize,
    load_weights_into_gpt,
)

# vocabulary, context, width, heads, blocks
SIZES = [(61, 16, 24, 3, 2), (257, 32, 64, 4, 5)]


def config(V=61, context=16, C=24, H=3, L=2, **changes):
    cfg = {"vocab_size": V, "context_length": context, "emb_dim": C, "n_heads": H, "n_layers": L}
    return cfg | {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True} | changes


def random_model(*size, seed=0, **changes):
    """A model in float64 whose every parameter is random, those of norms and biases too."""
    torch.manual_seed(seed)
    model = GPTModel(config(*size, **changes)).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(float("scale" in name), 0.5 if "norm" in name else 0.2)
    return model


def layout(model):
    """A model's tensors as OpenAI's file has them, written out by hand: the oracle for gpt2_views."""
    state = model.state_dict()
    found = {"wte.weight": state["tok_emb.weight"], "wpe.weight": state["pos_emb.weight"]}
    found |= {"ln_f.weight": state["final_norm.scale"], "ln_f.bias": state["final_norm.shift"]}
    for i in range(len(model.trf_blocks)):
        ours, theirs = f"trf_blocks.{i}", f"h.{i}"
        for n in (1, 2):
            found[f"{theirs}.ln_{n}.weight"] = state[f"{ours}.norm{n}.scale"]
            found[f"{theirs}.ln_{n}.bias"] = state[f"{ours}.norm{n}.shift"]
        for kind, dim in (("weight", 0), ("bias", 0)):
            three = [state[f"{ours}.att.W_{part}.{kind}"] for part in ("query", "key", "value")]
            joined = torch.cat(three, dim)
            found[f"{theirs}.attn.c_attn.{kind}"] = joined.T if kind == "weight" else joined
        for name, layer in [
            ("attn.c_proj", "att.out_proj"),
            ("mlp.c_fc", "ff.layers.0"),
            ("mlp.c_proj", "ff.layers.2"),
        ]:
            found[f"{theirs}.{name}.weight"] = state[f"{ours}.{layer}.weight"].T
            found[f"{theirs}.{name}.bias"] = state[f"{ours}.{layer}.bias"]
    return {name: tensor.clone() for name, tensor in found.items()}


def ids_for(model, B, T):
    generator = torch.Generator().manual_seed(B)
    return torch.randint(model.tok_emb.num_embeddings, (B, T), generator=generator)


def same(model, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


# --- transformers' GPT-2 in ours ------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=["2 blocks", "5 blocks"])
def test_a_saved_gpt2_of_transformers_has_our_logits(size, tmp_path):
    transformers = pytest.importorskip("transformers")
    V, context, C, H, L = size
    cfg = transformers.GPT2Config(
        vocab_size=V,
        n_positions=context,
        n_embd=C,
        n_head=H,
        n_layer=L,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(cfg).double().eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.normal_(float("ln_" in name and "weight" in name), 0.3)
    theirs.save_pretrained(tmp_path)
    params = files.read_weights(tmp_path / "model.safetensors")
    assert "transformer.h.0.attn.c_attn.weight" in params
    ours = GPTModel(config(*size)).double().eval()
    load_weights_into_gpt(ours, params)
    for B, T in [(1, 1), (3, 7), (2, context)]:
        ids = ids_for(ours, B, T)
        with torch.no_grad():
            assert (ours(ids) - theirs(ids).logits).abs().max().item() < 1e-9
    assert ours.out_head.weight is ours.tok_emb.weight


# --- the layout -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=["2 blocks", "5 blocks"])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_loading_with_and_without_prefix_and_masks(size, prefix):
    source, target = random_model(*size), random_model(*size, seed=1)
    params = {prefix + name: tensor for name, tensor in layout(source).items()}
    for i in range(size[4]):
        params[f"{prefix}h.{i}.attn.bias"] = torch.ones(1, 1, size[1], size[1])
        params[f"{prefix}h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    assert load_weights_into_gpt(target, params) is None
    assert same(target, source.state_dict())


def test_views_are_views_of_every_parameter():
    model = random_model(tie_weights=False)
    with torch.no_grad():
        for parts in gpt2_views(model).values():
            for part in parts:
                part.fill_(7.0)
    assert all((parameter == 7).all() for parameter in model.parameters())


def test_a_head_that_is_stored_too():
    source, target = random_model(), random_model(seed=1)
    load_weights_into_gpt(target, layout(source) | {"lm_head.weight": source.out_head.weight})
    assert same(target, source.state_dict())


def test_a_name_that_stands_there_twice_is_refused():
    model = random_model()
    params = layout(model)
    name = next(name for name in params if name.endswith("h.0.ln_1.bias"))
    other = name.removeprefix("transformer.") if name.startswith("tr") else f"transformer.{name}"
    with pytest.raises(ValueError, match="a name stands there twice"):
        load_weights_into_gpt(model, params | {other: params[name] + 1})


def test_an_untied_model_gets_the_head_that_is_stored_or_the_embedding():
    source = random_model(tie_weights=False)
    for stored in (True, False):
        target = random_model(seed=1, tie_weights=False)
        head = {"lm_head.weight": source.out_head.weight} if stored else {}
        load_weights_into_gpt(target, layout(source) | head)
        want = source.out_head.weight if stored else source.tok_emb.weight
        assert torch.equal(target.out_head.weight, want)
        assert target.out_head.weight is not target.tok_emb.weight


def test_half_precision_becomes_the_models():
    source, target = random_model(), random_model(seed=1).float()
    load_weights_into_gpt(target, {n: t.half() for n, t in layout(source).items()})
    assert target.tok_emb.weight.dtype == torch.float32
    assert torch.equal(target.pos_emb.weight, source.pos_emb.weight.half().float())


def without(name):
    return lambda params: {n: t for n, t in params.items() if n != name}


def but(**changes):
    return lambda params: params | {n.replace("__", "."): t for n, t in changes.items()}


BAD = {
    "missing embedding": (without("wte.weight"), "wte.weight is missing; this"),
    "missing bias": (without("h.1.ln_2.bias"), "h.1.ln_2.bias is missing"),
    "left over": (
        but(h__2__ln_1__bias=torch.zeros(24)),
        "h.2.ln_1.bias is (24,); this model's is missing",
    ),
    "other key": (but(transformer__score=torch.zeros(2)), "score is (2,); this"),
    "not transposed": (
        lambda params: params | {"h.0.mlp.c_fc.weight": params["h.0.mlp.c_fc.weight"].T},
        "h.0.mlp.c_fc.weight is (96, 24); this model's is (24, 96)",
    ),
    "longer context": (but(wpe__weight=torch.zeros(17, 24)), "(17, 24); this model's is (16, 24)"),
    "a vector as a column": (but(ln_f__bias=torch.zeros(24, 1)), "ln_f.bias is (24, 1)"),
    "another head": (but(lm_head__weight=torch.ones(61, 24)), "ties the two"),
    "nothing": (lambda params: {}, "wte.weight is missing"),
}


@pytest.mark.parametrize("damage", BAD)
def test_what_does_not_fit_is_named_and_changes_nothing(damage):
    change, says = BAD[damage]
    model = random_model(seed=1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=re.escape(says)):
        load_weights_into_gpt(model, change(layout(random_model())))
    assert same(model, before)


def test_a_model_without_biases_for_queries_keys_and_values():
    with pytest.raises(ValueError, match="qkv_bias=True"):
        load_weights_into_gpt(random_model(qkv_bias=False), layout(random_model()))


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_the_four_sizes(name, count):
    standard, cfg = dict(GPT_CONFIG_124M), gpt2_config(name)
    with torch.device("meta"):
        model = GPTModel(cfg)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.trf_blocks[0].att.head_dim == 64 and cfg["context_length"] == 1024
    cfg["emb_dim"] = 1
    assert gpt2_config(name)["emb_dim"] != 1 and GPT_CONFIG_124M == standard


def test_an_unknown_size():
    with pytest.raises(ValueError, match="'gpt3'; there are gpt2, gpt2-medium"):
        gpt2_config("gpt3")


# --- weight files ---------------------------------------------------------------------------------


class Trojan:
    """A pickle of it calls a function when it is read."""

    ran = False

    def __reduce__(self):
        return run_by_the_file, ()


def run_by_the_file():
    Trojan.ran = True
    return torch.zeros(1)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin"])
def test_a_whole_file(suffix, tmp_path):
    params = {n: t.contiguous() for n, t in layout(random_model()).items()}
    save = safetensors.torch.save_file if suffix == ".safetensors" else torch.save
    save(params, tmp_path / f"weights{suffix}")
    found = files.read_weights(tmp_path / f"weights{suffix}")
    assert found.keys() == params.keys()
    assert all(torch.equal(found[name], params[name]) for name in params)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_cut_off(suffix, kept, tmp_path):
    path = tmp_path / f"weights{suffix}"
    params = {n: t.contiguous() for n, t in layout(random_model()).items()}
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(params, path)
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"weights{suffix} is damaged or cut off"):
        files.read_weights(path)


def test_a_pickle_that_would_run_code(tmp_path):
    torch.save({"wte.weight": Trojan()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps({"wte.weight": Trojan()}, protocol=2))
    for name in ("new.pth", "old.pth"):
        with pytest.raises(ValueError, match=f"{name} is not opened: .*code") as caught:
            files.read_weights(tmp_path / name)
        assert "weights_only" not in str(caught.value)
    assert not Trojan.ran
    pickle.loads((tmp_path / "old.pth").read_bytes())
    assert Trojan.ran  # so the file was dangerous


def test_other_content_and_no_file(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ValueError, match="text.pth is damaged"):
        files.read_weights(tmp_path / "text.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    torch.save({"step": 3}, tmp_path / "numbers.pth")
    for name in ("list.pth", "numbers.pth"):
        with pytest.raises(ValueError, match=f"{name} holds something else than tensors"):
            files.read_weights(tmp_path / name)
    for name in ("none.pth", "none.safetensors"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            files.read_weights(tmp_path / name)


@pytest.mark.parametrize("stored", ["tied", "two heads", "mask"])
def test_the_books_file_loads(stored, tmp_path):
    cfg = config(qkv_bias=False, tie_weights=False)
    torch.manual_seed(0)
    model = GPTModel(cfg)
    state = dict(model.state_dict())
    if stored == "mask":
        state |= {f"trf_blocks.{i}.att.mask": torch.ones(16, 16).triu(1) for i in range(2)}
    if stored == "tied":
        state["out_head.weight"] = state["tok_emb.weight"]
    torch.save(state, tmp_path / "model.pth")
    fresh = GPTModel(cfg)
    fresh.load_state_dict(files.read_weights(tmp_path / "model.pth"))
    assert same(fresh, state)
    tied = GPTModel(cfg | {"tie_weights": True})
    assert share_head in [
        getattr(hook, "hook", hook) for hook in tied._load_state_dict_pre_hooks.values()
    ]
    if stored == "tied":
        tied.load_state_dict(files.read_weights(tmp_path / "model.pth"))
    else:
        with pytest.raises(ValueError, match="differ"):
            tied.load_state_dict(files.read_weights(tmp_path / "model.pth"))


# --- GPT-2 from the Hub ---------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache of the library, and GPT-2 asked for."""
    constants = pytest.importorskip("huggingface_hub").constants
    for name, value in [("HF_HUB_CACHE", str(tmp_path / "hub")), ("HF_HUB_OFFLINE", False)]:
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody answers there
    monkeypatch.setenv("COURSE_MODEL", "gpt2")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "hub"


def test_no_network(hub):
    with pytest.raises(AssetError) as caught:
        models.pretrained()
    for needed in ("openai-community/gpt2 ", "no connection", str(hub), "COURSE_MODEL=course-gpt"):
        assert needed in str(caught.value)


def test_a_network_that_swallows_what_is_sent(hub, monkeypatch):
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(models, "ANSWER", 0.5)
        with pytest.raises(AssetError, match="no answer in time|no connection"):
            models.pretrained()


def test_offline_mode_asks_nobody(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(models, "_no_answer", lambda url: pytest.fail("asked all the same"))
    with pytest.raises(AssetError, match="HF_HUB_OFFLINE"):
        models.pretrained()


def stand_in(hub, monkeypatch, cfg, content):
    """A file in the library's cache, and gpt2 as small as it."""
    folder = hub / "models--openai-community--gpt2"
    snapshot = folder / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    (snapshot / "model.safetensors").write_bytes(content)
    monkeypatch.setattr("shared.models.gpt2_config", lambda name: cfg)
    monkeypatch.setitem(assets.GPT2, "gpt2", ("main", ""))
    return snapshot / "model.safetensors"


def test_a_file_in_the_cache_needs_no_network(hub, monkeypatch):
    source = random_model().float()
    params = {n: t.contiguous() for n, t in layout(source).items()}
    stand_in(hub, monkeypatch, config(), safetensors.torch.save(params))
    model, cfg = models.pretrained()
    assert same(model, source.state_dict()) and cfg == config() and not model.training


@pytest.mark.parametrize("damage", ["cut off", "another size"])
def test_a_damaged_file_in_the_cache(hub, monkeypatch, damage):
    params = {n: t.contiguous() for n, t in layout(random_model()).items()}
    content = safetensors.torch.save(params)
    cfg = config(L=3) if damage == "another size" else config()
    path = stand_in(hub, monkeypatch, cfg, content[:-9] if damage == "cut off" else content)
    with pytest.raises(ValueError, match="is not gpt2: .*Delete it") as caught:
        models.pretrained()
    assert str(path) in str(caught.value)


def test_a_download_that_breaks_off_is_one_message(hub, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(repository, name, revision, local_files_only=False):
        assert len(revision) == 40
        if local_files_only:
            raise LocalEntryNotFoundError("not there")
        raise RuntimeError("the connection broke off\nand more")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(models, "_no_answer", lambda url: "")
    with pytest.raises(AssetError, match="cannot be downloaded: the connection broke off.\n"):
        models.pretrained()


def test_course_gpt_asks_for_no_hub(monkeypatch):
    monkeypatch.delenv("COURSE_MODEL", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.ModuleType("huggingface_hub"))
    assert models.pretrained()[1]["vocab_size"] == 4096


# --- first weights ---------------------------------------------------------------------------------


def test_initialize():
    torch.manual_seed(0)
    model = GPTModel(config(500, 64, 96, 4, 8))
    scales = {n: p.clone() for n, p in model.named_parameters() if n.endswith("scale")}
    initialize(model)
    for name, parameter in model.named_parameters():
        if name in scales:
            assert torch.equal(parameter, scales[name])
        elif parameter.dim() == 1:
            assert (parameter == 0).all()
        else:
            adds = "out_proj" in name or "layers.2" in name
            want = 0.005 if adds else 0.02  # sqrt(2 * 8 blocks) is 4
            assert parameter.std().item() == pytest.approx(want, rel=0.05), name
    assert model.out_head.weight is model.tok_emb.weight
