"""Train the course's tokenizer: chapter 2's `train_bpe`, on whole works, some held out.

    python ch02_text_data/train_tokenizer.py --corpus FOLDER

FOLDER holds plain text, as `shared/corpus.py` says. Prints how well the tokenizer packs works that it never saw.
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

from shared import assets, editions
from shared.corpus import END_OF_TEXT, Document, read_documents, sample
from shared.text_data import make_encoding, train_bpe

# what prose for children does not look like; our own, and for information only
MODERN = """\
hey r u still coming 2nite? train's late again lol, prob be there 4 half 8 x
URGENT! Your mobile no. 07700 900123 has won a £500 prize. Text CLAIM to 80086 now. T&Cs apply.
Rewrite the sentence so that it is in the passive voice: "The committee approved the budget in 2024."
Convert 3.5 kilometres to metres. 3.5 km is equal to 3,500 m.
"""


def save_ranks(path: Path, ranks: dict[bytes, int], notes: list[str]) -> None:
    """Write the merged tokens in order, a Python literal a line, below a header; lands by rename."""
    merged = [repr(token) for token in sorted(ranks, key=ranks.get)[256:]]
    checksum = hashlib.sha256("\n".join(merged).encode()).hexdigest()
    header = [f"# {note}" for note in [*notes, f"SHA-256 of the lines below: {checksum}"]]
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text("\n".join([*header, *merged, ""]), encoding="utf-8", newline="\n")
    os.replace(unfinished, path)


def packing(encoding, text: str) -> str:
    """How much text one token carries."""
    tokens = len(encoding.encode_ordinary(text))
    return f"{len(text) / tokens:.3f} characters, {len(text.encode()) / tokens:.3f} bytes per token"


def report(encoding, unseen: list[Document]) -> None:
    encodings = [encoding]
    if all((assets.cache_folder() / name).exists() for name in ("encoder.json", "vocab.bpe")):
        encodings.append(editions.gpt2_encoding())
    for each in encodings:
        print(f"{each.name} ({each.n_vocab:,} tokens)")
        print(f"  never seen:  {packing(each, END_OF_TEXT.join(d.text for d in unseen))}")
        print(f"  the story:   {packing(each, editions.STORY.read_text(encoding='utf-8'))}")
        print(f"  messages:    {packing(each, MODERN)}")
    print("held out:")
    for document in unseen:
        print(
            f"  {document.title} ({len(document.text):,} characters): {packing(encoding, document.text)}"
        )


def peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return "not measured"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20:,.0f} MiB"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt and *.txt.gz")
    parser.add_argument(
        "--megabytes",
        type=float,
        default=float("inf"),
        help="train on at most so many (default: all)",
    )
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument(
        "--held-out", type=int, default=8, help="works kept out of the sample (default: 8)"
    )
    parser.add_argument("--seed", type=int, default=123)
    parser.add_argument("--out", type=Path, default=editions.COURSE_TOKENIZER)
    options = parser.parse_args(arguments)

    try:
        documents = read_documents(options.corpus)
        seen, unseen = sample(documents, options.megabytes, options.held_out, options.seed)
        text = END_OF_TEXT.join(document.text for document in seen)
        start = time.perf_counter()
        ranks = train_bpe(text, options.vocab_size, special_tokens=(END_OF_TEXT,))
        seconds = time.perf_counter() - start
        size = len(text.encode()) / 1e6
        save_ranks(
            options.out,
            ranks,
            [
                f"Byte pair encoding of {options.vocab_size:,} tokens: the 256 bytes (not listed), the tokens",
                f"below in the order of their merges, and {END_OF_TEXT}. Made by train_tokenizer.py",
                f"from {len(seen)} works, {size:.1f} MB, --seed {options.seed}. Public domain (CC0 1.0).",
            ],
        )
    except (ValueError, OSError) as error:
        sys.exit(f"train_tokenizer: {error}")
    print(
        f"{options.out}: {len(ranks):,} tokens from {len(seen)} of {len(documents)} works, {size:.1f} MB,"
    )
    print(f"  {seconds:.1f} s of training, peak memory {peak_memory()}")
    report(make_encoding("trained", ranks, (END_OF_TEXT,)), unseen)


if __name__ == "__main__":
    main()
