"""Downloads: good and bad servers on the loopback, no network, damaged and unwritable caches."""

import contextlib
import dataclasses
import hashlib
import io
import socket
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shared import assets
from shared.assets import AssetError, fetch

GOOD = "“Up now!” said the prompter.\n".encode() * 3_000
NAME = "tale.txt"
with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
    archive.writestr("readme", "not this one")
    archive.writestr(NAME, GOOD)
ZIPPED = buffer.getvalue()


class Shelf(BaseHTTPRequestHandler):
    """Serves what its path asks for; with a Content-Length that may be a lie."""

    def do_GET(self):
        body = {
            "/good": GOOD,
            "/other": b"<html>Please log in</html>",
            "/short": GOOD[:5_000],
            "/zipped": ZIPPED,
        }.get(self.path)
        self.server.asked.append(self.path)
        if self.path == "/endless":  # as a portal may do it, without a length
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(GOOD)
        if body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD) if self.path == "/short" else len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Shelf) as server:
        server.asked = []
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for proxy in (
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(proxy, raising=False)
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def offer(monkeypatch, url, names=(NAME,)):
    asset = assets.Asset(
        url, hashlib.sha256(GOOD).hexdigest(), "CC0", len(GOOD), "a tale", "COURSE_DATA=course"
    )
    monkeypatch.setattr(assets, "FILES", dict.fromkeys(names, asset))
    return asset


@pytest.fixture
def shelf(server, cache, monkeypatch):
    server.asked.clear()
    return lambda what: offer(monkeypatch, f"http://127.0.0.1:{server.server_port}/{what}")


def refused(cache, asset):
    """The message of a download that fails; it must tell everything, and leave nothing behind."""
    with pytest.raises(AssetError) as caught:
        fetch(NAME)
    message = str(caught.value)
    for needed in (NAME, asset.what, asset.url, str(cache / NAME), asset.sha256, asset.without):
        assert needed in message
    assert caught.value.__suppress_context__ and len(message.splitlines()) <= 6
    assert list(cache.iterdir()) == []
    return message


@pytest.fixture
def no_network(monkeypatch):
    def touch(*_, **__):
        pytest.fail("the network was touched")

    monkeypatch.setattr(socket, "create_connection", touch)
    monkeypatch.setattr(socket, "getaddrinfo", touch)


def test_a_file_is_downloaded_once(shelf, cache, server):
    shelf("good")
    assert fetch(NAME) == cache / NAME
    assert fetch(NAME).read_bytes() == GOOD
    assert server.asked == ["/good"]
    assert [path.name for path in cache.iterdir()] == [NAME]
    assert (cache / NAME).stat().st_mode & 0o444 == 0o444


def test_a_file_within_an_archive(shelf, cache, monkeypatch, server):
    asset = shelf("zipped")
    zipped = dataclasses.replace(asset, archive=hashlib.sha256(ZIPPED).hexdigest())
    monkeypatch.setattr(assets, "FILES", {NAME: zipped})
    assert fetch(NAME).read_bytes() == GOOD
    assert [path.name for path in cache.iterdir()] == [NAME]
    (cache / NAME).unlink()
    damaged = dataclasses.replace(zipped, archive="0" * 64)
    monkeypatch.setattr(assets, "FILES", {NAME: damaged})
    assert "unzip it as" in refused(cache, damaged)


def test_the_download_says_nothing_but_its_bar(shelf, capfd, caplog):
    shelf("good")
    fetch(NAME)
    out, err = capfd.readouterr()
    assert out == "" and not caplog.records
    assert "Downloading" not in err


def test_a_present_file_needs_no_network_and_no_right_to_write(cache, monkeypatch, no_network):
    offer(monkeypatch, "http://127.0.0.1:1/never")
    cache.mkdir()
    (cache / NAME).write_bytes(GOOD)
    (cache / NAME).chmod(0o444)
    cache.chmod(0o555)
    before = cache.stat().st_mtime_ns
    try:
        assert fetch(NAME) == cache / NAME
        assert cache.stat().st_mtime_ns == before
    finally:
        cache.chmod(0o755)


def test_a_damaged_file_is_named_and_left_alone(cache, monkeypatch, no_network):
    asset = offer(monkeypatch, "http://127.0.0.1:1/never")
    cache.mkdir()
    (cache / NAME).write_bytes(b"mine")
    with pytest.raises(AssetError, match="damaged") as caught:
        fetch(NAME)
    for needed in (str(cache / NAME), asset.sha256, hashlib.sha256(b"mine").hexdigest(), "Delete"):
        assert needed in str(caught.value)
    assert (cache / NAME).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "what, reason",
    [
        ("other", "another file, by its SHA-256"),
        ("short", "broke off"),
        ("gone", "answered 404"),
        ("endless", "another file, by its size"),
    ],
)
def test_wrong_content_is_refused(shelf, cache, what, reason):
    assert reason in refused(cache, shelf(what))


