"""LoRA: nothing at first, equal to peft, merged and taken out again; the files of adapters; 4 bits to a weight."""

import copy
import functools
import json
import math

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from shared import encodings, files, models
from shared.classification import classifier_from
from shared.gpt_model import GPT_CONFIG_124M, GPTModel
from shared.lora import (
    ATTENTION,
    FEED_FORWARD,
    LinearWithLoRA,
    LoRALayer,
    NF4Linear,
    adapter_off,
    base_of,
    dequantize,
    load_adapter,
    lora_layers,
    lora_scale,
    merge_lora,
    normal_float,
    quantize,
    quantize_linear,
    replace_linear_with_lora,
    save_adapter,
    unmerge_lora,
)

PROMPTS = ("The old man opened the door, and", "“No,” said", "1902", "She could not have been")
BLOCK = ATTENTION + FEED_FORWARD
SCALES = {"alpha": 16, "alpha/rank": 2, "alpha/sqrt(rank)": 16 / math.sqrt(8)}  # of 16, rank 8
CFG = {"vocab_size": 50, "context_length": 16, "emb_dim": 32, "n_heads": 2, "n_layers": 2}
CFG |= {"drop_rate": 0.0, "qkv_bias": True, "tie_weights": True}


@functools.cache
def stored():
    return models.pretrained(first=True)


def course_gpt():
    return copy.deepcopy(stored()[0])


def course_classifier():
    torch.manual_seed(5)
    return classifier_from(*stored()).eval()


def small(seed=1, **changes):
    torch.manual_seed(seed)
    return GPTModel(CFG | changes).eval()


def small_classifier(classes=2, head_seed=7):
    base = small()
    torch.manual_seed(head_seed)
    return classifier_from(base, CFG, classes).eval()


@functools.cache
def prompts():
    return [torch.tensor([encodings.tokenizer(first=True).encode(text)]) for text in PROMPTS]


@torch.no_grad()
def logits(model):
    """Of the four prompts, or for a small model of four rows of IDs."""
    if model.tok_emb.num_embeddings == CFG["vocab_size"]:
        return [model(torch.arange(i, i + 7).unsqueeze(0)) for i in range(4)]
    return [model(ids) for ids in prompts()]


def gap(some, others):
    return max((a - b).abs().max().item() for a, b in zip(some, others, strict=True))


def equal(some, others):
    return all(map(torch.equal, some, others))


def adapted(model, rank=4, alpha=8, layers=BLOCK, seed=1, head=False, **options):
    """The model frozen, with LoRA in it, as if trained; a classifier's new head learned, too."""
    model.requires_grad_(False)
    torch.manual_seed(seed)
    replace_linear_with_lora(model, rank, alpha, layers=layers, **options)
    model.out_head.requires_grad_(head)
    learned = [layer.lora.B for layer in lora_layers(model).values()]
    with torch.no_grad():
        for parameter in learned + list(model.out_head.parameters()) * head:
            parameter.normal_(std=0.02)
    return model.eval()


