"""Write an adapter as peft's files, which open on the folder that ch05_pretraining/export.py writes.

    python ch05_pretraining/export.py --first MODEL
    python appendix_e_lora/export_adapter.py ADAPTER FOLDER

ADAPTER is a file of `save_adapter`, for the pretrained model that appendix E uses (the course's first one, or what
COURSE_MODEL names). Afterward `peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(MODEL), FOLDER)`
gives the same logits, and can be trained on or merged. peft itself is not needed here. A folder that holds anything but
an earlier export is left alone.
"""

if __name__ == "__main__":  # first of all: what follows takes seconds to import
    from shared import program

    program.begin()

import argparse
import json
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from shared import adapters, models, program
from shared.assets import AssetError
from shared.files import landing_folder, write_sums, written_by
from shared.lora import load_adapter, lora_layers
from shared.pretraining import gpt2_views

WRITER = "appendix_e_lora/export_adapter.py"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def check_only_lora(path: Path) -> None:
    """ValueError where an adapter holds anything that peft has no place for beside GPT2LMHeadModel."""
    for name in adapters.read(path)[0]:
        if name.startswith("out_head."):
            raise ValueError(f"{path} has a head of its own ({name}), as a classifier's adapter has, and cannot be exported: the head of transformers' GPT2ForSequenceClassification has no bias to put ours into")  # fmt: skip
        if ".lora." not in name:
            raise ValueError(f"{path} holds {name} itself, not only LoRA beside it: such a model is exported whole")  # fmt: skip


def places(model: nn.Module) -> dict[int, tuple[str, int, int]]:
    """Where GPT-2 has each of our matrices, by its address in memory: (module, which part of it, of how many)."""
    return {
        view.data_ptr(): (f"transformer.{name.removesuffix('.weight')}", i, len(parts))
        for name, parts in gpt2_views(model).items()
        if name.startswith("h.") and name.endswith(".weight")
        for i, view in enumerate(parts)
    }


def one_of_many(parts: list[nn.Module | None]) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A, B and scale that change a fused layer as these LoRALayers change its parts; None: one that is not changed.

    Their ranks side by side: A `(sum of ranks, in)`, B `(all out, sum of ranks)` with a block for each part, else 0.
    """
    given = [part for part in parts if part is not None]
    scale, width = given[0].scale, given[0].B.shape[1]
    # a part with another scale has the difference in its B
    blocks = [
        torch.zeros(width, 0) if part is None else part.B.T * (part.scale / scale) for part in parts
    ]
    return torch.cat([part.A for part in given], dim=1).T, torch.block_diag(*blocks), scale


@torch.no_grad()
def as_peft(path: Path, model: nn.Module) -> tuple[dict, dict[str, torch.Tensor]]:
    """An adapter of this model as peft's configuration and tensors. ValueError where it is none, or peft has no place for it."""
    check_only_lora(path)
    where, fused = places(model), {}
    load_adapter(path, model)
    for name, layer in lora_layers(model).items():
        if layer.linear.weight.data_ptr() not in where:
            raise ValueError(f"{path} changes {name}, which is no part of a block: only those are exported")  # fmt: skip
        module, i, count = where[layer.linear.weight.data_ptr()]
        fused.setdefault(module, [None] * count)[i] = layer.lora
    tensors, ranks, alphas = {}, {}, {}
    for module, parts in fused.items():
        A, B, scale = one_of_many(parts)
        ranks[module], alphas[module] = len(A), scale * len(A)  # peft's scale is alpha / rank
        for letter, tensor in (("A", A), ("B", B)):
            tensors[f"base_model.model.{module}.lora_{letter}.weight"] = tensor.contiguous()
    first = next(iter(fused))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": ranks[first],
        "lora_alpha": alphas[first],
        "target_modules": list(fused),
        "rank_pattern": {m: rank for m, rank in ranks.items() if rank != ranks[first]},
        "alpha_pattern": {m: alpha for m, alpha in alphas.items() if alpha != alphas[first]},
        "fan_in_fan_out": True,  # GPT-2's matrices have the inputs first
        "use_rslora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }, tensors


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("adapter", type=Path, metavar="ADAPTER")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    options = parser.parse_args(arguments)
    with program.in_one_line("export_adapter", "from the beginning", AssetError):
        written_by(WRITER, options.folder)
        config, tensors = as_peft(options.adapter, models.pretrained(first=True)[0])
        with landing_folder(options.folder) as scratch:
            safetensors.torch.save_file(tensors, scratch / WEIGHTS, metadata={"format": "pt"})
            text = json.dumps(config, indent=2) + "\n"
            (scratch / CONFIG).write_text(text, encoding="utf-8")
            write_sums(scratch, [WEIGHTS, CONFIG], WRITER)
    size = sum((options.folder / name).stat().st_size for name in (WEIGHTS, CONFIG))
    print(f"{options.folder}: {size / 1e6:.2f} MB, {len(config['target_modules'])} layers")


if __name__ == "__main__":
    main()
