"""What Sphinx reads: the notebooks with their outputs and the texts, laid out for the pages."""

import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import nbformat

from tools import Refused, chapters, read, style_report
from tools.site_check import headings, page_anchor

RUN_IT = (
    "These pages show every notebook as it was run, from top to bottom. To change the code and run it, "
    "see [Setting up](README.md)."
)
LINK_TARGET = re.compile(r"(?<!!)\[([^\]]*)\]\(<?([^)\s>]+)>?\)")
# What a students' edition leaves out; links to it become text.
FOR_LECTURERS = ("solutions.ipynb", "lecturers.md")


def page_notebook(nb: nbformat.NotebookNode, below: list[str]) -> nbformat.NotebookNode:
    """The notebook as its page shows it: marks become tags, solutions are folded, `below` follows."""
    for cell in nb.cells:
        first, _, rest = cell.source.partition("\n")
        tags = cell.metadata.setdefault("tags", [])
        if cell.cell_type == "code" and first.rstrip() in ("#| promote", "#| solution"):
            cell.source = rest
            tags.append("promote" if first.startswith("#| promote") else "hide-input")
        if cell.cell_type == "code" and first.rstrip() == "#| guess":
            cell.source = rest
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


def copy_linked(text: str, source: Path, target: Path, left_out: tuple[str, ...] = ()) -> str:
    """The text, its links fit for pages: files are copied along, and a folder's link becomes text.

    So does a link to a file of one of the names in `left_out`.
    JupyterLab and GitHub have a name each for a place in a file; on the pages it has a third one.
    """

    def fit(link: re.Match) -> str:
        address, _, place = link[2].partition("#")
        if re.match(r"\w+:|//", address):
            return link[0]
        linked = source.parent / unquote(address) if address else source
        if linked.is_dir() or linked.name in left_out:
            return link[1]
        if linked.suffix in (".ipynb", ".md"):
            return f"[{link[1]}]({address}#{page_anchor(unquote(place))})" if place else link[0]
        if linked.is_file():
            beside = target.parent / unquote(address)
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(linked, beside)
        return link[0]

    return LINK_TARGET.sub(fit, text)


def stage(root: Path, source: Path, students: bool = False) -> None:
    """Fill the folder `source` with what Sphinx reads: the notebooks, the texts and the contents.

    Solutions come after everything else, so that no reader meets one by going on; `students` get none.
    """
    left_out = FOR_LECTURERS if students else ()

    def put(path: Path, text: str) -> str:
        target = source / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return path.relative_to(root).with_suffix("").as_posix()

    def put_text(path: Path, text: str) -> str:
        return put(path, copy_linked(text, path, source / path.relative_to(root), left_out))

    def put_notebook(path: Path, below: list[str]) -> nbformat.NotebookNode:
        nb = read(path)
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                place = source / path.relative_to(root)
                cell.source = copy_linked(cell.source, path, place, left_out)
        put(path, nbformat.writes(page_notebook(nb, below)))
        return nb

    lessons, answers, contents = [], [], []
    # chapter 1 is the door; appendix A, which can be skipped, comes after it
    for chapter in sorted(chapters(root), key=lambda one: one.name != "ch01"):
        pages = {}  # below the lesson: address in its folder, and title
        for path in chapter.lessons[1:]:
            put_notebook(path, [])
            pages[path.name] = headings(path)[0]
        for path in [chapter.folder / f"{name}.ipynb" for name in ("exercises", "solutions")]:
            if path.exists() and path.name not in left_out:
                put_notebook(path, [])
                pages[path.name] = path.stem.capitalize()
        for path in sorted(chapter.folder.rglob("*.md")):
            put_text(path, path.read_text(encoding="utf-8"))
            pages[path.relative_to(chapter.folder).as_posix()] = headings(path)[0]
        below = [f"{title} <{address.rpartition('.')[0]}>" for address, title in pages.items()]
        if "solutions.ipynb" in pages:
            answers.append(f"{chapter.folder.name}/solutions")
            below.remove("Solutions <solutions>")
        nb = put_notebook(chapter.notebook, below)
        lessons.append(chapter.notebook.relative_to(root).with_suffix("").as_posix())
        contents.append(entry(nb, chapter.notebook.relative_to(root), pages))
    about = (root / "README.md").read_text(encoding="utf-8")
    parts = re.fullmatch(r"# (.+?)\n(.*?)(^## .*)", about, re.S | re.M)
    if parts is None:
        raise Refused(
            "README.md: it must begin with a title, an introduction and a section, `## ...`"
        )
    title, intro, rest = parts.groups()
    more = [put_text(root / "README.md", f"# Setting up, commands, libraries\n\n{rest}")]
    for path in sorted(set(root.glob("*.md")) - {root / "README.md"}):
        if path.name not in left_out:
            more.append(put_text(path, path.read_text(encoding="utf-8")))
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
    if answers:
        index.append(tree.format("Solutions", "\n".join(answers)))
    (source / "index.md").write_text("\n".join(index), encoding="utf-8")


def entry(nb: nbformat.NotebookNode, address: Path, pages: dict[str, str]) -> str:
    """A chapter's entry in the contents: its title, question and time, as its first cell has them."""
    first, folder = nb.cells[0].source, address.parent.as_posix()
    title = re.match(r"# (.+)", first)
    if title is None:
        raise Refused(f"{address}: the first cell must begin with the title, `# ...`")
    question = re.search(r"^\*\*(.+?)\*\*$", first, re.M | re.S)
    time = re.search(r"^.*?\bto read\b.*?\.(?=\s|$)", first, re.M)
    links = (f"[{name[0].lower()}{name[1:]}]({folder}/{page})" for page, name in pages.items())
    lines = [question[1] if question else "", time[0] if time else "", ", ".join(links)]
    head = f"### [{title[1]}]({address.as_posix()})"
    return "\n\n".join([head, *filter(None, lines)]) + "\n"