def inside(model):
    """All that a refusal must leave as it is."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    return state, learns, {name: type(module) for name, module in model.named_modules()}


def unchanged(model, before):
    (old, *rest), (new, *others) = before, inside(model)
    return rest == others and list(old) == list(new) and equal(old.values(), new.values())


def refused(path, model):
    """The message with which a model refuses an adapter, after which it is as it was."""
    before = inside(model)
    with pytest.raises(ValueError) as error:
        load_adapter(path, model)
    assert unchanged(model, before)
    return str(error.value)


# --- the layer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [course_gpt, course_classifier])
@pytest.mark.parametrize("init", ["peft", "book"])
def test_before_training_the_output_is_the_bases_to_the_last_bit(build, init):
    model = build()
    want = logits(model)
    replace_linear_with_lora(model, 8, 16, layers=BLOCK, init=init, scaling="alpha")
    assert len(lora_layers(model)) == 36 and equal(logits(model), want)


@pytest.mark.parametrize("scaling", SCALES)
def test_the_change_is_scaled_as_it_says(scaling):
    layer = LoRALayer(12, 20, 8, 16, scaling=scaling)
    nn.init.normal_(layer.B)
    assert layer.scale == lora_scale(scaling, 16, 8) == SCALES[scaling]
    assert layer.change().shape == (20, 12)
    x = torch.randn(3, 12)
    assert torch.allclose(layer(x), SCALES[scaling] * (x @ (layer.A @ layer.B)), atol=1e-5)
    assert torch.allclose(layer(x), F.linear(x, layer.change()), atol=1e-5)
    assert lora_scale("alpha/rank", 16, 3) == 16 / 3


@pytest.mark.parametrize("init, bound", [("peft", 1 / 16), ("book", 1 / 2)])  # in 256, rank 4
def test_the_first_A_lies_between_bounds_and_B_is_zero(init, bound):
    layer = LoRALayer(256, 24, 4, 8, init=init)
    assert layer.A.shape == (256, 4) and layer.B.shape == (4, 24) and not layer.B.any()
    assert 0.98 * bound < layer.A.abs().max() <= bound
    assert abs(layer.A.mean()) < bound / 10
    assert abs(layer.A.std() - bound / math.sqrt(3)) < bound / 30  # as of a uniform distribution


class BookLoRA(nn.Module):
    """As the book's appendix E has it."""

    def __init__(self, in_dim, out_dim, rank, alpha):
        super().__init__()
        self.A = nn.Parameter(torch.empty(in_dim, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x):
        return self.alpha * (x @ self.A @ self.B)


def test_the_books_layer_is_one_of_the_choices_to_the_last_bit():
    layers = []
    for make in (functools.partial(LoRALayer, init="book", scaling="alpha"), BookLoRA):
        torch.manual_seed(123)
        layers.append(make(48, 36, 8, 16))
    ours, book = layers
    assert ours.A.equal(book.A) and ours.B.equal(book.B)
    with torch.no_grad():
        ours.B.normal_(), book.B.copy_(ours.B)
    x = torch.randn(2, 5, 48)
    assert ours(x).equal(book(x))


def test_the_books_classifier_has_the_books_number_of_parameters():
    def trained(model):
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    with torch.device("meta"):
        model = GPTModel(GPT_CONFIG_124M | {"qkv_bias": True, "drop_rate": 0.0})
        model.out_head = nn.Linear(768, 2)
        assert trained(model) == 124_441_346
        model.requires_grad_(False)
        replace_linear_with_lora(model, 16, 16)
    assert trained(model) == 2_666_528


def test_dropout_acts_in_training_only_and_on_the_change_alone():
    model = adapted(small(), dropout=0.5)
    twin = adapted(small())
    assert equal(logits(model), logits(twin))
    model.train()
    assert not equal(logits(model), logits(model))
    with adapter_off(model):
        assert equal(logits(model), logits(small()))
    layer = LinearWithLoRA(nn.Linear(8, 6), 2, 4, dropout=0.5)
    x = torch.randn(3, 8)
    assert layer(x).equal(layer.linear(x))  # B is 0


def test_a_change_lives_where_and_as_its_layer_does():
    layer = LinearWithLoRA(nn.Linear(8, 6, bias=False).double(), 2, 4)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    with torch.device("meta"):
        linear = nn.Linear(8, 6)
    assert {p.device.type for p in LinearWithLoRA(linear, 2, 4).parameters()} == {"meta"}


# --- peft -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def peft():
    return pytest.importorskip("peft")


def copied(model, theirs, lying_as_theirs):
    """Our A and B in theirs. Our tensors are theirs transposed; they can lie in memory as theirs do, or as ours."""
    modules = dict(theirs.base_model.model.named_modules())
    for name, layer in lora_layers(model).items():
        for letter in ("A", "B"):
            own = getattr(layer.lora, letter)
            (other,) = getattr(modules[name], f"lora_{letter}").parameters()
            other.data = own.detach().T.contiguous()
            if lying_as_theirs:
                own.data = other.detach().clone().T
    return modules


@pytest.mark.parametrize("lying_as_theirs", [True, False])
@pytest.mark.parametrize("scaling", ["alpha/rank", "alpha/sqrt(rank)"])
def test_with_copied_weights_it_is_peft(peft, scaling, lying_as_theirs):
    """Logits and gradients to the last bit if matrices lie alike, else a product sums in another order; merged: always."""
    model = adapted(course_gpt(), 8, 16, scaling=scaling)
    names = list(lora_layers(model))
    assert len(names) == 36
    config = peft.LoraConfig(
        r=8, lora_alpha=16, target_modules=names, use_rslora=scaling != "alpha/rank"
    )
    theirs = peft.get_peft_model(course_gpt(), config).eval()
    modules = copied(model, theirs, lying_as_theirs)
    assert {modules[n].scaling["default"] for n in names} == {lora_scale(scaling, 16, 8)}
    with torch.no_grad():
        outputs = gap(logits(model), [theirs(ids) for ids in prompts()])
    assert outputs == 0 if lying_as_theirs else outputs < 4e-5  # of logits up to 13
    assert gap(logits(model), logits(stored()[0])) > 0.5
    for one in (model, theirs):
        ids = prompts()[0]
        F.cross_entropy(one(ids)[0, :-1], ids[0, 1:]).backward()
    for letter in ("A", "B"):
        own = [getattr(layer.lora, letter).grad.T for layer in lora_layers(model).values()]
        others = [getattr(modules[n], f"lora_{letter}")["default"].weight.grad for n in names]
        found, size = gap(own, others), max(grad.abs().max().item() for grad in own)
        assert found == 0 if lying_as_theirs else found < 4e-6 * size
    assert [n for n, p in model.named_parameters() if p.grad is not None] == [
        f"{name}.lora.{letter}" for name in names for letter in ("A", "B")
    ]
    merge_lora(model)
    merged = theirs.merge_and_unload()
    weights = merged.state_dict()
    assert gap(model.state_dict().values(), [weights[name] for name in model.state_dict()]) < 4e-6
    assert gap(logits(model), logits(merged)) < 4e-6


def test_pefts_first_A_has_our_bounds(peft):
    config = peft.LoraConfig(r=4, target_modules=["0"])
    theirs = peft.get_peft_model(nn.Sequential(nn.Linear(256, 24)), config)
    layer = theirs.base_model.model[0]
    found = layer.lora_A["default"].weight.abs().max()
    assert 0.98 / 16 < found <= 1 / 16 and not layer.lora_B["default"].weight.any()


# --- merged, taken out again, switched off --------------------------------------------------------


@pytest.mark.parametrize("build", [course_gpt, course_classifier])
def test_merged_and_taken_out_again(build):
    base = build()
    model = adapted(build())
    want, keys = logits(model), list(model.state_dict())
    layers = merge_lora(model)
    assert list(model.state_dict()) == list(base.state_dict()) and not lora_layers(model)
    assert [name for name, _ in model.named_modules()] == [name for name, _ in base.named_modules()]
    largest = max(part.abs().max().item() for part in want)
    assert gap(logits(model), want) < 4e-6 * largest
    assert gap(logits(model), logits(base)) > 0.01 * largest
    assert not any(p.requires_grad for p in model.parameters())
    unmerge_lora(model, layers)
    assert list(model.state_dict()) == keys and equal(logits(model), want)
    with adapter_off(model):
        assert equal(model.state_dict().values(), base.state_dict().values())


def test_a_merged_model_is_exported_as_any_other(tmp_path):
    export = files.script("ch05_pretraining/export.py")
    model = adapted(course_gpt(), layers=ATTENTION)
    merge_lora(model)
    export.export(model, stored()[1], encodings.tokenizer(first=True), tmp_path / "hf")
    written = files.read_weights(tmp_path / "hf" / files.WEIGHTS)
    want = model.trf_blocks[2].att.W_value.weight
    assert written["transformer.h.2.attn.c_attn.weight"][:, -256:].T.equal(want)
    assert not want.equal(stored()[0].trf_blocks[2].att.W_value.weight)


def test_off_it_is_the_base_to_the_last_bit_and_afterwards_on_again():
    base, model = course_gpt(), adapted(course_gpt())
    want = logits(model)
    with adapter_off(model) as off:
        assert off is model and equal(logits(model), logits(base))
        with adapter_off(model):
            assert equal(logits(model), logits(base))
    assert equal(logits(model), want)
    with pytest.raises(KeyError), adapter_off(model):
        raise KeyError
    assert equal(logits(model), want) and not equal(want, logits(base))


# --- files ----------------------------------------------------------------------------------------


def saved(folder, model, name="one"):
    save_adapter(folder / name, model)
    return folder / name


@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_comes_back_and_holds_nothing_of_the_base(tied, tmp_path):
    model = adapted(small(tie_weights=tied), rank=3, alpha=5, scaling="alpha/sqrt(rank)")
    path = saved(tmp_path, model)
    tensors = safetensors.torch.load_file(path)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted(tensors) == sorted(names) and all(".lora." in name for name in names)
    numbers = 4 * sum(tensor.numel() for tensor in tensors.values())
    head = int.from_bytes(path.read_bytes()[:8], "little")
    assert path.stat().st_size == 8 + head + numbers and head < 5000
    again = small(tie_weights=tied).requires_grad_(False)
    load_adapter(path, again)
    assert equal(logits(again.eval()), logits(model))
    assert (again.tok_emb.weight is again.out_head.weight) == tied
    for layer in lora_layers(again).values():
        assert (layer.lora.rank, layer.lora.alpha, layer.lora.scale) == (3, 5, 5 / 3**0.5)
    assert saved(tmp_path, again, "two").read_bytes() == path.read_bytes()


def test_the_same_adapter_is_the_same_file_each_time(tmp_path):
    model = adapted(small())
    assert len({saved(tmp_path, model, str(i)).read_bytes() for i in range(20)}) == 1


def test_course_gpt_s_adapter_is_small(tmp_path):
    size = saved(tmp_path, adapted(course_gpt(), 8, layers=ATTENTION)).stat().st_size
    assert size < 0.05 * 4 * sum(p.numel() for p in stored()[0].parameters())


def test_a_new_head_is_saved_and_comes_back(tmp_path):
    model = adapted(small_classifier(), head=True)
    path = saved(tmp_path, model)
    heads = {n for n in safetensors.torch.load_file(path) if ".lora." not in n}
    assert heads == {"out_head.weight", "out_head.bias"}
    fresh = small_classifier(head_seed=8)  # its first head may be any
    assert not equal(logits(fresh), logits(model))
    load_adapter(path, fresh)
    assert equal(logits(fresh.eval()), logits(model))
    says = "one has out_head.bias of (2,), which is {} in this model: give it that head first"
    assert refused(path, small_classifier(classes=3)).endswith(says.format("(3,)"))
    assert refused(path, small()).endswith(says.format("missing"))  # the language model


@pytest.mark.parametrize("name", ["tok_emb.weight", "trf_blocks.1.att.W_key.bias"])
@pytest.mark.parametrize("another", [False, True])
def test_on_another_base_it_is_refused_be_it_by_the_last_bit(name, another, tmp_path):
    path = saved(tmp_path, adapted(small()))
    model = adapted(small(), rank=2, seed=3) if another else small()
    state = model.state_dict()
    if name not in state:
        name = name.replace("W_key.", "W_key.linear.")
    with torch.no_grad():
        state[name].view(torch.int32).view(-1)[3] ^= 1
    assert "belongs to another base (fingerprint " in refused(path, model)


def test_a_second_adapter_replaces_the_first(tmp_path):
    one = adapted(small(), rank=4)
    two = adapted(small(), rank=2, alpha=3, seed=9, layers=("W_query", "ff.layers.0"))
    paths = [saved(tmp_path, model, str(model is one)) for model in (one, two)]
    model = small().requires_grad_(False)
    for want, path in zip((one, two, one), (*paths, paths[0])):
        load_adapter(path, model)
        assert equal(logits(model.eval()), logits(want))
        assert list(model.state_dict()) == list(want.state_dict())
    assert base_of(model, ()) == base_of(small(), ())


def test_the_base_is_known_whether_lora_is_in_it_or_not():
    model = small()
    known = base_of(model, {})
    adapted(model)
    assert base_of(model, {}) == known != base_of(small(seed=2), {})
    with adapter_off(model):
        assert base_of(model, {}) == known


def test_any_damage_is_found(tmp_path):
    """Whichever byte it is in, and wherever the file ends."""
    path = saved(tmp_path, adapted(small(), rank=1, layers=("trf_blocks.1.att.W_key",)))
    whole, model = path.read_bytes(), adapted(small(), seed=4)
    before = inside(model)
    damaged = [whole[:end] for end in range(0, len(whole), 41)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in range(len(whole))]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError):
            load_adapter(path, model)
    assert unchanged(model, before)
    path.write_bytes(whole)
    load_adapter(path, model)


