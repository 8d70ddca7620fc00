"""One spelling, the American one, in texts, code and notebooks; codespell finds slips and British forms."""

import subprocess
import sys

import nbformat
import pytest
from notebooks import ROOT, notebook, save, text

PLACES = ("*.md", "Makefile", "*.toml", "*.py", "*.ipynb")
FOLDERS = ("", "*_*/", "shared/", "shared/*/", "tools/", "tests/", "benchmarks/", "pages/")
# What codespell's dictionaries leave out.
OURS = {"learnt": "learned", "spelt": "spelled", "whilst": "while", "analyse": "analyze"}
# What holds words of the first models' data, British ones among them, or lists of such words.
DATA = {
    "ch05_pretraining": ("worksheets.py",),
    "ch07_instruction": (
        "make_instructions.py",
        "make_assistant.py",
        "draw_reserved.py",
        "reserved_families.py",
    ),
    "shared": ("lexicon.py",),
    "tests": (
        "test_worksheets.py",
        "test_instructions.py",
        "test_scoring.py",
        "test_spelling.py",
        "test_wordings.py",
    ),
}
# A person, words of German, a score, a family of instructions, and others that are right here.
RIGHT = "gage,ist,rouge,nd,te,caf,paket,capitalisation,boook,visualise"


def copied(root, folder):
    """All texts of a course in `folder`, under their own names; of a notebook the cells."""
    for path in {p for f in FOLDERS for place in PLACES for p in root.glob(f + place)}:
        if path.name in DATA.get(path.parent.name, ()):
            continue
        copy = folder / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            cells = nbformat.read(path, as_version=4).cells
            words = "\n\n".join(cell.source for cell in cells)
        else:
            words = path.read_text(encoding="utf-8")
        copy.write_text(words, encoding="utf-8")


def misspelled(root, folder):
    """What codespell says of a course's texts, a line each."""
    copied(root, folder / "texts")
    ours = folder / "ours.txt"
    ours.write_text("".join(f"{wrong}->{right}\n" for wrong, right in OURS.items()))
    lists = ["--builtin", "clear,rare,en-GB_to_en-US", "-D", "-", "-D", str(ours)]
    command = [sys.executable, "-m", "codespell_lib", *lists, "-L", RIGHT, "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder / "texts")
    assert done.returncode in (0, 65), done.stderr  # 65: words were found
    return sorted(done.stdout.splitlines())


def test_the_course_has_one_spelling(tmp_path):
    assert misspelled(ROOT, tmp_path) == []


@pytest.mark.parametrize("word", ["colour", "learnt", "recieve", "normalised"])
def test_other_spellings_are_told(tmp_path, word):
    root = tmp_path / "course"
    save(notebook(text(f"We {word} it.")), root / "ch02_text_data" / "ch02.ipynb")
    (root / "README.md").write_text(f"# {word}\n")
    found = misspelled(root, tmp_path / "out")
    assert [line.split(":")[0] for line in found] == ["./README.md", "./ch02_text_data/ch02.ipynb"]
    assert all(word in line for line in found)
