"""What nbval lets through, and what it does not, under our conftest.py: one planted fault a notebook."""

import copy
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text

ROOT = Path(__file__).resolve().parents[1]
PLENTY = 100  # seconds that a cell may take in these runs, unless it is the time-out that is tested
# What a kernel sees of a user's environment: the stored outputs were made with this.
ENVIRONMENT = """
import os, shutil, sys
print(shutil.get_terminal_size().columns, "inline" in os.environ["MPLBACKEND"])
print(os.environ.get("COURSE_DATA"), os.environ["OMP_NUM_THREADS"], sys.executable)
"""


def clean():
    """A notebook as an author stores it: executed once, top to bottom."""
    picture = (
        'display({"image/png": "aGVsbG8=", "text/plain": "The curve ends at 3.25."}, raw=True)'
    )
    nb = notebook(
        text("# Numbers"),
        code("import os, shutil, sys, time\nx = 41", "setup"),
        code("print(x)", "printed"),
        code("x + 0.5", "result"),
        code(picture, "picture"),
        code("y = x", "silent"),
        code("time.time()", "timed", tags=["nbval-ignore-output"]),
        code("int(y)", "last"),
    )
    NotebookClient(nb, kernel_name="python3", timeout=60).execute()
    return nb


def cell(nb, id):
    return next(one for one in nb.cells if one.id == id)


def one_digit(nb):
    cell(nb, "result").outputs[0].data["text/plain"] = "41.6"


def printed_digit(nb):
    cell(nb, "printed").outputs[0].text = "42\n"


def null_count(nb):
    cell(nb, "silent").execution_count = None


def null_count_with_outputs(nb):
    cell(nb, "result").execution_count = None


def stripped(nb):
    for one in nb.cells:
        if one.cell_type == "code":
            one.execution_count, one.outputs = None, []


def swapped_counts(nb):
    cell(nb, "printed").execution_count, cell(nb, "result").execution_count = 3, 2


def counts_from_two(nb):
    for number, one in enumerate(nb.cells[1:], start=2):
        one.execution_count = number


def empty_cell(nb):
    nb.cells.insert(3, code("", "empty"))


def emptied_output(nb):
    cell(nb, "result").outputs = []


def figure_number(nb):
    cell(nb, "picture").outputs[0].data["text/plain"] = "The curve ends at 3.24."


def figure_without_text(nb):
    del cell(nb, "picture").outputs[0].data["text/plain"]


def new_warning(nb):
    cell(nb, "silent").source += "\nprint('careful', file=sys.stderr)"


def new_error(nb):
    cell(nb, "silent").source = "1 / 0"


def dead_kernel(nb):
    cell(nb, "printed").source = "os._exit(1)"


# fault: what the report must say
FAULTS = {
    one_digit: "41.6",
    printed_digit: "42",
    null_count: "code cell 5 has the execution count None",
    null_count_with_outputs: "code cell 3 has the execution count None",
    stripped: "code cell 1 has the execution count None",
    swapped_counts: "code cell 2 has the execution count 3",
    counts_from_two: "code cell 1 has the execution count 2",
    empty_cell: "code cell 3 has the execution count None",
    emptied_output: "Unexpected output fields from running code: {'text/plain'}",
    figure_number: "3.24",
    figure_without_text: "Unexpected output fields from running code: {'text/plain'}",
    new_warning: "Unexpected output fields from running code: {'stderr'}",
    new_error: "ZeroDivisionError",
    dead_kernel: "the kernel died while it ran this cell",
}


def run(folder, timeout=PLENTY):
    """Run pytest as `make test` does; return each notebook's cells as name -> failure text."""
    shutil.copy(ROOT / "conftest.py", folder)
    options = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        ".",
        f"--nbval-cell-timeout={timeout}",
    ]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist", "--color=no", "--junitxml=report.xml"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {
        "MPLBACKEND": "Agg",
        "COLUMNS": "200",
        "COURSE_DATA": "book",
        "OMP_NUM_THREADS": "1",
    }  # as a user may have them
    command = [sys.executable, "-m", "pytest", *options, "."]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    found = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        bad = [part.text for kind in ("failure", "error") for part in case.findall(kind)]
        name = case.get("classname").removesuffix(".ipynb")
        found.setdefault(name, {})[case.get("name")] = "".join(bad)
    return done, found


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One run of pytest over the clean notebook and a copy of it for each fault."""
    folder, nb = tmp_path_factory.mktemp("course"), clean()
    save(nb, folder / "clean.ipynb")
    for fault in FAULTS:
        bad = copy.deepcopy(nb)
        fault(bad)
        save(bad, folder / f"{fault.__name__}.ipynb")
    printed = new_output("stream", text=f"80 True\nNone 1 {sys.executable}\n")
    save(notebook(code(ENVIRONMENT, "environment", [printed], 1)), folder / "environment.ipynb")
    began = time.monotonic()
    _, found = run(folder)
    return found, time.monotonic() - began


@pytest.mark.parametrize("name", ["clean", "environment"])
def test_good_notebooks_pass(runs, name):
    cells = runs[0][name]
    assert cells and not "".join(cells.values())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_fault_is_caught(runs, fault):
    reports = "".join(runs[0][fault.__name__].values())
    assert FAULTS[fault] in reports


def test_a_dead_kernel_is_noticed_at_once(runs):
    found, seconds = runs
    cells = found["dead_kernel"]
    assert not cells["Cell 0"]
    assert "not run: the kernel died in code cell 2" in cells["Cell 2"]
    assert all(cells[f"Cell {number}"] for number in range(1, 7))
    assert seconds < PLENTY  # although the time-out is that long


def test_a_cell_that_hangs_is_stopped(tmp_path):
    nb = notebook(
        code("import time\ntime.sleep(1000)", "hangs", (), 1), code("1", "next", ["1"], 2)
    )
    save(nb, tmp_path / "hangs.ipynb")
    done, found = run(tmp_path, timeout=2)
    assert done.returncode == 1
    assert "Timeout of 2 seconds exceeded" in found["hangs"]["Cell 0"]


def test_a_damaged_notebook_is_an_error(tmp_path):
    (tmp_path / "broken.ipynb").write_text("{")
    done, _ = run(tmp_path)
    assert done.returncode != 0
    assert "broken.ipynb" in done.stdout