@pytest.mark.parametrize(
    "kind, says",
    [
        ("text", "cannot be read as safetensors"),
        ("torch", "cannot be read as safetensors"),
        ("weights", "is no adapter of this course"),
        ("foreign", "is no adapter of this course"),
        ("list", "is damaged"),
        ("half", "is damaged"),
        ("missing", "is no file"),
        ("folder", "is no file"),
    ],
)
def test_what_is_no_adapter_is_refused(kind, says, tmp_path):
    path, tensors = tmp_path / "file", {"a.lora.A": torch.ones(2)}
    if kind == "text":
        path.write_text("an adapter")
    elif kind == "torch":
        torch.save(tensors, path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        header = {"foreign": {"format": "pt"}, "list": {"adapter": "[]"}}
        header |= {"half": {"adapter": json.dumps({"base": "x"})}}
        safetensors.torch.save_file(tensors, path, header.get(kind))
    assert refused(path, adapted(small())).startswith(f"{path} {says}")


def test_nothing_is_saved_that_is_no_adapter(tmp_path):
    path = tmp_path / "adapter"
    with pytest.raises(ValueError, match="nothing of this model is trained"):
        save_adapter(path, small().requires_grad_(False))
    model = adapted(small())
    model.trf_blocks[0].att.W_query.linear.weight.requires_grad_(True)
    with pytest.raises(ValueError, match="W_query.linear.weight is trained beside its LoRA.*freeze the base first"):  # fmt: skip
        save_adapter(path, model)
    model = adapted(small())
    with torch.no_grad():
        model.trf_blocks[1].att.W_key.lora.B[0, 0] = float("nan")
    with pytest.raises(ValueError, match="W_key.lora.B is not finite"):
        save_adapter(path, model)
    assert not list(tmp_path.iterdir())


def test_what_is_saved_without_lora_comes_back_too(tmp_path):
    """As the rows of compare_lora.py that train a block, with another adapter in or not."""
    model = small_classifier().requires_grad_(False)
    for part in (model.trf_blocks[-1], model.out_head):
        part.requires_grad_(True)
    with torch.no_grad():
        model.trf_blocks[-1].ff.layers[0].weight += 0.1
    path = saved(tmp_path, model)
    fresh = small_classifier(head_seed=8)
    load_adapter(path, fresh)
    assert equal(logits(fresh), logits(model))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [0, -1, 1.5, "8", None])
