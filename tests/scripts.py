"""A chapter's scripts as modules, although another chapter has scripts of the same names."""

import importlib
import sys
from pathlib import Path
from types import ModuleType


def scripts(folder: Path, *names: str) -> list[ModuleType]:
    """The scripts of a folder, each after those that it imports; afterwards the names are free again."""
    sys.path.insert(0, str(folder))
    for name in names:
        sys.modules.pop(name, None)
    found = [importlib.import_module(name) for name in names]
    for name in names:
        del sys.modules[name]
    return found
