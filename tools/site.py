"""The course as a folder of static pages, from the outputs that the notebooks hold: `make site`.

    python -m tools.site [FOLDER]        (default: _site)

Sphinx makes the pages; Mermaid and MathJax come from npm once and lie beside them, so that the
folder needs no network and no server. What is wrong with the pages is printed; exit 1 if anything.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

import nbformat

from tools import ROOT, Refused, chapters, read, style_report
from tools.site_check import anchor, faults, github_anchor, headings
from tools.site_scripts import fetch_scripts

RUN_IT = (
    "These pages show every notebook as it was run, from top to bottom. To change the code and run it, "
    "see [Setting up](README.md)."
)
LINK_TARGET = re.compile(r"(?<!!)\[([^\]]*)\]\(<?([^)\s>]+)>?\)")


def page_notebook(nb: nbformat.NotebookNode, below: list[str]) -> nbformat.NotebookNode:
    """The notebook as its page shows it: marks become tags, solutions are folded, `below` follows."""
    for cell in nb.cells:
        first, _, rest = cell.source.partition("\n")
        tags = cell.metadata.setdefault("tags", [])
        if cell.cell_type == "code" and first.rstrip() in ("#| promote", "#| solution"):
            cell.source = rest
            tags.append("promote" if first.startswith("#| promote") else "hide-input")
        if cell.cell_type == "code" and all(map(is_words, style_report.output_texts(cell))):
            tags.append("words")
    if below:
        pages = "\n".join(below)
        toctree = f"```{{toctree}}\n:hidden:\n\n{pages}\n```"
        nb.cells.append(nbformat.v4.new_markdown_cell(toctree))
    return nb


def is_words(text: str) -> bool:
    """Whether an output is running text, which a narrow page may wrap: no table, no tensor."""
    letters = sum(one.isalpha() or one == " " for one in text)
    return letters > 0.85 * len(text) and "  " not in text


def copy_linked(text: str, source: Path, target: Path) -> str:
    """The text, its links fit for pages: files are copied along, and a folder's link becomes text.

    A place in a Markdown file has one name on GitHub and another on the pages, where all have the
    names that JupyterLab gives to the places of notebooks.
    """

    def fit(link: re.Match) -> str:
        address, _, place = link[2].partition("#")
        if re.match(r"\w+:|//", address):
            return link[0]
        linked = source.parent / unquote(address) if address else source
        if linked.is_dir():
            return link[1]
        if linked.suffix == ".md" and place and linked.exists():
            names = {github_anchor(title): anchor(title) for title in headings(linked)}
            return f"[{link[1]}]({address}#{names.get(place, place)})"
        if linked.is_file() and linked.suffix not in (".ipynb", ".md"):
            beside = target.parent / unquote(address)
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(linked, beside)
        return link[0]

    return LINK_TARGET.sub(fit, text)


def stage(root: Path, source: Path) -> None:
    """Fill the folder `source` with what Sphinx reads: the notebooks, the texts and the contents."""

    def put(path: Path, text: str) -> str:
        target = source / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(copy_linked(text, path, target), encoding="utf-8")
        return path.relative_to(root).as_posix()

    lessons, contents = [], []
    for chapter in chapters(root):
        folder = chapter.folder
        exercises = [folder / f"{name}.ipynb" for name in ("exercises", "solutions")]
        below = [path for path in exercises if path.exists()]
        texts = sorted(folder.rglob("*.md"))
        for path in texts:
            put(path, path.read_text(encoding="utf-8"))
        for path in [chapter.notebook, *below]:
            nb = read(path)
            if path == chapter.notebook:
                contents.append(entry(nb, path.relative_to(root).as_posix(), below))
                others = [one.relative_to(folder).with_suffix("").as_posix() for one in texts]
                inside = [f"{one.stem.capitalize()} <{one.stem}>" for one in below] + others
            else:
                inside = []
            for cell in nb.cells:
                if cell.cell_type == "markdown":
                    cell.source = copy_linked(cell.source, path, source / path.relative_to(root))
            put(path, nbformat.writes(page_notebook(nb, inside)))
        lessons.append(chapter.notebook.relative_to(root).with_suffix("").as_posix())
    about = (root / "README.md").read_text(encoding="utf-8")
    parts = re.fullmatch(r"# (.+?)\n(.*?)(^## .*)", about, re.S | re.M)
    if parts is None:
        raise Refused(
            "README.md: it must begin with a title, an introduction and a section, `## ...`"
        )
    title, intro, rest = parts.groups()
    put(root / "README.md", f"# Setting up, commands, libraries\n\n{rest}")
    more = ["README"]
    for path in sorted(root.glob("*.md")):
        if path.name != "README.md":
            more.append(put(path, path.read_text(encoding="utf-8")).removesuffix(".md"))
    tree = "```{{toctree}}\n:hidden:\n:caption: {}\n\n{}\n```\n"
    index = [
        f"# {title}\n{intro}{RUN_IT}\n\n## Contents\n",
        *contents,
        "### Around the chapters\n",
        *(f"- {{doc}}`{name}`" for name in more),
        "",
        tree.format("Chapters", "\n".join(lessons)),
        tree.format("Around the chapters", "\n".join(more)),
    ]
    (source / "index.md").write_text("\n".join(index), encoding="utf-8")


def entry(nb: nbformat.NotebookNode, address: str, below: list[Path]) -> str:
    """A chapter's entry in the contents: its title, question and time, as its first cell has them."""
    first = nb.cells[0].source
    title = re.match(r"# (.+)", first)
    if title is None:
        raise Refused(f"{address}: the first cell must begin with the title, `# ...`")
    question = re.search(r"^\*\*(.+?)\*\*$", first, re.M | re.S)
    time = re.search(r"^.*?\bto read\b.*?\.(?=\s|$)", first, re.M)
    folder = address.rpartition("/")[0]
    pages = [f"[{one.stem}]({folder}/{one.name})" for one in below]
    lines = [question[1] if question else "", time[0] if time else "", ", ".join(pages)]
    return f"### [{title[1]}]({address})\n\n" + "\n\n".join(line for line in lines if line) + "\n"


def build(root: Path, out: Path, scripts: Path) -> None:
    """Make the pages of the course in `root`; they replace the folder `out` when they are ready.

    `scripts` is the folder that fetch_scripts gives. Raises Refused with what Sphinx said if it
    warned of anything, and for an `out` that holds something else than pages.
    """
    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").exists():
        raise Refused(f"{out} holds other things than pages; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pages-") as work:
        source, doctrees, pages = (Path(work, name) for name in ("source", "doctrees", "pages"))
        source.mkdir()
        stage(root, source)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-j", "2", "-b", "html"]
        command += ["-c", str(ROOT / "pages"), "-d", str(doctrees), str(source), str(pages)]
        environment = os.environ | {"PAGES_SCRIPTS": str(scripts)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        if done.returncode:
            raise Refused(*done.stderr.replace(f"{source}/", "").strip().splitlines())
        if out.exists():
            shutil.rmtree(out)
        pages.rename(out)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.site")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "_site")
    out = parser.parse_args(arguments).folder
    try:
        build(ROOT, out, fetch_scripts())
        found = list(faults(out))
    except Refused as refused:
        found = refused.faults
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print(f"open {out.absolute() / 'index.html'} in any browser; the folder can be copied")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
