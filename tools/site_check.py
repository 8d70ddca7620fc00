"""What can be wrong with the pages, and with the links of the texts that they are made from."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from tools import prose, read

# What a browser fetches by itself, by tag: the attributes that hold an address.
FETCHED = {
    "script": ["src"],
    "img": ["src", "srcset"],
    "source": ["src", "srcset"],
    "iframe": ["src"],
    "embed": ["src"],
    "object": ["data"],
    "video": ["src", "poster"],
    "audio": ["src"],
    "track": ["src"],
    "input": ["src"],
    "image": ["href", "xlink:href"],
    "use": ["href", "xlink:href"],
}
FETCHED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "manifest"}
STYLE_ADDRESS = re.compile(r"url\(\s*[\"']?([^\"')]+)|@import\s+[\"']([^\"']+)")
REMOTE = re.compile(r"(?:https?|wss?):|//")
HEADING = re.compile(r"^ {0,3}#{1,6} +(.+?)(?: +#+)? *$", re.MULTILINE)


class Page(HTMLParser):
    """One page: its anchors, its links, its pictures' texts, and what a browser fetches for it."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.links, self.pictures, self.fetched = set(), [], [], []
        self.relations = {}
        self.inside = None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = {key: value or "" for key, value in attributes}
        self.inside = tag if tag in ("script", "style") else None
        self.ids |= {found[key] for key in ("id", "name") if key in found}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "img":
            self.pictures.append((found.get("src", ""), found.get("alt", "")))
        if tag == "link":
            self.relations[found.get("rel", "")] = found.get("href", "")
        if tag == "link" and FETCHED_LINKS & set(found.get("rel", "").lower().split()):
            self.fetched.append(found.get("href", ""))
        for key in FETCHED.get(tag, []):
            one = found.get(key, "")
            parts = one.split(",") if key == "srcset" else [one]
            self.fetched += [part.split()[0] for part in parts if part.strip()]
        self.handle_style(found.get("style", ""))

    def handle_data(self, data):
        if self.inside == "style":
            self.handle_style(data)
        elif self.inside == "script":
            self.fetched += re.findall(r"[\"'`](https?://[^\"'`]*)", data)

    def handle_endtag(self, tag):
        self.inside = None

    def handle_style(self, style):
        self.fetched += [one or other for one, other in STYLE_ADDRESS.findall(style)]


def faults(site: Path) -> Iterator[str]:
    """Every fault of the pages in the folder `site`, whose contents page is index.html.

    Pictures without a text, links and anchors that lead nowhere, pages that cannot be reached from
    the contents, and whatever a browser would fetch from elsewhere.
    """
    paths = sorted(site.rglob("*.html"))
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in paths}
    next_to = {}
    for path, page in pages.items():
        name = path.relative_to(site.resolve()).as_posix()
        for source, alt in page.pictures:
            if not alt.strip() or alt == source:
                yield f"{name}: the picture {source!r} has no alt text"
        for address in page.fetched:
            yield from fetch_faults(address, path, name)
        next_to[path] = set()
        for link in page.links:
            if re.match(r"\w+:|//", link):
                continue
            address, _, place = link.partition("#")
            target = (path.parent / unquote(address)).resolve() if address else path
            next_to[path].add(target)
            if not target.is_file():
                yield f"{name}: the link {link!r} leads nowhere"
            elif target in pages and place and unquote(place) not in pages[target].ids:
                yield f"{name}: the link {link!r} leads to a page without this place"
    for path in sorted(site.rglob("*.css")):
        for one, other in STYLE_ADDRESS.findall(path.read_text(encoding="utf-8")):
            yield from fetch_faults(one or other, path, path.relative_to(site).as_posix())
    reached, waiting = set(), {(site / "index.html").resolve()}
    while waiting:
        reached |= waiting
        waiting = {other for path in waiting for other in next_to.get(path, ())} - reached
    for path in pages.keys() - reached - {(site / "search.html").resolve()}:
        yield f"{path.relative_to(site.resolve()).as_posix()}: not reached from the contents page"


def fetch_faults(address: str, path: Path, name: str) -> Iterator[str]:
    """What is wrong with an address that the browser fetches when it shows the file `path`."""
    if REMOTE.match(address):
        yield f"{name}: fetches {address!r} from elsewhere"
    elif not re.match(r"data:|#", address):
        file = unquote(re.split(r"[?#]", address)[0])
        if not (path.parent / file).is_file():
            yield f"{name}: fetches {address!r}, which is not there"


def output_faults(path: Path) -> Iterator[str]:
    """Warnings among a notebook's stored outputs, and pictures whose text has no number, or is Python."""
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            text = output.get("text", "") + "".join(map(str, output.get("data", {}).values()))
            if output.get("name") == "stderr" or re.search(r"\b[A-Z]\w*Warning\b", text):
                yield f"{path.name}, cell {cell.id!r}: a warning in the output"
            for kind in output.get("data", {}):
                alt = output.metadata.get(kind, {}).get("alt", "")
                if kind.startswith("image/") and not re.search(r"\d", alt):
                    yield f"{path.name}, cell {cell.id!r}: no number in the picture's text {alt!r}"
                if kind.startswith("image/") and re.search(r"[{}\[\]]", alt):
                    yield f"{path.name}, cell {cell.id!r}: Python in the picture's text {alt!r}"


def anchor(title: str) -> str:
    """A heading's anchor in JupyterLab: "2.8 Positions" -> "2.8-Positions"."""
    return title.replace(" ", "-")


def github_anchor(title: str) -> str:
    """A heading's anchor in a Markdown file on GitHub: "2.8 Positions" -> "28-positions"."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def page_anchor(name: str) -> str:
    """A heading's anchor on the pages, from its title or from any of its other anchors."""
    return re.sub(r"[^a-z0-9-]", "", name.lower().replace(" ", "-"))


def texts(path: Path) -> str:
    """The Markdown of a file or of a notebook's cells."""
    if path.suffix == ".ipynb":
        cells = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
        return "\n\n".join(cells)
    return path.read_text(encoding="utf-8")


def headings(path: Path) -> list[str]:
    """The headings of a notebook or a Markdown file, without their marks."""
    fence, *_ = prose.NOT_PROSE
    return [re.sub(r"[`*]", "", one) for one in HEADING.findall(fence.sub("", texts(path)))]


def anchors(path: Path) -> set[str]:
    """The places of a notebook or a Markdown file that a link can name."""
    form = anchor if path.suffix == ".ipynb" else github_anchor
    return {form(title) for title in headings(path)}


def link_faults(path: Path) -> Iterator[str]:
    """The local links of a notebook or a Markdown file that lead nowhere, or to no such heading."""
    fence, *_ = prose.NOT_PROSE
    source = fence.sub("", texts(path))
    for link in prose.links(source) + [target for _, target in prose.images(source)]:
        if re.match(r"\w+:|//", link):
            continue
        address, _, place = link.partition("#")
        target = path.parent / unquote(address) if address else path
        if not target.exists():
            yield f"{path.name}: the link {link!r} leads nowhere"
        elif place and target.suffix in (".ipynb", ".md"):
            if unquote(place) not in anchors(target):
                yield f"{path.name}: the link {link!r} leads to no heading there"
