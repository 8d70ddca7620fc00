"""What the checks of exercises 7.4 and E.2 ask of a model with LoRA in its attention."""

from shared.checks import require
from shared.lora import ATTENTION, lora_layers


def _attention_layers(model):
    """The names of the linear layers in the attention of all blocks."""
    blocks = range(len(model.trf_blocks))
    return [f"trf_blocks.{i}.att.{part}" for i in blocks for part in ATTENTION]


def require_lora(model, about, rank, alpha, new=()):
    """Refuse LoRA in other places, or of another kind; the names of all that should learn."""
    layers, due = lora_layers(model), _attention_layers(model)
    for name in layers:
        head = "the new head learns whole" if name in new else "only attention should"
        require(name in due, f"{about}: {name} has LoRA beside it, and {head}")
    missing = [name for name in due if name not in layers]
    require(not missing, f"{about}: {missing and missing[0]} has no LoRA beside it")
    for name, layer in layers.items():
        got = layer.lora.rank, layer.lora.alpha, layer.lora.scaling
        asked = (rank, alpha, "alpha/rank")
        require(got == asked, f"{about}: {name} has rank, alpha and scaling {got}, not {asked}")
    learn = [f"{name}.lora.{part}" for name in due for part in "AB"]
    return learn + [f"{one}.{name}" for one in new for name, _ in model.get_submodule(one).named_parameters()]  # fmt: skip
