"""Files that are whole or not there, and files from elsewhere: read without running what is in them."""

import codecs
import hashlib
import importlib.util
import io
import json
import os
import re
import sys
import tempfile
import time
import warnings
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
SAFETENSORS = "is a safetensors file, and none that torch.save wrote: read_weights reads it"
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
            _replace(path, keep)
        _replace(unfinished, path)
    except OSError as error:
        raise OSError(f"{path} could not be written: {error.strerror or error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _replace(old: Path, new: Path) -> None:
    """os.replace; on Windows a virus scanner or a spreadsheet may hold a file for a moment, so a few times."""
    for pause in (0.1, 0.2, 0.4, 0.8, None):
        try:
            return os.replace(old, new)
        except PermissionError:
            if pause is None or new.is_dir():
                raise
            time.sleep(pause)


def write_table(path: Path, table) -> None:
    """A DataFrame as CSV, its columns alone, six digits a number; the file is whole or not there."""
    with landing(path) as file:
        file.write(table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode())


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
            _replace(whole, folder)  # at once: a kill cannot leave a part of it
        except OSError:
            folder.mkdir(exist_ok=True)
            for path in whole.iterdir():
                _replace(path, folder / path.name)


def save_json(path: Path, data) -> None:
    """Write data to a JSON file: whole, or not at all."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    with landing(path) as file:
        file.write(text.encode())


def as_json(cfg: dict) -> bytes:
    """A configuration as config.json holds it."""
    return json.dumps(cfg, indent=2, allow_nan=False).encode() + b"\n"


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
    if not isinstance(content, Path):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:  # piece by piece: a model may be larger than the memory
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    if not Path(folder).is_dir():
        kind = "a file, and no folder" if Path(folder).exists() else "not there: is its path right?"
        raise ValueError(f"the folder {folder} cannot be read, since it is {kind}")
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

    ValueError where it cannot be read, is damaged or of another kind, or holds more than tensors and plain values.
    """
    import zipfile

    import torch

    if kind := _other_kind(path):
        raise ValueError(f"{path} {kind}")
    content = Path(path).read_bytes()
    try:
        file = io.BytesIO(content)
        if zipfile.is_zipfile(file) and (part := zipfile.ZipFile(file).testzip()):
            raise zipfile.BadZipFile(part)
        file.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of old pickles
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # nonsense makes torch's reader fail in many ways
        raise ValueError(f"{path} {_fault(content, str(error))}") from None


def read_weights(path: Path):
    """The tensors of a .safetensors file, or of one that torch.save wrote, by name: `dict[str, Tensor]`.

    No code in it is run. ValueError where it cannot be read, is damaged or of another kind, holds anything but tensors
    by name, or a number that is not finite.
    """
    import safetensors.torch
    import torch

    kind = _other_kind(path)
    if kind == SAFETENSORS or (Path(path).suffix == ".safetensors" and not kind):
        try:
            found = safetensors.torch.load_file(path)
        except safetensors.SafetensorError:  # damaged, or torch.save's under a wrong name
            if kind:
                raise ValueError(f"{path} {CUT_OFF}") from None
            found = read_saved(path)
    else:
        found = read_saved(path)
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise ValueError(f"{path} holds something else than tensors by name")
    for name, tensor in found.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite: get it again")
    return found


def _other_kind(path: Path) -> str:
    """What else a file is than one of torch.save, where its first bytes tell; "" if they do not. ValueError: unread."""
    try:
        with open(path, "rb") as file:
            start, size = file.read(200), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, which only names the file: get the file itself (git lfs pull)"
    if text.startswith(b"<"):
        return "is a web page, perhaps of an error or a log-in, and holds no weights: get the file itself"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return SAFETENSORS
    if start.startswith(b"\x1f\x8b"):
        return "is packed with gzip: unpack it first"
    if text and text.isascii() and min(text) > 8:
        return f"{CUT_OFF} (it holds text: {text[:40].decode()!r})"
    return ""


def _fault(content: bytes, error: str) -> str:
    """What is wrong with a file of torch.save, by the message of its reader, which also explains how to run code."""
    found = re.search(r"GLOBAL (\S+)|Unsupported (?:class|operand)|Trying to", error)
    if not found or not content.startswith(
        (b"PK", b"\x80")
    ):  # neither torch's archive nor a pickle
        return CUT_OFF
    if found[1] and found[1].startswith(("numpy.", "pathlib.", "collections.", "datetime.")):
        return f"is not opened: besides tensors it holds {found[1]}; save it with plain numbers and texts instead"
    return "is not opened: it holds more than tensors, and would run code"


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
