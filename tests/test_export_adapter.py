"""export_adapter.py: an adapter of ours opens with peft, on the folder that export.py writes, with equal logits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import test_lora as lora
import torch
from scripts import scripts

from shared import files, models
from shared.lora import LinearWithLoRA, lora_layers

FOLDER = Path(__file__).parent.parent / "appendix_e_lora"
(export_adapter,) = scripts(FOLDER, "export_adapter")
NAMES = {export_adapter.CONFIG, export_adapter.WEIGHTS, files.SUMS}
OLD_NAME = "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"  # peft reads it


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """What gives the first course model as transformers opens it, with an adapter's folder as peft opens it."""
    transformers, peft = pytest.importorskip("transformers"), pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("hf")
    files.script("ch05_pretraining/export.py").main([str(folder), "--first"])

    def with_adapter(adapter):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
            base = transformers.AutoModelForCausalLM.from_pretrained(folder)
            return peft.PeftModel.from_pretrained(base, adapter).eval()

    return with_adapter


@torch.no_grad()
def gap(model, theirs):
    return lora.gap(lora.logits(model), [theirs(ids).logits for ids in lora.prompts()])


@pytest.mark.parametrize(
    "rank, alpha, options, r",
    [
        (8, 16, {"layers": lora.ATTENTION}, 24),
        (8, 16, {}, 24),
        (8, 16, {"layers": ("W_query", "W_value")}, 16),
        (4, 3, {"layers": ("W_value",), "scaling": "alpha"}, 4),
        (8, 16, {"scaling": "alpha/sqrt(rank)", "init": "book"}, 24),
        (3, 4.5, {"layers": lora.FEED_FORWARD}, 3),
    ],
    ids=str,
)
@pytest.mark.filterwarnings(OLD_NAME)
def test_peft_opens_it_with_equal_logits(opened, rank, alpha, options, r, tmp_path, capsys):
    model = lora.adapted(lora.course_gpt(), rank, alpha, **options)
    path = lora.saved(tmp_path, model)
    export_adapter.main([str(path), str(tmp_path / "peft")])
    assert {file.name for file in (tmp_path / "peft").iterdir()} == NAMES
    theirs = opened(tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / export_adapter.CONFIG).read_text())
    count = len(config["target_modules"])
    assert config["r"] == r and f"MB, {count} layers\n" in capsys.readouterr().out
    assert sum(hasattr(module, "lora_A") for module in theirs.modules()) == count
    assert lora.gap(lora.logits(model), lora.logits(lora.course_gpt())) > 0.1
    assert gap(model, theirs) < 1e-4
    assert gap(model, theirs.merge_and_unload()) < 1e-4


