"""Which answers are older than their cells: where a cell fails, the definition of before stays in force."""

import re
import sys

DEFINED = re.compile(r"^[ \t]*(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)|^(\w+)[ \t]*=", re.MULTILINE)
_before, _older = {}, {}


def why_older(answer):
    """What is wrong with the cell that should have replaced `answer`; "" if nothing is."""
    stale, why = _older.get(getattr(answer, "__name__", ""), (None, ""))
    return why if stale is answer else ""


def watch(shell=None):
    """Notice from now on which cells of IPython fail; anywhere else, and a second time, do nothing."""
    shell = shell or getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or getattr(shell, "_checks_watch", False):
        return
    shell._checks_watch = True

    def begin(info):
        names = {name for pair in DEFINED.findall(info.raw_cell) for name in pair if name}
        _before.clear()
        _before.update({name: shell.user_ns[name] for name in names if name in shell.user_ns})

    def end(result):
        error = result.error_before_exec or result.error_in_exec
        if error is None:
            return
        syntax = isinstance(error, SyntaxError)
        why = "a syntax error" if syntax else f"an error ({type(error).__name__})"
        for name, value in _before.items():
            if shell.user_ns.get(name) is value:
                _older[name] = value, why

    shell.events.register("pre_run_cell", begin)
    shell.events.register("post_run_cell", end)
