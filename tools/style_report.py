"""What style.md counts, counted: cells, words, definitions used, numbers in prose.

`python -m tools.lint --report` prints it as a table, one row a notebook.
"""

import ast
import base64
import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from statistics import median, quantiles

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools import prose

CHECK_NAME = re.compile(r"check_\w+|fails|require")


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def tree(cell: NotebookNode) -> ast.Module:
    """The cell's syntax tree, magics included; empty where it is not Python (ruff says so)."""
    try:
        return ast.parse(TransformerManager().transform_cell(cell.source))
    except SyntaxError:
        return ast.Module([], [])


def code_lines(source: str) -> list[str]:
    """The lines that are neither blank nor comments."""
    stripped = [line.strip() for line in source.splitlines()]
    return [line for line in stripped if line and not line.startswith("#")]


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """Each output as the text that nbval compares."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        for kind, content in output.get("data", {}).items():
            if kind.startswith("text/"):
                yield re.sub(r"<[^>]*>", " ", content) if kind == "text/html" else content


def picture_sizes(cell: NotebookNode) -> list[int]:
    """Bytes of each picture among the outputs."""
    found = [out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})]
    return [len(base64.b64decode(png)) for png in found]


def known_numbers(nb: NotebookNode) -> set[Decimal]:
    """Numbers that a compared output or a literal in the code contains."""
    texts = []
    for cell in code_cells(nb):
        if "nbval-ignore-output" not in tags(cell):
            texts += output_texts(cell)
        for node in ast.walk(tree(cell)):
            if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
                texts.append(str(node.value))
    return set().union(*map(prose.numbers, texts))


def names(nodes: Iterable[ast.AST], besides: ast.AST | None = None) -> set[str]:
    """Names read anywhere under these nodes, but not under `besides`."""
    found, queue = set(), list(nodes)
    while queue:
        node = queue.pop()
        if node is besides:
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        queue.extend(ast.iter_child_nodes(node))
    return found


def called(node: ast.AST) -> str:
    """The name that a call calls; `check.name(...)` counts as `check_name`."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
        case ast.Call(func=ast.Attribute(attr=name, value=ast.Name(id="check" | "checks"))):
            return f"check_{name}"
    return ""


def checks(module: ast.Module) -> list[ast.AST]:
    """Asserts, calls of check_... and of check.name(...), blocks under `with fails(...)`."""
    found = []
    for node in ast.walk(module):
        managers = [item.context_expr for item in getattr(node, "items", [])]
        if isinstance(node, ast.Assert) or any(
            CHECK_NAME.fullmatch(called(part)) for part in (node, *managers)
        ):
            found.append(node)
    return found


def definitions(nb: NotebookNode) -> list[tuple[str, bool]]:
    """Each top-level definition: its name, and whether its own or the next two code cells use it."""
    trees = [tree(cell) for cell in code_cells(nb)]
    found = []
    for place, module in enumerate(trees):
        near = trees[place : place + 3]
        for node in module.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                used = node.name in names(near, besides=node)
                found.append((node.name, used))
    return found


def longest_run(nb: NotebookNode) -> int:
    """The most code cells in a row."""
    kinds = "".join("c" if cell.cell_type == "code" else " " for cell in nb.cells)
    return max(len(run) for run in kinds.split(" "))


def measure(nb: NotebookNode, known: set[Decimal]) -> dict[str, str]:
    """One row of the report."""
    cells = code_cells(nb)
    sizes = [len(code_lines(cell.source)) for cell in cells] or [0]
    text = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    words = sum(len(re.findall(r"\w[\w'’-]*", prose.running_text(source))) for source in text)
    defined = definitions(nb)
    shown = [out.get("text") or out.get("data", {}) for cell in cells for out in cell.outputs]
    outputs = [
        len((text if isinstance(text, str) else text.get("text/plain", "")).splitlines())
        for text in shown
    ]
    pictures = [size for cell in cells for size in picture_sizes(cell)]
    p90 = quantiles(sizes, n=10, method="inclusive")[-1] if len(sizes) > 1 else sizes[0]
    return {
        "cells": f"{len(nb.cells)} ({len(cells)} code)",
        "lines median/p90/max": f"{median(sizes):g}/{p90:.0f}/{max(sizes)}",
        "words per line": f"{words / max(1, sum(sizes)):.1f}",
        "run": str(longest_run(nb)),
        "used": percent([used for _, used in defined]),
        "unexplained": str(sum(len(prose.unexplained(source, known)) for source in text)),
        "longest output": f"{max(outputs, default=0)} lines",
        "largest picture": f"{max(pictures, default=0) / 1000:.0f} KB",
    }


def percent(truths: list[bool]) -> str:
    return f"{100 * sum(truths) / len(truths):.0f}% of {len(truths)}" if truths else "-"