def test_what_is_no_rank(rank):
    model = small()
    before = inside(model)
    with pytest.raises(ValueError, match=f"rank is {rank!r}; a whole number above 0 is needed"):
        replace_linear_with_lora(model, rank, 8, layers=ATTENTION)
    assert unchanged(model, before)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"scaling": "rank"}, "scaling is 'rank'; there are 'alpha/rank', 'alpha', 'alpha/sqrt"),
        ({"init": "zero"}, "init is 'zero'; there are 'peft', 'book'"),
        (
            {"layers": ("W_query", "W_q")},
            "no linear layer is called 'W_q'; there are att.W_query, ",
        ),
        ({"layers": "query"}, "no linear layer is called 'query'"),  # an ending, but of no name
        ({"layers": ()}, "no linear layer to put anything beside"),
        ({"layers": None}, "out_head shares its matrix with tok_emb.*leave it out, by `layers`"),
        ({"layers": ("out_head",)}, "out_head shares its matrix with tok_emb"),
        ({"dropout": 1.5}, "dropout probability"),
    ],
)
def test_what_cannot_be_put_in(options, says):
    model = small()
    before = inside(model)
    with pytest.raises(ValueError, match=says):
        replace_linear_with_lora(model, 4, 8, **{"layers": ATTENTION} | options)
    assert unchanged(model, before)


