"""A chapter's scripts as modules, although another chapter has scripts of the same names."""

import importlib
import os
import subprocess
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


def under_hash_seeds(folder: Path, module: str, texts: str) -> set[bytes]:
    """The SHA-256 of an iterable of texts, an expression about a script, by processes that order sets differently."""
    script = (
        f"import sys, hashlib, itertools; sys.path.insert(0, sys.argv[1]); import {module}\n"
        f"print(hashlib.sha256('|'.join({texts}).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", script, str(folder)]
    return {
        subprocess.run(
            command, capture_output=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
