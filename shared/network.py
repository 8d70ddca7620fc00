"""Those who may never answer are asked with a limit to the whole wait, and why they did not answer is told."""

import os
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


def why(error: Exception) -> str:
    """Why a question to the network failed, by what `requests` or the system raised, in words."""
    import requests

    match error:
        case requests.HTTPError():
            return f"the server answered {error.response.status_code} {error.response.reason}"
        case requests.exceptions.ProxyError():
            return "the proxy named in the environment does not let it through"
        case requests.Timeout() | TimeoutError():
            return "no answer in time (is there a network?)"
        case requests.exceptions.ChunkedEncodingError():
            return "the connection broke off half way"
        case requests.exceptions.SSLError():
            return _no_certificates() or f"the server's certificate is not trusted{_named()}"
        case requests.RequestException():
            return "no connection (is there a network?)"
    # requests raises a bare OSError where it cannot read its certificates, and httpx FileNotFoundError
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return isinstance(error, OSError) and _no_certificates() or reason


CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def _no_certificates() -> str:
    """Which file of certificates that the environment names is not there; "" if none is missing."""
    for name in CERTIFICATES:
        if (path := os.environ.get(name)) and not os.path.exists(path):
            return f"the certificate file {path}, which {name} names, does not exist"
    return ""


def _named() -> str:
    named = [f"{name} names {os.environ[name]}" for name in CERTIFICATES if os.environ.get(name)]
    return f" ({', '.join(named)})" if named else " here"
