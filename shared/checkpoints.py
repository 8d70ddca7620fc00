"""What a checkpoint holds besides weights, and whose it is: plain values, the kind of its optimizer, its run."""

import functools
import hashlib
import weakref
from pathlib import Path

import numpy as np
import torch

from shared.finite import finite_weights

PLAIN = (str, bytes, int, float, complex, bool, type(None), torch.Tensor)  # the tensor last
PREFIXES = (
    "_orig_mod.",
    "module.",
)  # what torch.compile and DistributedDataParallel put before a name
DECOUPLED = "decoupled_weight_decay"
_starts = weakref.WeakKeyDictionary()  # the fingerprints of models' first weights, by checkpoint

# --- values and names -----------------------------------------------------------------------------


def plain(value, name: str = ""):
    """A copy of a value that can be read without running code: numpy's numbers and arrays, paths and kinds of dict
    become Python's numbers, tensors, strings and dicts. ValueError, with its name, for anything else."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value.copy())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        pairs = value.items()
        return {
            plain(key, f"a key of {name}"): plain(each, f"{name}[{key!r}]" if name else str(key))
            for key, each in pairs
        }
    for kind in (list, tuple, set):
        if isinstance(value, kind):
            return kind(plain(item, f"{name}[{i}]") for i, item in enumerate(value))
    if type(value) in (*PLAIN, torch.nn.Parameter, torch.Size, torch.dtype, torch.device):
        return value
    called = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
    raise ValueError(
        f"{name} is a {called}, which a checkpoint cannot hold: save it as numbers, texts, lists or tensors"
    )


def bare(model):
    """The model itself, where torch.compile or DistributedDataParallel has wrapped it."""
    while (
        inner := getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    ) is not None:
        model = inner
    return model


def without_prefix(weights: dict) -> dict:
    """Tensors by name, without the prefixes of torch.compile and DistributedDataParallel, where all names have one."""
    for prefix in 2 * PREFIXES:  # either may be around the other
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def weights_in(state, source) -> dict[str, torch.Tensor]:
    """The weights in what `files.read_saved` returned: a checkpoint's, or weights alone, by the model's own names.

    The book's masks are left out. ValueError where it holds something else, or a number that is not finite.
    """
    found = state.get("model_state_dict", state) if isinstance(state, dict) else {}
    found = found if isinstance(found, dict) else {}
    found = {name: each for name, each in found.items() if not str(name).endswith(".mask")}
    if not found or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise ValueError(f"{source}: not tensors by name; save or copy it again")
    return finite_weights(without_prefix({str(n): each for n, each in found.items()}), source)


# --- optimizers -----------------------------------------------------------------------------------


def kind_of(optimizer) -> str:
    """What an optimizer, or each of several that work as one, is called."""
    parts = getattr(optimizer, "optimizers", None)
    return ", ".join(map(kind_of, parts)) if parts else type(optimizer).__name__


def load_optimizer(optimizer, checkpoint: dict, source) -> None:
    """Load an optimizer's state out of a checkpoint; ValueError, and no change, unless it is of this kind and groups."""
    if "optimizer_state_dict" not in checkpoint:
        raise ValueError(f"{source}: weights alone; load it without an optimizer")
    other, kind = f"{source}: it is another optimizer's state", kind_of(optimizer)
    if (saved := checkpoint.get("optimizer", kind)) != kind:
        raise ValueError(f"{other}: {saved}, not {kind}")
    state, own = checkpoint["optimizer_state_dict"], optimizer.state_dict()
    # the book's checkpoints do not say the kind, so the settings must tell; an older PyTorch may have had fewer
    for mine, theirs in zip(own.get("param_groups", []), state.get("param_groups", [])):
        if strange := sorted(set(theirs) - set(mine) - {"initial_lr"}):
            raise ValueError(f"{other}: {kind} has no setting {strange[0]!r}")
        if theirs.get(DECOUPLED, mine.get(DECOUPLED)) != mine.get(DECOUPLED):
            raise ValueError(f"{other}: {DECOUPLED} tells Adam from AdamW")
    try:
        optimizer.load_state_dict(state)
    except (ValueError, KeyError) as error:
        raise ValueError(f"{other}: {error}") from None


# --- whose it is ----------------------------------------------------------------------------------


