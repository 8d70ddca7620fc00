"""How every script of the course begins and ends: help at once, output that no letter can stop, errors in one line.

if __name__ == "__main__":  # above the imports, since they take seconds
    from shared import program

    program.begin()
"""

import argparse
import importlib.machinery
import sys
from contextlib import contextmanager

SLOW = "torch pandas numpy safetensors sklearn matplotlib tiktoken regex pooch requests tqdm transformers".split()


def begin() -> None:
    """Let output replace what its encoding lacks; and where help is asked for, import stand-ins for slow packages.

    A help text needs only the script's parser. PyTorch alone would take seconds to import.
    """
    printable()
    options = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    if {"-h", "--help"} & set(options):
        sys.meta_path.insert(0, StandIns())


def printable() -> None:
    """From now on a letter that the output's encoding lacks is replaced, as an emoji in a Windows pipe, and ends nothing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


@contextmanager
def in_one_line(script: str, goes_on: str, *errors):
    """In the block an error in the input or on the disk, or one of `errors`, ends the script in one line, without a
    traceback; so does Ctrl-C, which says how the same command goes on."""
    try:
        yield
    except (ValueError, OSError, *errors) as error:
        sys.exit(f"{script}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{script}: stopped; the same command goes on {goes_on}")


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    if not (number := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


class StandIns:
    """Finds a stand-in for each slow package and its parts."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in SLOW:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        from unittest.mock import MagicMock

        class StandIn(MagicMock):
            """Anything: it can be called, decorate, annotate, and be a class to derive from."""

            def __mro_entries__(self, bases):
                return ()

        return StandIn(name=spec.name)

    def exec_module(self, module):
        pass