def test_no_server(cache, monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    assert "no connection" in refused(cache, offer(monkeypatch, f"http://127.0.0.1:{port}/tale"))


def test_no_name_server(cache, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "no connection" in refused(cache, offer(monkeypatch, "https://tales.invalid/tale"))


def test_a_proxy_that_is_not_there(cache, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert "proxy" in refused(cache, offer(monkeypatch, "http://tales.invalid/tale"))


@pytest.mark.parametrize("limit", ["READ", "ANSWER"])
def test_a_network_that_swallows_everything(cache, monkeypatch, limit):
    """Accepts and never answers: each of the two limits ends the wait on its own."""
    assert assets.CONNECT <= 5 and assets.READ <= 10 and assets.ANSWER <= 10
    monkeypatch.setattr(assets, limit, 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        message = refused(
            cache, offer(monkeypatch, f"http://127.0.0.1:{deaf.getsockname()[1]}/tale")
        )
    assert "no answer in time" in message


def test_a_folder_that_cannot_be_made(cache, monkeypatch, no_network):
    offer(monkeypatch, "http://127.0.0.1:1/never")
    cache.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match="COURSE_CACHE") as caught:
        fetch(NAME)
    assert str(cache) in str(caught.value) and caught.value.__suppress_context__


def test_a_folder_that_cannot_be_written(shelf, cache, monkeypatch, server):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    shelf("good")
    cache.mkdir()
    monkeypatch.setattr(
        "tempfile.NamedTemporaryFile", refuse
    )  # as root, every folder can be written
    with pytest.raises(AssetError, match="(?i)permission denied.*COURSE_CACHE"):
        fetch(NAME)
    assert server.asked == []


def test_a_folder_in_the_place_of_the_file(cache, monkeypatch):
    offer(monkeypatch, "http://127.0.0.1:1/never")
    (cache / NAME).mkdir(parents=True)
    with pytest.raises(AssetError, match="cannot be read"):
        fetch(NAME)


def test_an_unknown_name(cache):
    with pytest.raises(ValueError, match="the-verdict.txt, encoder.json, vocab.bpe"):
        fetch("the-verdict")


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COURSE_CACHE", "~/lessons")
    assert assets.cache_folder() == tmp_path / "lessons"
    monkeypatch.setenv("COURSE_CACHE", "lessons")
    assert assets.cache_folder().is_absolute()
    monkeypatch.setenv("COURSE_CACHE", "")
    assert assets.cache_folder().name == "llm-from-scratch-course"


def test_fetching_all_carries_on_and_reports(shelf, cache, monkeypatch, capsys):
    asset = shelf("good")
    monkeypatch.setattr(assets, "FILES", {"first.txt": asset, "second.txt": asset})
    cache.mkdir()
    (cache / "first.txt").write_bytes(b"damaged")
    assert assets.main() == 1
    out, err = capsys.readouterr()
    assert out.startswith("second.txt") and len(out.splitlines()) == 1
    assert "first.txt is damaged" in err
    (cache / "first.txt").unlink()
    assert assets.main() == 0


@pytest.mark.parametrize("name", assets.FILES)
def test_every_asset_is_described(name):
    asset = assets.FILES[name]
    known = "" if name == "instruction-data-with-preference.json" else asset.sha256
    assert len(known) in (0, 64) and known == asset.sha256 and asset.url.startswith("https://")
    if asset.archive:
        assert len(asset.archive) == 64 and asset.url.endswith(".zip")
    else:
        assert asset.url.endswith(name)
    assert asset.size > 0 and asset.license and asset.what and asset.without.startswith("COURSE_")


@pytest.mark.parametrize("name", assets.FILES)
def test_the_real_files(name, no_network):
    if not (assets.cache_folder() / name).exists():
        pytest.skip(f"{name} is not in COURSE_CACHE")
    size, asset = fetch(name).stat().st_size, assets.FILES[name]
    assert size == asset.size if asset.sha256 else size <= asset.size


def test_a_file_without_a_known_checksum_is_taken_as_it_is(monkeypatch, tmp_path, no_network):
    asset = dataclasses.replace(next(iter(assets.FILES.values())), sha256="")
    monkeypatch.setattr(assets, "FILES", {"a.json": asset})
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    (tmp_path / "a.json").write_bytes(b"[]")
    assert fetch("a.json").read_bytes() == b"[]"
