"""What a run of pretrain.py reads: files of tokens, windows cut from them, and shares of several sources."""

import filecmp
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apart
import numpy as np
import tiktoken
import torch
from torch import Tensor

from shared.corpus import Document, read_documents, split_held_out
from shared.files import landing, sha256

# its multiples fill the unit interval evenly, however many there are
GOLDEN = (math.sqrt(5) - 1) / 2


def checksum(*parts) -> str:
    """A short name for some content: the first 12 digits of a SHA-256."""
    return sha256(repr(parts).encode())[:12]


def vocabulary(tokenizer: tiktoken.Encoding) -> list[bytes]:
    """The bytes that each token stands for, in the order of the IDs; none for `<|endoftext|>`."""
    tokens = [tokenizer.decode_single_token_bytes(i) for i in range(tokenizer.n_vocab)]
    tokens[tokenizer.eot_token] = b""
    return tokens


# --- files of tokens ------------------------------------------------------------------------------


def save_tokens(path: Path, texts: Iterable[str], tokenizer: tiktoken.Encoding, enough=math.inf):
    """Tokenize texts, or `enough` of them, into one uint16 array: `<|endoftext|>` before each and at the end."""
    parts, count = [end := np.array([tokenizer.eot_token], dtype=np.uint16)], 1
    for text in texts:
        parts += [tokenizer.encode_to_numpy(text, disallowed_special=()).astype(np.uint16), end]
        if (count := count + len(parts[-2]) + 1) >= enough:
            break
    with landing(path) as file:
        np.save(file, np.concatenate(parts))


def prepare_corpora(places: list[Path], out: Path, tokenizer, held_out: Path):
    """Files of tokens: `({name: to train on}, the works held out)`, made once for the same texts and tokenizer.

    A name is that of the folder or file. Raises ValueError for corpora of one name, and where a work that is held
    out stands in a training text, too, under another title or within another work.
    """
    out.mkdir(parents=True, exist_ok=True)
    for left_over in out.rglob("*.unfinished-*"):  # by a run that was killed
        left_over.unlink()
    names = [place.name.partition(".")[0] for place in places]
    if len(set(names)) < len(names):
        raise ValueError(f"two corpora have the same name, of {', '.join(names)}: rename one")
    files = [[p for p in sorted(place.glob("*")) if p.is_file()] or [place] for place in places]
    content = [sha256(p) if p.is_file() else "" for f in files for p in f]
    rules = Path(apart.__file__).read_bytes(), apart.SECOND_RESERVED.read_bytes()
    tokens = vocabulary(tokenizer), tokenizer._pat_str
    key = checksum(names, content, rules, Path(held_out).read_bytes(), tokens)
    paths = {name: out / f"train-{name}-{key}.npy" for name in names}
    valid = out / f"valid-{key}.npy"
    if not all(path.exists() for path in (*paths.values(), valid)):
        unseen: list[Document] = []
        for place, path in zip(places, paths.values()):
            seen, kept = split_held_out(read_documents(place), held_out)
            unseen += kept
            save_tokens(path, (apart.without(document.text) for document in seen), tokenizer)
        refuse_held_out(unseen, paths, tokenizer)
        save_tokens(valid, (document.text for document in unseen), tokenizer)
    return paths, valid


def identity_of(paths: dict[str, Path], valid: Path) -> str:
    """A checksum of what the files of tokens hold, with the corpora's names; however the files are called."""
    return checksum(*zip((*paths, "held out"), map(sha256, (*paths.values(), valid))))


def earlier_identities(paths: dict[str, Path], valid: Path) -> set[str]:
    """What the first states called these texts: a checksum of the names of their files, which hang on the code, too.

    Such a name counts if its files lie beside the present ones and are equal to them, byte for byte.
    """
    found = set()
    for other_valid in valid.parent.glob("valid-*.npy"):
        key = other_valid.stem.rpartition("-")[2]
        others = [valid.with_name(f"train-{name}-{key}.npy") for name in paths]
        pairs = zip((*others, other_valid), (*paths.values(), valid))
        if all(one.exists() and filecmp.cmp(one, two, shallow=False) for one, two in pairs):
            found.add(checksum(*sorted(path.name for path in others)))
    return found


def refuse_held_out(documents: list[Document], paths: dict[str, Path], tokenizer) -> None:
    """Raise ValueError if most of a document that is held out stands in one of the token files."""
    for name, path in paths.items():
        tokens = np.load(path).tobytes()
        for document in documents:
            if (share := found_again(document.text, tokens, tokenizer)) > 0.5:
                path.unlink()
                raise ValueError(
                    f"{document.title!r} is held out, but {share:.0%} of it stands in the corpus {name} under another "
                    "title: add that work to the list of what is held out"
                )


