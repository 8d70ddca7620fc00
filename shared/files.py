"""Files that are whole or not there, and files from elsewhere: read without running what is in them."""

import hashlib
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

# what a folder with a finished model holds, besides its log and its card
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SUMS = "SHA256SUMS"
CUT_OFF = "is damaged or cut off: get it again"
RESTORE = "Restore the folder (git checkout)."

# --- written whole --------------------------------------------------------------------------------


@contextmanager
def landing(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes its place only when complete; the old one then becomes `keep`.

    Raises OSError, which names the file, where it cannot be written; the old file is then as it was.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if keep and path.exists():
            os.replace(path, keep)
        os.replace(unfinished, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def landing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder, which becomes `folder` once all its files are written; they move if that is there already."""
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch, folder.name)
        whole.mkdir()
        yield whole
        try:
            whole.rename(folder)  # at once: a kill cannot leave a part of it
        except OSError:
            folder.mkdir(exist_ok=True)
            for path in whole.iterdir():
                path.replace(folder / path.name)


def save_json(path: Path, data) -> None:
    """Write data to a JSON file: whole, or not at all."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    with landing(path) as file:
        file.write(text.encode())


def as_json(cfg: dict) -> bytes:
    """A configuration as config.json holds it."""
    return json.dumps(cfg, indent=2).encode() + b"\n"


def fill_in(path, data: list[dict], key: str, compute, size: int = 64) -> list[dict]:
    """The entries with what `compute(entries) -> list` finds under `key`, saved to a file after every `size`.

    What the file already holds is not computed again. ValueError where it holds other entries.
    """

    def bare(entries):
        return [{name: value for name, value in entry.items() if name != key} for entry in entries]

    kept = []
    try:
        kept = json.loads(Path(path).read_text(encoding="utf-8"))
        same = bare(kept) == bare(data)[: len(kept)] and all(key in entry for entry in kept)
    except FileNotFoundError:
        same = True
    except (ValueError, AttributeError, TypeError):  # no JSON, or no list of objects
        same = False
    if not same:
        raise ValueError(f"{path} holds something else than these entries: delete it, or name another file")  # fmt: skip
    for start in range(len(kept), len(data), size):
        part = data[start : start + size]
        kept += [entry | {key: value} for entry, value in zip(part, compute(part), strict=True)]
        save_json(path, kept)
    return kept


# --- checksums ------------------------------------------------------------------------------------


def sha256(content: bytes | Path) -> str:
    """The SHA-256 of some bytes, or of a file, in hexadecimal digits."""
    content = content.read_bytes() if isinstance(content, Path) else content
    return hashlib.sha256(content).hexdigest()


def write_sums(folder: Path, names: Iterable[str], run: str = "") -> None:
    """Write SHA256SUMS for these files of a folder, as sha256sum does; `run`, what wrote them, as a comment."""
    lines = [f"# {run}\n"] if run else []
    lines += [f"{sha256(Path(folder, name))}  {name}\n" for name in names]
    Path(folder, SUMS).write_bytes("".join(lines).encode())


def written_by(run: str, folder: Path) -> bool:
    """Whether a folder holds what `run` wrote, as `write_sums` noted it; False where nothing is there yet.

    ValueError where it holds anything else, or what was changed since: that is somebody's, and is left alone.
    """
    folder = Path(folder)
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return False
    try:
        first, *sums = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        listed = [line.split("  ", 1) for line in sums]
        if first == f"# {run}" and all(sha256(folder / name) == digest for digest, name in listed):
            return True
    except (OSError, ValueError):  # no list, or not of files that are there
        pass
    raise ValueError(f"{folder} is not empty, and not what {run} has written: name a new folder")


def seal(path: Path) -> None:
    """Write a file's checksum into the SHA256SUMS beside it, in place of an older one: its script wrote it so."""
    sums = path.with_name(SUMS)
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.exists() else []
    lines = [line for line in lines if line.split("  ", 1)[-1] != path.name]
    lines.append(f"{sha256(path)}  {path.name}")
    with landing(sums) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())


def read_checked(
    folder: Path,
    names: Iterable[str],
    once: Callable[[str, bytes], bytes] = lambda name, data: data,
) -> dict[str, bytes]:
    """The content of files of a folder, by name. ValueError unless SHA256SUMS lists each as it is.

    `once(name, content)` gives an older form of a file, which may stand in the list instead.
    """
    try:
        sums = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        content = {name: (folder / name).read_bytes() for name in names}
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}. {RESTORE}") from None
    for name, data in content.items():
        if not any(f"{sha256(form)}  {name}" in sums for form in (data, once(name, data))):
            raise ValueError(
                f"{folder / name} is damaged: not the SHA-256 it should have. {RESTORE}"
            )
    return content


# --- weights (PyTorch is slow to import, and not all that read files need it) ---------------------


def read_saved(path: Path):
    """What torch.save wrote. Nothing in it is run, and its checksums are compared, which torch.load does not do.

    ValueError where it cannot be read, is damaged, or holds more than tensors and plain values.
    """
    import pickle
    import zipfile

    import torch

    try:
        content = io.BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if zipfile.is_zipfile(content) and (part := zipfile.ZipFile(content).testzip()):
            raise zipfile.BadZipFile(part)
        content.seek(0)
        return torch.load(content, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # torch's own message explains how to run the code
        raise ValueError(
            f"{path} is not opened: it holds more than tensors, and would run code"
        ) from None
    except Exception:  # nonsense makes torch's reader fail in many ways
        raise ValueError(f"{path} {CUT_OFF}") from None


def read_weights(path: Path):
    """The tensors of a .safetensors file, or of one that torch.save wrote, by name: `dict[str, Tensor]`.

    No code in it is run. ValueError where it cannot be read, is damaged, or holds anything but tensors by name.
    """
    import safetensors.torch
    import torch

    if Path(path).suffix != ".safetensors":
        found = read_saved(path)
    else:
        try:
            found = safetensors.torch.load_file(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
        except safetensors.SafetensorError:
            raise ValueError(f"{path} {CUT_OFF}") from None
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise ValueError(f"{path} holds something else than tensors by name")
    return found


# --- the course's own scripts ---------------------------------------------------------------------


def script(name: str) -> ModuleType:
    """A script of a chapter's folder as a module, wherever a notebook runs: `script("ch05_pretraining/export.py")`.

    A script that it imports from its folder must have been asked for before.
    """
    path = Path(__file__).parent.parent / name
    known = sys.modules.get(path.stem)
    if getattr(known, "__file__", None) != str(path):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        known = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(known)
    return known
