"""What an answer was given, before the call and after it: what belongs to the caller stays as it is.

`picture` describes everything in a value that could be changed; `difference` names the first place
at which two pictures of one value differ.
"""

import sys

PLAIN = (int, float, complex, str, bytes, bool, type(None))


def picture(value, name, found=None, above=()):
    """`{place: what is there}` of a value called `name`; tensors, arrays and tables are copied.

    Lists, dictionaries, sets, tensors, arrays, tables and modules (weights, mode, requires_grad, plain
    settings, hooks) are looked into, and datasets, too; functions and other objects are not.
    """
    found = {} if found is None else found
    if id(value) in above:  # a list that holds itself
        return found
    above = (*above, id(value))
    torch, numpy, pandas = map(sys.modules.get, ("torch", "numpy", "pandas"))
    if isinstance(value, PLAIN):
        found[name] = value
    elif isinstance(value, dict):
        found[name] = type(value), tuple(value)
        for key, part in value.items():
            picture(part, f"{name}[{key!r}]", found, above)
    elif isinstance(value, set | frozenset | bytearray):
        found[name] = type(value)(value)
    elif isinstance(value, list | tuple) or type(value).__name__ == "deque":
        if all(type(part) in PLAIN for part in value):
            found[name] = type(value), tuple(value)
            return found
        found[name] = type(value), len(value)
        for i, part in enumerate(value):
            picture(part, f"{name}[{i}]", found, above)
    elif torch and isinstance(value, torch.nn.Module):
        _module(value, name, found)
    elif torch and isinstance(value, torch.Tensor):
        found[name] = value.detach().clone().requires_grad_(value.requires_grad)
        if value.is_leaf and not isinstance(value, torch.nn.Parameter):
            found[f"{name}.grad"] = value.grad is None
    elif torch and isinstance(value, torch.utils.data.Dataset | torch.utils.data.DataLoader):
        for key, part in vars(value).items():
            if not key.startswith("_"):
                picture(part, f"{name}.{key}", found, above)
    elif numpy and isinstance(value, numpy.ndarray):
        found[name] = value.copy()
        if value.dtype == object:  # copy() does not copy what is in it
            picture(value.tolist(), f"{name}[...]", found, above)
    elif pandas and isinstance(value, pandas.DataFrame | pandas.Series):
        found[name] = value.copy()
        columns = value.items() if isinstance(value, pandas.DataFrame) else [("", value)]
        for column, cells in columns:
            if cells.dtype == object:
                picture(cells.tolist(), f"{name}[{column!r}]", found, above)
    return found


def switches():
    """What an answer could switch for everybody: `{name of the function that sets it: value}`."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    return {"set_default_dtype": dtype, "set_grad_enabled": grad}


def switch_back(before):
    """Set the switches as they were, and return the name of the first that was not; "" if all were."""
    after = switches()
    changed = [name for name, value in before.items() if after[name] != value]
    for name in changed:
        getattr(sys.modules["torch"], name)(before[name])
    return changed[0] if changed else ""


def _module(module, name, found):
    parts = dict(module.named_modules())
    found[f"the parts of `{name}`"] = {place: type(part) for place, part in parts.items()}
    found[f"the mode of `{name}`"] = {place: part.training for place, part in parts.items()}
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"
    for place, part in parts.items():
        where = f"{name}.{place}".rstrip(".")
        found[f"the hooks of `{where}`"] = [len(vars(part).get(kind, ())) for kind in hooks]
        for key, setting in vars(part).items():
            if key != "training" and isinstance(setting, PLAIN):
                found[f"{where}.{key}"] = setting
    for kind in (module.named_parameters, module.named_buffers):
        for place, tensor in kind(remove_duplicate=False):
            picture(tensor, f"{name}.{place}", found)


def difference(before, after):
    """The first place at which two pictures differ, in words; "" if they do not."""
    for place in (*before, *(place for place in after if place not in before)):
        one, other = before.get(place, "nothing"), after.get(place, "nothing")
        if _equal(one, other):
            continue
        if place.startswith("the mode of"):
            mode = "training" if one[""] else "evaluation"
            left = f"it came in {mode} mode and left in the other"
            return f"{place} ({left if one[''] != other[''] else 'of a part of it'}): put it back"
        where = place if place.startswith("the ") else f"`{place}`"
        before, after = (getattr(state, "requires_grad", None) for state in (one, other))
        if before != after:
            return f"{where}.requires_grad (it was {before}): put it back, or work on a copy"
        return f"{where}: work on a copy"
    return ""


def _equal(one, other):
    if type(one) is not type(other):
        return False
    module = type(one).__module__.partition(".")[0]
    if module == "torch":
        kinds = [(x.shape, x.dtype, x.device, x.requires_grad) for x in (one, other)]
        if kinds[0] != kinds[1]:
            return False
        # nan, too, is what it was; shapes without numbers ("meta") have nothing to compare
        return one.is_meta or bool(((one == other) | (one != one) & (other != other)).all())
    if module == "numpy":
        same = one.shape == other.shape and one.dtype == other.dtype
        return same and bool(((one == other) | (one != one) & (other != other)).all())
    if module == "pandas":
        labels = one.axes, other.axes
        same = all(a.equals(b) and a.names == b.names for a, b in zip(*labels, strict=True))
        return same and one.equals(other)
    return one is other or one == other or (one != one and other != other)
