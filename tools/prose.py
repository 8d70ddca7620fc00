"""A Markdown cell's running text: what it says in words, its numbers, its images and links."""

import re
from decimal import Decimal

# What is not running text, in the order in which it is taken out.
NOT_PROSE = [
    re.compile(r"^[ \t>]*(`{3,}|~{3,}).*?^[ \t>]*\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL),
    re.compile(r"<!--.*?-->", re.DOTALL),
    re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL),
    re.compile(r"\$\$.*?\$\$|\\begin\{(\w+\*?)\}.*?\\end\{\1\}|\\\[.*?\\\]", re.DOTALL),
    re.compile(r"(?<![\\$])\$(?!\s)[^$\n]+?(?<!\s)\$(?!\d)"),
    re.compile(r"^ {0,3}#{1,6} .*$", re.MULTILINE),
    re.compile(r"^[ \t>]*\|.*$", re.MULTILINE),
    re.compile(r"!\[[^\]]*\]\([^)]*\)"),
    re.compile(r"(?<=\])\([^)]*\)|<?https?://[^\s>)]+>?"),
    re.compile(r"</?[A-Za-z][^>]*>"),
]
# Years, versions and section numbers, which need no output to stand on.
REFERENCE = re.compile(
    r"""\b(?:sections?|chapters?|appendix|appendices|exercises?|listings?|figure|table|questions?
        |python|pytorch|version|arxiv)[\s:]+[A-E]?\.?\d+(?:\.\d+)*
        (?:(?:,|\s?[–-]|\s(?:and|or|to))\s?[A-E]?\.?\d+(?:\.\d+)*)*
      | §\s?\d+(?:\.\d+)* | \b[A-E]\.\d+ | \bv?\d+\.\d+\.\d+(?:\.\d+)* | \b\d{4}-\d\d(?:-\d\d)?\b
      | (?:[(,;]|\b(?:in|of|from|since|until|before|after|the|year))\s+(?:1[89]\d\d|20[0-3]\d)s?(?![\d.,]\d)\b
      | \((?:1[89]\d\d|20[0-3]\d)(?:,\s[^()]*)?\) | ^[ \t>]*\d\d?[.)]\s""",
    re.VERBOSE | re.IGNORECASE | re.MULTILINE,
)
NUMBER = r"\d+(?:[,_\u00a0\u2009\u202f]\d{3})*(?:\.\d+)?(?:[eE][+-]?\d{1,3})?"
PROSE_NUMBER = re.compile(
    rf"(?<![\w.])(?<![^\W\d]-)({NUMBER})(?!\d)(\s?(?:%|percent|per cent))?(\w*)"
)
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]*)[^)]*\)")
HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(<?([^)\s>]*)[^)]*\)|\bhref=[\"']([^\"']*)")
EXAMPLE = re.compile(r"(`+).+?\1", re.DOTALL)  # what stands in code is no link


def running_text(source: str) -> str:
    """The running text of a Markdown cell: no code, formulas, headings, tables, addresses."""
    for pattern in NOT_PROSE:
        source = pattern.sub(" ", source)
    return source


def value(number: str) -> Decimal:
    return Decimal(re.sub(r"[,_\u00a0\u2009\u202f]", "", number))


def numbers(text: str) -> set[Decimal]:
    """All numbers of an output or a literal; "1,234" counts as one number and as two."""
    return {value(found) for form in (NUMBER, r"\d+(?:\.\d+)?") for found in re.findall(form, text)}


def unexplained(source: str, known: set[Decimal]) -> list[str]:
    """Decimals and numbers above 12 in a Markdown cell's running text that are not known."""
    found = []
    for match in PROSE_NUMBER.finditer(REFERENCE.sub(" ", running_text(source))):
        number, percent, suffix = value(match[1]), match[2], match[3]
        if suffix in ("st", "nd", "rd", "th") or ("." not in match[1] and number <= 12):
            continue
        if number not in known and not (percent and number / 100 in known):
            found.append(match[0].strip())
    return found


def images(source: str) -> list[tuple[str, str]]:
    """The images of a Markdown cell, as (alt text, address)."""
    source = EXAMPLE.sub("", source)
    found = IMAGE.findall(source)
    for image in HTML_IMAGE.findall(source):
        parts = [re.search(rf"\b{key}=[\"']([^\"']*)", image) for key in ("alt", "src")]
        found.append(tuple(part[1] if part else "" for part in parts))
    return found


def links(source: str) -> list[str]:
    """The addresses of a Markdown cell's links."""
    return [one or other for one, other in LINK.findall(EXAMPLE.sub("", source))]