def test_twice_is_refused_be_it_beside_other_layers():
    model = adapted(small(), layers=("W_query",))
    before = inside(model)
    for layers in (("W_query",), ("W_value",), None):
        with pytest.raises(ValueError, match="trf_blocks.0.att.W_query has LoRA already: begin"):
            replace_linear_with_lora(model, 4, 8, layers=layers)
    assert unchanged(model, before)
    merge_lora(model)
    replace_linear_with_lora(model, 4, 8, layers=("W_query",))


def test_which_layers_are_meant():
    model = small(tie_weights=False)
    replace_linear_with_lora(model, 2, 2, layers="trf_blocks.1.ff.layers.0")
    assert list(lora_layers(model)) == ["trf_blocks.1.ff.layers.0"]
    model = small(tie_weights=False)
    replace_linear_with_lora(model, 2, 2)
    assert len(lora_layers(model)) == 13 and isinstance(model.out_head, LinearWithLoRA)


def test_a_layer_that_somebody_calls_linear_has_no_lora_yet():
    model = nn.ModuleDict({"part": nn.ModuleDict({"linear": nn.Linear(4, 4)})})
    replace_linear_with_lora(model, 2, 2)
    assert list(lora_layers(model)) == ["part.linear"]


# --- 4 bits ---------------------------------------------------------------------------------------

