"""How every script of the course begins: help at once, and output that no letter can stop.

if __name__ == "__main__":  # above the imports, since they take seconds
    from shared import program

    program.begin()
"""

import importlib.machinery
import sys

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
