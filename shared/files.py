"""Files that are whole or not there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def landing(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes its place only when complete; the old one then becomes `keep`.

    Raises OSError, which names the file, where it cannot be written; the old file is then as it was.
    """
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
