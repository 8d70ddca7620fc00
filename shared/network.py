"""Those who may never answer are asked with a limit to the whole wait."""

import queue
from collections.abc import Callable
from threading import Thread
from typing import Any


def answers_in_time(ask: Callable[[], Any], seconds: float) -> Any:
    """What `ask()` returns or raises; TimeoutError if it does neither within these seconds.

    It runs in a thread that is left behind then: looking up a name has no time limit, and libraries limit each
    address, not the sum.
    """
    answers = queue.Queue()

    def run():
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    Thread(target=run, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from None
    if error is not None:
        raise error
    return answer
