"""Setting up: the pins, the Makefile on a machine made of stubs, and git's view of a notebook."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from nbformat.v4 import new_output
from notebooks import code, notebook, save, text
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]

# Stands in for python3, and copies itself into the environment that it "makes"; notes what pip and the
# rest are asked to do. PYTHON_IS_OLD and PIP_FAILS make it behave so.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
  "-c "*) test -z "$PYTHON_IS_OLD"; exit ;;
  "--version "*) echo "Python 3.9.1"; exit ;;
  "-m venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  "-m pip") if test "$3" = "--version"; then exit 0; fi ;;
esac
echo "$@ [data=$COURSE_DATA model=$COURSE_MODEL backend=$MPLBACKEND]" >> calls.txt
test "$2" != pip || test -z "$PIP_FAILS"
"""


@pytest.fixture
def machine(tmp_path):
    """A fresh machine: the Makefile, the pins, and a stub for Python."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in (
        "ch02_text_data/ch02.ipynb",
        "ch03_attention/ch03.ipynb",
        "ch02_text_data/solutions.ipynb",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    fake = tmp_path / "python"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return tmp_path


def make(machine, *arguments, **environment):
    """Run make; return it with what was asked of Python, one line a call."""
    calls = machine / "calls.txt"
    calls.write_text("")
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", "PYTHON=./python", *arguments],
        cwd=machine,
        env={**inherited, "COURSE_DATA": "", "COURSE_MODEL": "", **environment},
        capture_output=True,
        text=True,
    )
    return done, calls.read_text()


def test_make_test_sets_up_once(machine):
    done, calls = make(machine, "test")
    assert done.returncode == 0, done.stderr
    steps = [
        "-m venv",
        "pip install -r",
        "pip install -e .[test,site]",
        "ruff check",
        "ruff format --check",
    ]
    steps += [f"tools.{name} --check" for name in ("normalize", "promote", "derive_exercises")]
    steps += ["tools.lint", "pytest -n 2"]
    at = [calls.find(step) for step in steps]
    assert -1 not in at and at == sorted(at), calls
    assert calls.count("pytest") == 1

    done, calls = make(machine, "test")
    assert done.returncode == 0 and "pytest" in calls
    assert "pip" not in calls and "venv" not in calls
    assert "pip" not in make(machine, "lab")[1]


def test_the_files_that_are_begun_first_are_there(request):
    (first,) = [p.FIRST for p in request.config.pluginmanager.get_plugins() if hasattr(p, "FIRST")]
    assert set(first) <= {path.name for path in ROOT.glob("*/*")} and len(set(first)) == len(first)
    names = list(dict.fromkeys(item.path.name for item in request.session.items))
    assert names == sorted(names, key=lambda name: [*first, name].index(name))


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_changed_pins_are_installed(machine, changed):
    make(machine, "test")
    for stamp in ("lab", "test"):
        os.utime(machine / f".venv/{stamp}.stamp", (1, 1))
    _, calls = make(machine, "test")
    assert "pip install -r" in calls and "[test,site]" in calls and "venv" not in calls


def test_a_failed_installation_starts_again(machine):
    done, calls = make(machine, "test", PIP_FAILS="1")
    assert done.returncode != 0 and "pytest" not in calls
    done, calls = make(machine, "test")
    assert done.returncode == 0 and "pip install -r" in calls and "pytest" in calls


def test_an_old_python_is_refused_clearly(machine):
    done, calls = make(machine, "lab", PYTHON_IS_OLD="1")
    assert done.returncode != 0 and calls == ""
    assert "needs Python 3.11 or newer, up to 3.14" in done.stdout
    assert "make lab PYTHON=python3.12" in done.stdout


def test_the_pythons_that_are_refused_are_those_of_the_project():
    """What the Makefile asks of a Python, asked of many."""
    (asks,) = re.findall(r"\$\(PYTHON\) -c '(import sys; .*)'", (ROOT / "Makefile").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for minor in range(8, 20):
        wanted = SpecifierSet(project["requires-python"]).contains(f"3.{minor}.1")
        said = subprocess.run(
            [sys.executable, "-c", asks.replace("sys.version_info", f"(3, {minor}, 1)")]
        )
        assert (said.returncode == 0) == wanted == (11 <= minor <= 14), minor


def test_what_fails_to_install_is_explained_in_the_readme(machine):
    done, _ = make(machine, "lab", PIP_FAILS="1")
    heading = re.search(r'See "(.*)" in README.md', done.stdout)[1]
    assert f"\n## {heading}\n" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_make_lab_opens_the_readers_first_chapter_on_localhost(machine):
    _, calls = make(machine, "lab", MPLBACKEND="Agg")
    copied, opened = calls.splitlines()[-2:]
    assert copied.startswith("-m tools.my [")
    assert (
        "jupyterlab --ip=127.0.0.1 --LabApp.default_url=/lab/tree/my/ch02_text_data/ch02.ipynb"
        in opened
    )
    settings = machine / ".venv/share/jupyter/lab/settings/overrides.json"
    assert '"fetchNews": "false"' in settings.read_text()
    assert "[data= model= backend=]" in calls.splitlines()[-1]
    _, calls = make(machine, "lab", "EDITION=book")
    assert "data=book model=gpt2" in calls.splitlines()[-1]


def test_make_fresh_names_the_notebook(machine):
    _, calls = make(machine, "fresh", "NOTEBOOK=ch02_text_data/ch02.ipynb")
    assert "-m tools.my --fresh ch02_text_data/ch02.ipynb [" in calls


def test_an_unknown_edition_is_refused(machine):
    done, calls = make(machine, "lab", "EDITION=bok")
    assert done.returncode != 0 and calls == ""
    assert "EDITION=bok is unknown: use EDITION=course or EDITION=book" in done.stderr


def test_notebooks_run_in_the_order_of_the_course(machine):
    _, calls = make(machine, "run")
    run = next(line for line in calls.splitlines() if "nbconvert" in line)
    order = [
        "ch02_text_data/ch02.ipynb",
        "ch02_text_data/solutions.ipynb",
        "ch03_attention/ch03.ipynb",
    ]
    assert re.findall(r"\S+\.ipynb", run) == order
    assert calls.find("tools.promote") < calls.find("nbconvert") < calls.find("tools.normalize")


def test_make_alone_lists_the_commands(machine):
    done, calls = make(machine)
    assert done.returncode == 0 and calls == ""
    for command in ("lab", "fresh", "test", "test-threads", "run", "promote", "fetch", "site"):
        assert f"make {command} " in done.stdout


def test_the_build_server_runs_make_test_and_nothing_else():
    lines = (ROOT / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_pins_are_exact_and_name_no_index():
    *pins, last = (ROOT / "requirements.txt").read_text().splitlines()
    assert last == "-e ."
    for line in pins:
        assert re.fullmatch(r"[\w-]+==[\w.]+ +# .+", line), line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for pin in project["project"]["optional-dependencies"]["test"]:
        assert re.fullmatch(r"[\w-]+==[\w.]+", pin), pin
    folders = [path.parent for path in (ROOT / "shared").rglob("*.py")]
    packages = {folder.relative_to(ROOT).as_posix().replace("/", ".") for folder in folders}
    assert packages == set(project["tool"]["setuptools"]["packages"])
    # found from every folder, as the packages are
    assert project["tool"]["setuptools"]["py-modules"] == ["previous_chapters"]


def git(folder, *arguments):
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env = {**inherited, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(["git", *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(machine):
    """A git checkout in which `make textconv` was run, with one notebook in the index."""
    git(machine, "init", "--quiet")
    shutil.copy(ROOT / ".gitattributes", machine)
    (machine / "tools").mkdir()
    shutil.copy(ROOT / "tools/textconv.py", machine / "tools")
    assert make(machine, "textconv")[0].returncode == 0
    (machine / ".venv/bin").mkdir(parents=True)
    (machine / ".venv/bin/python").symlink_to(shutil.which("python3"))
    path = machine / "ch02_text_data/ch02.ipynb"
    save(sample(picture="QUJD", result="41.5"), path)
    git(machine, "add", ".gitattributes", "ch02_text_data/ch02.ipynb")
    return path


def sample(picture, result):
    data = {"image/png": picture, "text/plain": "The curve ends at 3."}
    outputs = [new_output("stream", text="é printed\n"), new_output("display_data", data=data)]
    return notebook(
        text("# Tïtle", "title"),
        code("f(x)", "call", [*outputs, result], 3, tags=["nbval-ignore-output"]),
    )


def test_git_diff_shows_text(repository):
    save(sample(picture="REVG", result="42.5"), repository)
    diff = git(repository.parent, "diff", "-U9", repository.name)
    changed = [line for line in diff.splitlines() if re.match(r"[+-](?!\+\+|--)", line)]
    assert changed == ["-| 41.5", "+| 42.5"]
    assert " ---- code call [3] nbval-ignore-output ----\n f(x)\n | é printed" in diff
    assert "The curve ends at 3." in diff and '"cell_type"' not in diff

    save(sample(picture="REVG", result="41.5"), repository)  # only the picture: no text changed
    assert "cell" not in git(repository.parent, "diff", repository.name)


def test_git_diff_shows_a_damaged_notebook_as_it_is(repository):
    repository.write_text('{"cells": 3}')
    assert '+{"cells": 3}' in git(repository.parent, "diff", repository.name)
    repository.write_text(json.dumps({"cells": [{"source": "old"}]}))
    assert '"source": "old"' in git(repository.parent, "diff", repository.name)


def test_make_textconv_leaves_a_folder_without_git_alone(machine):
    done, _ = make(machine, "textconv")
    assert done.returncode == 0 and not (machine / ".git").exists()