# as bitsandbytes has them
NF4 = [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635]
NF4 += [-0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725]
NF4 += [0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941]
NF4 += [0.7229568362236023, 1.0]


def test_the_table_is_nf4():
    assert (normal_float() - torch.tensor(NF4)).abs().max() < 1e-6
    for bits in (2, 3, 8):
        table = normal_float(bits)
        assert len(table) == 2**bits == len(table.unique()) and table.equal(table.sort()[0])
        assert table[0] == -1 and table[2 ** (bits - 1) - 1] == 0 and table[-1] == 1


@pytest.mark.parametrize("block", [2, 16, 64, 512])
def test_each_number_becomes_the_nearest_one(block):
    torch.manual_seed(3)
    weight, table = torch.randn(16, 96) * torch.logspace(-6, 6, 16).unsqueeze(1), normal_float()
    codes, scales = quantize(weight, table, block)
    blocks = weight.reshape(-1, block)
    assert scales.equal(blocks.abs().amax(dim=1, keepdim=True)) and codes.dtype == torch.uint8
    away = (blocks.double()[..., None] / scales.double()[..., None] - table.double()).abs()
    chosen = away.gather(-1, codes.long()[..., None])[..., 0]
    assert (chosen - away.amin(-1)).max() < 1e-7
    again = dequantize(codes, scales, table, weight.shape)
    assert again.shape == weight.shape
    assert quantize(again, table, block)[0].equal(codes)  # what it stands for stays
    assert ((again - weight).abs().view(-1, block) <= 0.16 * scales).all()


def test_a_block_of_zeros_stays():
    weight = torch.zeros(4, 64)
    weight[1, 5] = -3.0
    again = dequantize(*quantize(weight, normal_float()), normal_float(), weight.shape)
    assert again.equal(weight)


@pytest.mark.parametrize("block", [0, -64, 1, 5, 48, 2.5, 1024])
def test_a_block_that_does_not_come_out_even(block):
    layer = nn.Linear(32, 20)  # 640 numbers
    with pytest.raises(ValueError, match=r"\(20, 32\) has 640 numbers.* choose an even block"):
        NF4Linear(layer, block)


def test_no_number_that_is_not_finite_is_quantized():
    for bad in (float("nan"), float("inf")):
        weight = torch.ones(2, 64)
        weight[0, 3] = bad
        with pytest.raises(ValueError, match="a weight to be quantized is not finite"):
            quantize(weight, normal_float())


