"""No test goes silently: not a file's, not a lesson's; what is installed is what is pinned; `fails` fails.

python tests/test_not_fewer.py    writes tests/not_fewer.txt anew, after tests were moved or taken away on purpose
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from shared.checks import fails

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ROOT / "tests" / "not_fewer.txt"
SHARE = (
    0.8  # of the tests that a file had when the floors were written: room for merging two into one
)


def defined(path):
    """How many test functions a file defines, those that are always skipped left out."""
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]  # fmt: skip
    always = re.compile(r"pytest\.mark\.skip\b|pytest\.mark\.skip\(|skipif\(True|xfail")
    return sum(
        node.name.startswith("test")
        and not any(always.search(ast.unparse(one)) for one in node.decorator_list)
        for node in found
    )


def files():
    return {path.name: path for path in sorted((ROOT / "tests").glob("test_*.py"))}


def floors():
    lines = FLOORS.read_text(encoding="utf-8").splitlines()
    return {name: int(floor) for name, floor in (line.split() for line in lines)}


@pytest.mark.parametrize("name, floor", floors().items() if FLOORS.exists() else [])
def test_a_file_has_its_tests(name, floor):
    path = files().get(name)
    assert path, f"tests/{name} is gone, or has another name: python tests/test_not_fewer.py"
    found = defined(path)
    assert found >= floor, f"tests/{name} defines {found} tests, and had {floor} at the least"


def test_every_file_has_tests_and_a_floor():
    assert [name for name, path in files().items() if not defined(path)] == [], "no test in these"
    assert sorted(set(files()) - set(floors())) == [], (
        "without a floor: python tests/test_not_fewer.py"
    )


REQUIRED = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()]  # fmt: skip
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = [pin for pins in PROJECT["optional-dependencies"].values() for pin in pins]


@pytest.mark.parametrize("pin", [pin for pin in REQUIRED + EXTRAS if pin and pin != "-e ."])
def test_what_is_installed_is_what_is_pinned(pin):
    """The stored outputs come from these very versions."""
    name, equal, wanted = pin.partition("==")
    assert equal, f"{pin}: pin it (requirements.txt, pyproject.toml)"
    found = version(name).partition("+")[0]  # torch's CPU build calls itself 2.13.0+cpu
    assert found == wanted, f"{name} {found} is installed, and {wanted} is pinned"


def test_fails_lets_a_block_fail(capsys):
    with fails(ValueError, match="too"):
        raise ValueError("too long\nby far")
    with fails(KeyError, ValueError):
        raise KeyError("name")
    assert capsys.readouterr().out == "ValueError: too long\nKeyError: name\n"


def test_fails_fails_where_nothing_is_raised():
    with pytest.raises(AssertionError, match="nothing was raised; ValueError or KeyError was due"):
        with fails(ValueError, KeyError):
            pass


def test_fails_fails_for_another_message():
    with pytest.raises(AssertionError, match="'too short', without 'too long'"):
        with fails(ValueError, match="too long"):
            raise ValueError("too short")


def test_fails_lets_other_errors_through():
    with pytest.raises(ZeroDivisionError):
        with fails(ValueError):
            1 / 0


if __name__ == "__main__":
    lines = [f"{name} {max(1, int(SHARE * defined(path)))}\n" for name, path in files().items()]
    FLOORS.write_text("".join(lines), encoding="utf-8")
    sys.exit(f"{len(lines)} floors in {FLOORS.relative_to(ROOT)}")