def found_again(text: str, tokens: bytes, tokenizer, length: int = 24, samples: int = 20) -> float:
    """The share of a text's passages of `length` tokens, out of some spread over it, that stand in a token file."""
    ids = tokenizer.encode_to_numpy(text, disallowed_special=()).astype(np.uint16)
    length = min(length, len(ids))
    starts = np.linspace(0, len(ids) - length, samples).astype(int)
    return sum(ids[s : s + length].tobytes() in tokens for s in starts) / samples


# --- windows --------------------------------------------------------------------------------------


class Windows:
    """Windows of T + 1 tokens without end. The n-th is always the same: its number is all there is to store.

    Every epoch cuts the tokens at another offset and shuffles anew. ValueError for too few tokens.
    """

    def __init__(self, path: Path, length: int, seed: int):
        self.tokens, self.length, self.seed = np.load(path, mmap_mode="r"), length, seed
        self.per_epoch, self.epoch = (len(self.tokens) - 1) // length - 1, None
        if self.per_epoch < 1:
            least = f"windows of {length} need at least {2 * length + 1}"
            raise ValueError(f"{path} has only {len(self.tokens)} tokens: {least}")

    def begin(self, epoch: int) -> None:
        """Where the windows of an epoch start, and their order."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        self.offset = int(torch.randint(self.length, (), generator=generator))
        self.order = torch.randperm(self.per_epoch, generator=generator)
        self.epoch = epoch

    def __getitem__(self, n: int) -> Tensor:
        """Inputs and targets in one, `(T + 1,)` int64."""
        epoch, place = divmod(n, self.per_epoch)
        if epoch != self.epoch:
            self.begin(epoch)
        start = self.offset + int(self.order[place]) * self.length
        return torch.from_numpy(self.tokens[start : start + self.length + 1].astype(np.int64))


class Written(Windows):
    """Windows of a text that a program writes on and on: each epoch reads a new file of `size` tokens.

    `write(seed)` returns an endless iterator of documents; `key` names all that it is a function of, with the seed.
    """

    def __init__(self, write: Callable[[int], Iterator[str]], stem: Path, key: str, tokenizer,
                 length: int, seed: int, size: int):  # fmt: skip
        self.write, self.stem, self.tokenizer = write, stem, tokenizer
        self.key = checksum(key, seed, size, tokenizer._pat_str)  # all that a file's content is of
        self.length, self.seed, self.size = length, seed, size
        self.per_epoch, self.epoch = (size - 1) // length - 1, None
        if self.per_epoch < 1:
            raise ValueError(f"files of {size} tokens are too short for windows of {length}")

    def begin(self, epoch: int) -> None:
        path = self.stem.with_name(f"{self.stem.name}-{self.key}-{epoch}.npy")
        if not path.exists():
            save_tokens(path, self.write(1000 * self.seed + epoch), self.tokenizer, self.size)
        self.tokens = np.load(path, mmap_mode="r")[: self.size]
        super().begin(epoch)


class Mixture:
    """Windows of several sources in given shares, evenly spread: which comes n-th depends on n alone."""

    def __init__(self, sources: dict[str, Windows], shares: dict[str, float]):
        self.sources = sources
        self.names = [name for name in sources if shares[name] > 0]
        self.ends = np.cumsum([shares[name] for name in self.names])  # the last one is 1

    def order(self, first: int, count: int) -> list[str]:
        """The sources of so many windows from the `first` on."""
        places = (np.arange(first, first + count) + 0.5) * GOLDEN % 1
        return [
            self.names[min(i, len(self.names) - 1)]
            for i in np.searchsorted(self.ends, places, "right")
        ]

    def take(self, first: int, count: int, read: dict[str, int]) -> tuple[list, dict[str, int]]:
        """`([(source, its window's number)], what is then read of each)`; `read` is left as it was."""
        read, taken = dict(read), []
        for name in self.order(first, count):
            taken.append((name, read.get(name, 0)))
            read[name] = read.get(name, 0) + 1
        return taken, read


def shares_of(
    sources: dict[str, Windows], weights: dict[str, float | None], fixed: dict[str, float]
):
    """The share of each source: `fixed` ones as they are; the corpora share the rest by weight.

    Corpora without weights share by their numbers of tokens. Raises ValueError for shares that cannot be.
    """
    for name, share in fixed.items():
        if not 0 <= share < 1:
            raise ValueError(f"--{name} {share} is no share: 0 or more, and below 1")
    if (rest := 1 - sum(fixed.values())) <= 0:
        raise ValueError(
            f"{' and '.join(fixed)} leave nothing for the corpora: {1 - rest:g} of all"
        )
    given = [weight for weight in weights.values() if weight is not None]
    if given and len(given) < len(weights):
        raise ValueError("some corpora have a share and some have none: give each one or none")
    if any(not 0 < weight < math.inf for weight in given):
        raise ValueError(f"a corpus has the share {min(given):g}: give a number above 0")
    sizes = {name: w or sources[name].per_epoch for name, w in weights.items()}
    return {name: rest * size / sum(sizes.values()) for name, size in sizes.items()} | fixed
