"""Which numbers a cell's prose may name: those that its own part of the notebook prints or computes with.

A part begins with a heading (## or ###). Wider are only these: the opening and the summary speak of the whole
notebook, what stands between ## and the first ### of its whole section; whole numbers below 100, the powers of two
up to 1,024, and the size of GPT-2's vocabulary may be named anywhere in a notebook that knows them.
"""

import re
from decimal import Decimal
from itertools import pairwise

from nbformat import NotebookNode

from tools import style_report as style

HEADING = re.compile(r"^(#{2,3}) +(.*)", re.MULTILINE)
ANYWHERE = {Decimal(n) for n in (*range(100), *(2**i for i in range(11)), 50_257)}


def near_numbers(nb: NotebookNode, known: set[Decimal]) -> dict[str, set[Decimal]]:
    """For each cell's id the numbers that its prose may name, out of all that are `known` in the notebook."""
    texts = [cell.source if cell.cell_type == "markdown" else "" for cell in nb.cells]
    heads = {i: found for i, text in enumerate(texts) if (found := HEADING.search(text))}
    starts = [*heads, len(nb.cells)]
    near = {cell.id: known for cell in nb.cells[: starts[0]]}
    for start, end in pairwise(starts):
        level, title = heads[start].groups()
        reach = end
        if level == "##":
            reach = next((i for i in heads if i > start and heads[i][1] == "##"), len(nb.cells))
        own = style.known_numbers(NotebookNode(cells=nb.cells[start:reach]))
        whole = title.lower().startswith("summary")
        found = known if whole else own | known & ANYWHERE
        near |= {cell.id: found for cell in nb.cells[start:end]}
    return near