@pytest.mark.filterwarnings(OLD_NAME)
def test_layers_that_differ_in_rank_and_scale_each_keep_theirs(opened, tmp_path):
    """Two parts of one fused layer among them."""
    model = lora.course_gpt().requires_grad_(False)
    given = {"trf_blocks.0.att.W_query": (4, 8, "alpha/rank"), "trf_blocks.0.att.W_value": (2, 5, "alpha")}  # fmt: skip
    given |= {"trf_blocks.1.att.W_key": (4, 8, "alpha/sqrt(rank)")}
    given |= {"trf_blocks.5.ff.layers.2": (1, 3, "alpha/rank"), "trf_blocks.5.att.out_proj": (6, 12, "alpha/rank")}  # fmt: skip
    torch.manual_seed(2)
    for name, (rank, alpha, scaling) in given.items():
        layer = LinearWithLoRA(model.get_submodule(name), rank, alpha, scaling=scaling)
        torch.nn.init.normal_(layer.lora.B, std=0.05)
        model.set_submodule(name, layer)
    export_adapter.main([str(lora.saved(tmp_path, model)), str(tmp_path / "peft")])
    config = json.loads((tmp_path / "peft" / export_adapter.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"]) == (6, 12)
    found = {name.removeprefix("transformer."): rank for name, rank in config["rank_pattern"].items()}  # fmt: skip
    assert found == {"h.1.attn.c_attn": 4, "h.5.mlp.c_proj": 1}
    assert len(config["alpha_pattern"]) == 2
    theirs = opened(tmp_path / "peft")
    assert gap(model, theirs) < 1e-4
    assert gap(model, theirs.merge_and_unload()) < 1e-4


def test_what_is_not_changed_has_no_part_in_a_fused_layer(tmp_path):
    """A has the ranks that there are, B zeros where nothing changes and off its blocks."""
    model = lora.adapted(lora.course_gpt(), 2, 2, ("W_query", "W_value"))
    layers = lora_layers(model)
    config, tensors = export_adapter.as_peft(lora.saved(tmp_path, model), lora.course_gpt())
    assert config["target_modules"] == [f"transformer.h.{i}.attn.c_attn" for i in range(6)]
    for i in range(6):
        start = f"base_model.model.transformer.h.{i}.attn.c_attn.lora_"
        A, B = tensors[f"{start}A.weight"], tensors[f"{start}B.weight"]
        assert A.shape == (4, 256) and B.shape == (768, 4)
        for k, (name, rows) in enumerate((("W_query", slice(256)), ("W_value", slice(512, 768)))):
            layer = layers[f"trf_blocks.{i}.att.{name}"].lora
            columns = slice(2 * k, 2 * k + 2)
            assert A[columns].equal(layer.A.T) and B[rows, columns].equal(layer.B.T)
            B[rows, columns] = 0
        assert not B.any()


# --- refused, and left alone ----------------------------------------------------------------------


def whole_block(model):
    model.requires_grad_(False).trf_blocks[-1].requires_grad_(True)
    return model


@pytest.mark.parametrize(
    "build, says",
    [
        (lambda: lora.adapted(lora.course_classifier(), head=True), r"has a head of its own \(out_head.*no bias to put ours into"),
        (lambda: lora.adapted(lora.course_classifier()), "belongs to another base"),
        (lambda: lora.adapted(models.instruction_model()[0]), "belongs to another base"),
        (lambda: whole_block(lora.course_gpt()), "itself, not only LoRA beside it: such a model is exported whole"),
    ],
    ids=["a new head", "a classifier", "the assistant", "a block"],
)  # fmt: skip
def test_what_peft_has_no_place_for_is_refused(build, says, tmp_path):
    path = lora.saved(tmp_path, build())
    with pytest.raises(SystemExit, match=f"^export_adapter: .*{says}"):
        export_adapter.main([str(path), str(tmp_path / "peft")])
    assert list(tmp_path.iterdir()) == [path]


def test_an_adapter_of_an_untied_head_is_refused(tmp_path):
    model = lora.small(tie_weights=False)
    path = lora.saved(tmp_path, lora.adapted(model, 2, 2, layers=None))
    with pytest.raises(ValueError, match="changes out_head, which is no part of a block"):
        export_adapter.as_peft(path, lora.small(tie_weights=False))


def test_its_own_folder_may_be_written_again_and_no_other(tmp_path, capsys):
    path = lora.saved(tmp_path, lora.adapted(lora.course_gpt(), layers=("W_value",)))
    folder = tmp_path / "deep" / "peft"
    export_adapter.main([str(path), str(folder)])
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    export_adapter.main([str(path), str(folder)])
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    assert set(first) == NAMES
    one, two = capsys.readouterr().out.splitlines()
    assert one == two == f"{folder}: 0.10 MB, 6 layers"
    (folder / export_adapter.WEIGHTS).write_bytes(b"trained further")
    with pytest.raises(SystemExit, match="is not empty, and not what .*: name a new folder"):
        export_adapter.main([str(path), str(folder)])
    with pytest.raises(SystemExit, match="export_adapter: .*nowhere is no file"):
        export_adapter.main([str(tmp_path / "nowhere"), str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_peft_is_not_needed(tmp_path):
    """It is in the test extra alone: the script imports neither peft nor transformers."""
    path = lora.saved(tmp_path, lora.adapted(lora.course_gpt(), layers=("W_value",)))
    program = "import sys; sys.modules['peft'] = sys.modules['transformers'] = None\n"
    program += f"sys.path.insert(0, {str(FOLDER)!r}); import export_adapter; export_adapter.main(sys.argv[1:])"
    given = [sys.executable, "-c", program, str(path), str(tmp_path / "peft")]
    assert subprocess.run(given, capture_output=True, text=True, check=True).stderr == ""
    tensors = safetensors.torch.load_file(tmp_path / "peft" / export_adapter.WEIGHTS)
    assert len(tensors) == 12
