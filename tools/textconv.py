"""A notebook as text, for `git diff`: python tools/textconv.py NOTEBOOK

Shows every cell's source and text outputs; pictures by their text form. `make` tells git about it:
git config diff.ipynb.textconv ".venv/bin/python tools/textconv.py".
"""

import json
import sys
from collections.abc import Iterator


def joined(text: str | list[str]) -> str:
    return "".join(text)


def output_text(output: dict) -> str:
    """What an output says, without its picture."""
    if output["output_type"] == "stream":
        return joined(output["text"])
    if output["output_type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return joined(output["data"].get("text/plain", ""))


def lines(notebook: dict) -> Iterator[str]:
    """The notebook, cell by cell, each under a header with its id."""
    for cell in notebook["cells"]:
        head = f"{cell['cell_type']} {cell.get('id', '(no id)')}"
        if cell["cell_type"] == "code":
            head += f" [{cell.get('execution_count')}]"
        tags = cell.get("metadata", {}).get("tags", [])
        yield f"---- {' '.join([head, *tags])} ----"
        yield joined(cell["source"])
        for output in cell.get("outputs", []):
            for line in output_text(output).splitlines():
                yield f"| {line}"
        yield ""


def main(path: str) -> None:
    sys.stdout.reconfigure(encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        raw = file.read()
    try:
        text = "\n".join(lines(json.loads(raw)))
    except (ValueError, KeyError, TypeError, AttributeError):  # damaged: git still shows it
        text = raw
    print(text)


if __name__ == "__main__":
    main(sys.argv[1])
