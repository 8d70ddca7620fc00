"""Files that the book edition needs: where they come from, their license, and their checksum.

The course edition touches none of them. `python -m shared.assets` (or `make fetch`) fetches them all.
"""

import functools
import logging
import os
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm

from shared.files import landing, sha256
from shared.network import answers_in_time, why

CONNECT, READ = 5, 10  # seconds for one address to accept, and for the next bytes to arrive
ANSWER = 10  # seconds until the answer begins: name look-up, every address and redirect together
MORE = 2**16  # bytes that an archive may have beyond the file in it
BOOK = "https://raw.githubusercontent.com/rasbt/LLMs-from-scratch/main/"
OPENAI = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"

pooch.get_logger().setLevel(logging.WARNING)  # its lines hold paths, which differ on every machine


class AssetError(RuntimeError):
    """A file is missing and cannot be fetched, or is damaged; the message says what to do."""


class TooLarge(ValueError):
    """More arrives than the file should have."""


@dataclass(frozen=True)
class Asset:
    """A file of the book edition; `without` is the switch that does without it."""

    url: str
    sha256: str  # "" where it is not known: then nothing is compared
    license: str
    size: int  # bytes; where the checksum is not known, at most so many
    what: str
    without: str
    archive: str = ""  # SHA-256 of the zip file at `url` that holds it


FILES = {
    "the-verdict.txt": Asset(
        url=BOOK + "ch02/01_main-chapter-code/the-verdict.txt",
        sha256="b41e41a68f0398a3154ae69e2e4c0e2694e17fe0d66730536837f1b01935b31f",
        license="public domain",
        size=20_479,
        what="Edith Wharton, The Verdict, 1908",
        without="COURSE_DATA=course",
    ),
    "encoder.json": Asset(
        url=OPENAI + "encoder.json",
        sha256="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        license="modified MIT",
        size=1_042_301,
        what="GPT-2's vocabulary",
        without="COURSE_MODEL=course-gpt",
    ),
    "vocab.bpe": Asset(
        url=OPENAI + "vocab.bpe",
        sha256="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        license="modified MIT",
        size=456_318,
        what="GPT-2's merges",
        without="COURSE_MODEL=course-gpt",
    ),
    "SMSSpamCollection": Asset(
        url="https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
        sha256="7d039a24a6083ed9ef0f806ebad56bbb976e3aeb8de05669173bfdc4996c239d",
        license="CC BY 4.0",
        size=477_907,
        what="SMS Spam Collection, Almeida and Hidalgo, 2011",
        without="COURSE_DATA=course",
        archive="1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3",
    ),
    "instruction-data.json": Asset(
        url=BOOK + "ch07/01_main-chapter-code/instruction-data.json",
        sha256="7e09a9af353722ca15c18bc580f093f9c39d3178335a75177319cb1e1d163944",
        license="that of the book's repository",
        size=203_524,
        what="1,100 instructions of Raschka, Build a Large Language Model (From Scratch), 2024",
        without="COURSE_DATA=course",
    ),
    # its checksum could not be looked up without a network; what it holds is checked when it is read
    "instruction-data-with-preference.json": Asset(
        url=BOOK + "ch07/04_preference-tuning-with-dpo/instruction-data-with-preference.json",
        sha256="",
        license="that of the book's repository",
        size=1_000_000,
        what="1,100 instructions of the same, each with a chosen and a rejected response",
        without="COURSE_DATA=course",
    ),
}

