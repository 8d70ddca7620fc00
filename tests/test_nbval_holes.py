"""What nbval lets through, and what it does not, under our conftest.py: one planted fault a notebook."""

import copy
import os
import re
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


def not_twice(nb):
    cell(nb, "setup").source += "\nnumbers = [3]"
    cell(nb, "result").source = "numbers.pop(); x + 0.5"


def other_the_second_time(nb):
    cell(nb, "setup").source += "\nnumbers = [41, 42]"
    cell(nb, "printed").source = "print(numbers.pop(0))"


def spoilt_for_the_next(nb):
    cell(nb, "silent").source = "x = x + 1\ny = x - 1"


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
    not_twice: "run a second time, right after the first: Cell execution caused an exception",
    other_the_second_time: "run a second time, right after the first: Cell outputs differ",
    spoilt_for_the_next: "42",
}


def taking_away():
    """A notebook with a cell that cannot be run twice, once with the tag that says so and once without."""
    numbers = code("numbers = [41, 42]", "numbers", (), 1)
    pop = code("numbers.pop(0)", "pop", ["41"], 2)
    once = code("numbers.pop(0)", "pop", ["41"], 2, tags=["once: it takes a number away"])
    tagged = notebook(numbers, once, code("numbers", "left", ["[42]"], 3))
    return tagged, notebook(numbers, pop)


def run(folder, timeout=PLENTY, more=(), conftest=None):
    """Run pytest as `make test` does; return each notebook's cells as name -> what is reported of it."""
    conftest = conftest or (ROOT / "conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(conftest, encoding="utf-8")
    options = [
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        ".",
        f"--nbval-cell-timeout={timeout}",
    ]
    options += [
        "-p",
        "tools",
        "-p",
        "no:cacheprovider",
        "--color=no",
        "--junitxml=report.xml",
        "--quick=60",  # no cell is too slow for its second run, on a busy machine either
        *more,
    ]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {
        "MPLBACKEND": "Agg",
        "COLUMNS": "200",
        "COURSE_DATA": "book",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),  # conftest.py imports the tools
    }  # as a user may have them
    command = [sys.executable, "-m", "pytest", *options, "."]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=1200
    )
    found = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        kinds = ("failure", "error", "skipped")
        said = [f"{kind}: {part.text}" for kind in kinds for part in case.findall(kind)]
        name = case.get("classname").removesuffix(".ipynb")
        found.setdefault(name, {})[case.get("name")] = "".join(said)
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
    tagged, untagged = taking_away()
    save(tagged, folder / "tagged.ipynb")
    save(untagged, folder / "untagged.ipynb")
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


def kinds(cells):
    """What became of each cell: "failure", "skipped", "error", or "" for one that passed."""
    return [said.partition(":")[0] for said in cells.values()]


def test_a_dead_kernel_is_noticed_at_once(runs):
    found, seconds = runs
    cells = found["dead_kernel"]
    assert kinds(cells) == ["", "failure", *["skipped"] * 5]
    assert "not run: the kernel died in code cell 2" in cells["Cell 2"]
    assert seconds < PLENTY * 10  # not the time-out of each cell


def test_an_error_is_one_failure_and_the_rest_is_not_run(runs):
    cells = runs[0]["new_error"]
    assert kinds(cells) == ["", "", "", "", "failure", "skipped", "skipped"]
    assert "not run: code cell 5 raised an error" in cells["Cell 5"]


def test_a_different_output_is_one_failure_and_the_rest_is_run(runs):
    for fault in ("one_digit", "figure_number", "new_warning"):
        assert sorted(kinds(runs[0][fault])) == [*[""] * 6, "failure"]


def test_a_cell_that_fails_only_the_second_time_is_a_failure_of_its_own(runs):
    assert kinds(runs[0]["not_twice"]) == ["", "", "failure", "", "", "", ""]
    assert kinds(runs[0]["other_the_second_time"]) == ["", "failure", "", "", "", "", ""]
    assert kinds(runs[0]["spoilt_for_the_next"]) == [*[""] * 6, "failure"]


def test_a_cell_that_hangs_is_stopped(tmp_path):
    nb = notebook(
        code("import time\ntime.sleep(1000)", "hangs", (), 1),
        code("1", "next", ["1"], 2),
        code("2", "last", ["2"], 3),
    )
    save(nb, tmp_path / "hangs.ipynb")
    nb.cells[
        0
    ].source = "import time\ntry:\n    time.sleep(1000)\nexcept KeyboardInterrupt:\n    pass"
    save(nb, tmp_path / "hides.ipynb")
    done, found = run(tmp_path, timeout=5)
    assert done.returncode == 1
    assert "Timeout of 5 seconds exceeded" in found["hangs"]["Cell 0"]
    assert "the cell did not end when interrupted" in found["hides"]["Cell 0"]
    for cells in found.values():
        assert kinds(cells) == ["failure", "skipped", "skipped"]
        assert "not run: code cell 1 ran out of time" in cells["Cell 2"]


def test_a_cell_may_be_kept_from_a_second_run(runs, tmp_path):
    assert kinds(runs[0]["tagged"]) == ["", "", ""]
    assert kinds(runs[0]["untagged"]) == ["", "failure"]
    save(taking_away()[1], tmp_path / "untagged.ipynb")
    _, found = run(tmp_path, more=["--quick=0"])
    assert kinds(found["untagged"]) == ["", ""]


def test_the_seconds_and_the_budget_of_each_notebook_are_printed(tmp_path):
    """The budget of the exercises, 15 seconds, made 1 in this run, so that what is over it is soon done."""
    one = notebook(code("1", "one", ["1"], 1))
    for name in ("ch03_x/ch03.ipynb", "ch05_x/ch05.ipynb", "ch05_x/solutions.ipynb"):
        save(one, tmp_path / name)
    slow = notebook(code("import time\ntime.sleep(2)", "slow", (), 1))
    save(slow, tmp_path / "ch05_x" / "exercises.ipynb")
    conftest = (ROOT / "conftest.py").read_text(encoding="utf-8")
    assert conftest.count("return 15\n") == 1
    more = ["-n", "2", "--dist", "loadfile"]
    done, _ = run(tmp_path, more=more, conftest=conftest.replace("return 15\n", "return 1\n"))
    assert done.returncode == 0  # "over" is no failure
    lines = re.findall(r"^(\S+\.ipynb) +([\d.]+) of +(\d+)(  over)?$", done.stdout, re.MULTILINE)
    budgets = {name: (int(budget), bool(over)) for name, _, budget, over in lines}
    assert budgets["ch05_x/exercises.ipynb"] == (1, True)
    assert [budgets[name][0] for name in sorted(budgets)] == [60, 120, 1, 60]


def test_a_damaged_notebook_is_an_error(tmp_path):
    (tmp_path / "broken.ipynb").write_text("{")
    done, _ = run(tmp_path)
    assert done.returncode != 0
    assert "broken.ipynb" in done.stdout