@pytest.mark.parametrize("bias", [True, False])
def test_two_codes_to_a_byte_come_out_as_they_went_in(bias):
    torch.manual_seed(2)
    linear = nn.Linear(128, 64, bias=bias)
    layer = NF4Linear(linear)
    want = dequantize(*quantize(linear.weight, table := normal_float()), table, (64, 128))
    assert layer.weight.equal(want)
    x = torch.randn(3, 128)
    assert layer(x).equal(F.linear(x, want, linear.bias))
    # half a byte a weight, 4 bytes for each 64, and the table
    sizes = {name: buffer.nbytes for name, buffer in layer.named_buffers()}
    assert sizes == {"packed": 64 * 128 // 2, "scales": 64 * 128 * 4 // 64, "table": 64}
    assert [name for name, _ in layer.named_parameters()] == ["bias"] * bias
    assert NF4Linear(layer).weight.equal(want)
    again = NF4Linear(nn.Linear(128, 64, bias=bias))
    again.load_state_dict(layer.state_dict())
    assert again(x).equal(layer(x))


def test_course_gpt_in_4_bits_and_lora_on_top(tmp_path):
    model = course_gpt().requires_grad_(False)
    before = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    quantize_linear(model)
    after = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    weights = 6 * 12 * 256**2
    assert before - after == weights * 4 - weights * (0.5 + 4 / 64) - 36 * 64
    want = logits(model)
    assert 0.01 < gap(want, logits(stored()[0])) < 5
    codes = {n: b.clone() for n, b in model.named_buffers()}
    replace_linear_with_lora(model, 8, 16, layers=BLOCK)
    assert equal(logits(model), want)
    learn = [p for p in model.parameters() if p.requires_grad]
    assert len(learn) == 72
    optimizer, ids, losses = torch.optim.AdamW(learn, lr=1e-3), prompts()[0], []
    for _ in range(6):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(ids)[0, :-1], ids[0, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
    found = {n.replace(".linear.", "."): b for n, b in model.named_buffers()}
    assert list(found) == list(codes) and equal(found.values(), codes.values())
    with adapter_off(model):
        assert equal(logits(model), want)
    path = saved(tmp_path, model)
    assert "belongs to another base" in refused(path, course_gpt())  # which is not in 4 bits
    again = course_gpt().requires_grad_(False)
    quantize_linear(again)
    load_adapter(path, again)
    assert equal(logits(again.eval()), logits(model))


def test_only_linear_layers_that_are_named_and_free_are_quantized():
    model = small()
    with pytest.raises(ValueError, match="out_head shares its matrix with tok_emb"):
        quantize_linear(model, None)
    quantize_linear(model, ("ff.layers.2",))
    found = [name for name, part in model.named_modules() if isinstance(part, NF4Linear)]
    assert found == ["trf_blocks.0.ff.layers.2", "trf_blocks.1.ff.layers.2"]
    with pytest.raises(ValueError, match="has LoRA already"):
        quantize_linear(adapted(small()))


# --- whole or not at all, and as it was -----------------------------------------------------------


def test_where_one_layer_cannot_be_changed_none_is():
    model = nn.Sequential(nn.Linear(60, 64), nn.Linear(4, 4))
    before = inside(model)
    with pytest.raises(ValueError, match=r"\(4, 4\) has 16 numbers"):
        quantize_linear(model, None)
    assert unchanged(model, before)


def test_a_model_in_4_bits_is_merged_into_full_numbers_and_taken_out_again():
    model = small(emb_dim=64).requires_grad_(False)
    quantize_linear(model)
    adapted(model)
    want, before = logits(model), inside(model)
    layers = merge_lora(model)
    assert list(model.state_dict()) == list(small().state_dict())
    assert gap(logits(model), want) < 1e-5
    unmerge_lora(model, layers)
    assert unchanged(model, before)


@pytest.mark.parametrize("first", [True, False])
def test_a_change_of_mode_reaches_the_layers_that_are_out(first):
    """Else a model that was merged in training would have dropout when it is evaluated."""
    model = adapted(small(), dropout=0.5).train(first)
    layers = merge_lora(model)
    assert {module.training for module in model.modules()} == {first}
    model.train(not first)
    unmerge_lora(model, layers)
    assert {module.training for module in model.modules()} == {not first}
    with adapter_off(model):
        model.train(first)
    assert {module.training for module in model.modules()} == {first}


def test_merging_leaves_the_layers_that_were_there_alone():
    model = adapted(course_gpt())
    before = inside(model)
    layers = merge_lora(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    unmerge_lora(model, layers)
    after = inside(model)
    for name, tensor in before[0].items():
        assert ".linear." not in name or after[0][name].equal(tensor)


def test_a_loaded_adapter_can_be_trained_on_and_saved_as_it_was(tmp_path):
    """With a new head, by whoever froze the model before or did not."""
    path = saved(tmp_path, adapted(small_classifier(), head=True))
    for frozen in (True, False):
        model = small_classifier(head_seed=8).requires_grad_(not frozen)
        load_adapter(path, model)
        learned = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learned == set(safetensors.torch.load_file(path))
        assert saved(tmp_path, model, "again").read_bytes() == path.read_bytes()


def test_what_belongs_to_the_base_is_known_under_each_name(tmp_path):
    """A tied matrix has two; that of a layer is another once LoRA is beside it."""
    model = small().requires_grad_(False)
    model.tok_emb.weight.requires_grad_(True)
    with torch.no_grad():
        model.tok_emb.weight += 1
    path, fresh = saved(tmp_path, model), adapted(small())
    load_adapter(path, fresh)
    assert equal(logits(fresh), logits(model)) and not lora_layers(fresh)
    assert fresh.out_head.weight is fresh.tok_emb.weight
    model = small().requires_grad_(False)
    model.trf_blocks[1].requires_grad_(True)
    with torch.no_grad():
        model.trf_blocks[1].att.W_key.weight += 1
    path, fresh = saved(tmp_path, model), adapted(small())
    load_adapter(path, fresh)
    assert equal(logits(fresh), logits(model)) and not lora_layers(fresh)
