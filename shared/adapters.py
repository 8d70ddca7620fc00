"""What LoRA refuses, and the files of adapters. The idea itself is in appendix E."""

import json
import re
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from shared.checkpoints import fingerprint
from shared.files import landing
from shared.finite import finite, finite_weights, whole_number

ENTRY = "adapter"  # of the file's header: what the adapter says about itself, as JSON
SCALINGS, INITS = ("alpha/rank", "alpha", "alpha/sqrt(rank)"), ("peft", "book")


def check_recipe(rank: int, alpha: float, scaling: str, init: str) -> None:
    """ValueError for a rank or alpha that is none, or an unknown scaling or initialization."""
    whole_number(rank, "rank")
    if not 0 < alpha < float("inf"):
        raise ValueError(f"alpha is {alpha!r}; a number above 0 is needed")
    for name, value, known in (("scaling", scaling, SCALINGS), ("init", init, INITS)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; there are {', '.join(map(repr, known))}")


def linear_layers(model: nn.Module, endings=None) -> dict[str, nn.Module]:
    """The linear layers whose names end in one of `endings`, or all, by name.

    ValueError where an ending fits no layer, where a layer shares its matrix with another module, and where a
    LoRALayer is beside one already.
    """
    endings = (endings,) if isinstance(endings, str) else endings
    # by what they are like, as a layer in 4 bits is no nn.Linear
    linear = {name: m for name, m in model.named_modules() if hasattr(m, "in_features")}
    modules = {name for name, _ in model.named_modules()}
    for name in linear:
        if name.endswith(".linear") and f"{name.removesuffix('.linear')}.lora" in modules:
            taken = f"{name.removesuffix('.linear')} has LoRA already"
            raise ValueError(f"{taken}: begin with a new model, or merge first")
    for ending in endings or ():
        if not any(f".{name}".endswith(f".{ending}") for name in linear):
            # once for all blocks
            names = dict.fromkeys(re.sub(r"^\w+\.\d+\.", "", name) for name in linear)
            raise ValueError(f"no linear layer is called {ending!r}; there are {', '.join(names)}")
    chosen = {
        name: layer
        for name, layer in linear.items()
        if endings is None or any(f".{name}".endswith(f".{ending}") for ending in endings)
    }
    if not chosen:
        raise ValueError("the model has no linear layer to put anything beside")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name in chosen:
        weight = parameters.get(f"{name}.weight")  # a layer in 4 bits has none
        for other, parameter in parameters.items():
            if parameter is weight and other != f"{name}.weight":
                shared = f"{name} shares its matrix with {other.removesuffix('.weight')}"
                raise ValueError(f"{shared}, which would not be changed with it: leave it out, by `layers`")  # fmt: skip
    return chosen


def check_blocks(weight, block: int) -> None:
    """ValueError unless a matrix can be cut into blocks of that many numbers, two of which go into a byte."""
    if block < 2 or block % 2 or weight.numel() % block:
        raise ValueError(f"{tuple(weight.shape)} has {weight.numel()} numbers, which are no whole number of blocks of {block}: choose an even block that divides it")  # fmt: skip
    finite(weight, "a weight to be quantized")


# --- files ----------------------------------------------------------------------------------------


def write(path: Path | str, learned: dict, about: dict[str, str]) -> None:
    """Write an adapter; ValueError if there is nothing in it, the base's own weights are, or a number is not finite."""
    if not learned:
        raise ValueError("nothing of this model is trained: there is no adapter to save")
    layers = tuple(f"{layer}.linear." for layer in json.loads(about["layers"]))
    if of_base := [name for name in learned if name.startswith(layers)]:
        raise ValueError(f"{of_base[0]} is trained beside its LoRA, and an adapter holds nothing of the base: freeze the base first, then put LoRA in")  # fmt: skip
    tensors = {name: tensor.contiguous().cpu() for name, tensor in finite_weights(learned, path).items()}  # fmt: skip
    about = about | {"content": content_of(tensors, about)}
    with landing(Path(path)) as file:  # one entry: several would stand in another order each time
        file.write(safetensors.torch.save(tensors, {ENTRY: json.dumps(about, sort_keys=True)}))


def content_of(tensors: dict, about: dict[str, str]) -> str:
    """A fingerprint of all that an adapter's file holds."""
    return fingerprint([dict(sorted(tensors.items())), about["base"], about["layers"]])


def read(path: Path | str) -> tuple[dict, dict[str, str]]:
    """The tensors of an adapter's file and what it says about itself; ValueError where it is none, or damaged."""
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file: give the one that save_adapter wrote")
    try:
        with safetensors.safe_open(path, "pt") as file:
            says, tensors = file.metadata() or {}, {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from None
    if ENTRY not in says:
        raise ValueError(f"{path} is no adapter of this course: it does not say whose base it changes")  # fmt: skip
    try:
        about = json.loads(says[ENTRY])
        whole = about["content"] == content_of(tensors, about)
    except (ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged: its content is not what save_adapter wrote. Get it again")  # fmt: skip
    return tensors, about


def check_base(path, learned: dict, model: nn.Module, wanted: str, found: str) -> None:
    """ValueError unless the model is the base of an adapter, and a new head fits."""
    parameters = model.named_parameters(remove_duplicate=False)
    own = {name.replace(".linear.", "."): parameter for name, parameter in parameters}
    for name, tensor in learned.items():
        if ".lora." in name:
            continue
        shape = tuple(own[name].shape) if name in own else "missing"
        if shape != tuple(tensor.shape):
            raise ValueError(f"{path} has {name} of {tuple(tensor.shape)}, which is {shape} in this model: give it that head first")  # fmt: skip
    if wanted != found:
        raise ValueError(f"{path} belongs to another base (fingerprint {wanted}, this model's is {found}): load the model that it was trained on")  # fmt: skip