# OpenAI's weights on the Hugging Face Hub, openai-community/NAME: revision, and SHA-256 of model.safetensors. Looked up
# in November 2026 in public manifests of other projects, not on the Hub: the revisions of all, and the sums of gpt2 and
# gpt2-xl, stand alike in several independent ones; of the two in the middle no sum was found, and none is compared.
GPT2 = {
    "gpt2": (
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-medium": ("6dcaa7a952f72f9298047fd5137cd6e4f05f41da", ""),
    "gpt2-large": ("32b71b12589c2f8d625668d2335a01cac3249519", ""),
    "gpt2-xl": (
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
    ),
}


def cache_folder() -> Path:
    """The folder of downloaded files: COURSE_CACHE, or the platform's cache folder for this course."""
    named = os.environ.get("COURSE_CACHE")
    if not named:
        return Path(pooch.os_cache("llm-from-scratch-course"))
    try:  # absolute, because messages show it and every notebook starts in a folder of its own
        return Path(named).expanduser().absolute()
    except RuntimeError:
        raise AssetError(
            f"COURSE_CACHE is {named}, but there is no such user: name a folder"
        ) from None


def fetch(name: str) -> Path:
    """The path of a file of `FILES`, downloaded and checked if it is not in the cache folder yet.

    A file with the right checksum is used as it is: no network, nothing written.
    Raises AssetError (damaged, not to be had, folder not writable) and ValueError (no such file).
    """
    if name not in FILES:
        raise ValueError(f"no file is called {name!r}; known are: {', '.join(FILES)}")
    asset, path = FILES[name], cache_folder() / name
    try:
        if not path.exists():
            _download(asset, path)
        found = sha256(path)
    except OSError as error:
        reason = error.strerror or str(error) or "permission denied"
        raise AssetError(
            f"{path} cannot be read or written ({reason}). "
            f"Let COURSE_CACHE name a folder where that is allowed, or set {asset.without}, which does without it."
        ) from None
    if asset.sha256 and found != asset.sha256:
        raise AssetError(
            f"{path} is damaged: its SHA-256 is {found}, but should be {asset.sha256}. "
            f"Delete it, to have it downloaded again, or replace it; {asset.without} does without it."
        )
    return path


def _download(asset: Asset, path: Path) -> None:
    """Download to a temporary file beside `path`, check it, and let it land."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            known = asset.archive or asset.sha256
            digest = f"sha256:{known}" if known else None
            get = functools.partial(_get, most=asset.size + MORE)
            arrived = Path(pooch.retrieve(asset.url, digest, "arrived", scratch, downloader=get))
            if asset.archive:
                with zipfile.ZipFile(arrived) as archive:
                    arrived = Path(archive.extract(path.name, scratch))
            with (
                landing(path) as file
            ):  # a file of its own: temporary ones are private, a class may share the folder
                file.write(arrived.read_bytes())
    except (requests.RequestException, ValueError) as error:
        sum_line = f"            (SHA-256 {asset.sha256})\n" if asset.sha256 else ""
        raise AssetError(
            f"{path.name} ({asset.what}) is not in the cache folder and cannot be downloaded: {_reason(error)}.\n"
            f"  from:     {asset.url}\n"
            f"  by hand:  {'unzip' if asset.archive else 'save'} it as {path}\n"
            f"{sum_line}  without:  set {asset.without}"
        ) from None


def _get(url: str, file: str, _pooch: object, most: int) -> None:
    """Pooch's downloader, with a bar and limits: to the whole wait for an answer, and to the bytes that may arrive.

    `requests` limits each address, but neither the name look-up nor the sum.
    """
    try:
        answer = answers_in_time(
            lambda: requests.get(url, stream=True, timeout=(CONNECT, READ)), ANSWER
        )
    except TimeoutError:
        raise requests.Timeout from None
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise
        raise requests.exceptions.SSLError from None  # its certificates cannot be read
    with answer, open(file, "wb") as out:
        answer.raise_for_status()
        total, arrived = int(answer.headers.get("content-length", 0)) or None, 0
        with tqdm(total=total, desc=Path(url).name, unit="B", unit_scale=True, leave=False) as bar:
            for piece in answer.iter_content(2**16):
                if (arrived := arrived + len(piece)) > most or (total or 0) > most:
                    raise TooLarge
                bar.update(out.write(piece))


def _reason(error: Exception) -> str:
    if isinstance(error, requests.RequestException):
        return why(error)
    sign = "its size" if isinstance(error, TooLarge) else "its SHA-256"
    return f"what arrived is another file, by {sign} (a network's log-in page, or a changed source)"


def main() -> int:
    """Fetch every file, one line each; 1 if one of them is not to be had."""
    failed = 0
    for name, asset in FILES.items():
        try:
            path = fetch(name)
            print(f"{name}: {asset.what}, {asset.size:,} bytes, {asset.license}: {path}")
        except AssetError as error:
            failed = 1
            print(error, file=sys.stderr)
    return failed


if __name__ == "__main__":
    sys.exit(main())