def fingerprint(value) -> str:
    """The first 12 digits of a SHA-256 of tensors, numbers, texts, and lists, dicts or data sets of them."""
    digest = hashlib.sha256()

    def add(part):
        part = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
        if isinstance(part, torch.Tensor):
            content = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{part.dtype}{tuple(part.shape)}".encode() + content.numpy().tobytes())
        elif isinstance(part, dict):
            add([[key, item] for key, item in part.items()])
        elif isinstance(part, (str, bytes)) or not hasattr(part, "__getitem__"):
            digest.update(f"{type(part).__name__} {part!r};".encode())
        elif isinstance(part, (list, tuple)) and all(type(item) in PLAIN[:-1] for item in part):
            digest.update(repr(part).encode())
        else:
            digest.update(f"{len(part)} of:".encode())
            for i in range(len(part)):
                add(part[i])

    add(value)
    return digest.hexdigest()[:12]


def identity(model, training, validation, optimizer, path, **settings) -> dict:
    """What makes a training, with its checkpoint at `path`, the one that it is: two loaders, first weights, optimizer,
    seed and settings. The data of a loader that does not show them are None, which counts as any."""
    model, path = bare(model), str(Path(path).absolute())
    # whoever trains the same model on, as a notebook does after an interruption, began with the weights of before
    known = _starts.setdefault(model, {})
    if path not in known or not Path(path).exists():
        known[path] = fingerprint(model.state_dict())
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    unchanging = [
        {key: each for key, each in group.items() if key not in ("params", "lr", "initial_lr")}
        for group in optimizer.param_groups
    ]
    with torch.random.fork_rng(devices=[]):  # a data set may draw
        data = {"data": _data(training), "validation data": _data(validation)}
    if settings.get("rate", 0) is None:  # no schedule: the rate is that of the optimizer
        settings["rate"] = [group["lr"] for group in optimizer.param_groups]
    return data | {
        "first weights": known[path],
        "trained parts": fingerprint(trained),
        "optimizer": f"{kind_of(optimizer)} {fingerprint(unchanging)}",
        "seed": torch.initial_seed(),
    } | {name: _setting(value) for name, value in settings.items()}  # fmt: skip


def check_run(progress: dict, run: dict, path) -> None:
    """ValueError, with what differs, unless the progress that a checkpoint holds is of this run.

    A run may be made longer in `epochs`, but not shorter than what is done.
    """
    saved, done = progress.get("run") or {}, progress.get("epochs", 0)
    differ = [k for k in run if None not in (run[k], saved.get(k, 0)) and saved.get(k) != run[k]]
    if differ := [key for key in differ if key != "epochs"]:
        each = ", ".join(f"{key} {saved.get(key)}, not {run[key]}" for key in differ)
        raise ValueError(f"{path} is of another run ({each}): delete it, or name another file")
    if done > run.get("epochs", done):
        raise ValueError(f"{path} has {done} epochs behind it, and {run['epochs']} were asked for")


def _data(loader) -> str | None:
    """The fingerprint of a loader's items and of how it makes batches of them."""
    if isinstance(loader, (list, tuple)):
        return fingerprint(loader)
    items, sampler = getattr(loader, "dataset", None), getattr(loader, "batch_sampler", None)
    if not (hasattr(items, "__len__") and hasattr(items, "__getitem__")):
        return None
    how = [type(sampler), type(loader.sampler), getattr(sampler, "batch_size", loader.batch_size)]
    how += [getattr(sampler, "drop_last", None), _setting(loader.collate_fn)]
    return fingerprint([[items[i] for i in range(len(items))], how])


def _setting(value):
    """A setting as it can be saved and compared: numbers and texts as they are, all else by fingerprint.

    Of a function its code, and the numbers in it and the settings around it that it reads.
    """
    if isinstance(value, (str, int, float, bool)):
        return plain(value)
    if isinstance(value, functools.partial):
        parts = [value.func, *value.args, *value.keywords.items()]
        return fingerprint([_setting(part) for part in parts])
    if hasattr(value, "__code__"):
        code, around = value.__code__, value.__globals__
        numbers = [each for each in code.co_consts if isinstance(each, (int, float, str))]
        numbers += [around[n] for n in code.co_names if isinstance(around.get(n), (int, float))]
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return fingerprint([code.co_code, numbers, [c for c in cells if isinstance(c, float)]])
    return fingerprint(
        value if isinstance(value, (torch.Tensor, list, tuple, dict)) else str(value)
    )
