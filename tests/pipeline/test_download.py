"""Downloads from a server on the loopback address: broken, resumed, wrong and insecure ones."""

import fcntl
import hashlib
import http.client
import http.server
import io
import re
import threading
import urllib.request
from pathlib import Path

import pytest

from reappear.core import DownloadError
from reappear.pipeline import download as module
from reappear.pipeline.download import download_weights
from reappear.store import WEIGHTS, Weights, WeightsCache, WeightsFile

CONTENT = bytes(range(256)) * 1200  # 300 KB


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; `cuts` are numbers of bytes after which the next answers end."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.honours_ranges = True
        self.content = CONTENT
        self.redirect = ""
        self.status = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/net.onnx"

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if server.redirect and self.path == "/net.onnx":
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if server.status:
            self.send_error(server.status)
            return
        first = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.honours_ranges else 0
        if first >= len(server.content):
            self.send_error(416)
            return
        body = server.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = Server()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def entry(*urls: str, content: bytes = CONTENT) -> Weights:
    file = WeightsFile("net.onnx", len(content), hashlib.sha256(content).hexdigest(), urls)
    return Weights("net", "extractor", "a net", "MIT", "MIT", "nothing", (file,))


def fetch(cache: WeightsCache, *urls: str) -> Path:
    return download_weights(entry(*urls), cache, pause=0.001).path


@pytest.fixture
def cache(tmp_path) -> WeightsCache:
    return WeightsCache(tmp_path / "weights")


def leftovers(cache: WeightsCache) -> list[str]:
    return sorted(path.name for path in cache.folder.rglob("*") if path.is_file())


def test_file_and_where_it_is_from(server, cache):
    path = fetch(cache, server.url)
    assert path.read_bytes() == CONTENT
    assert cache.get("net").manifest["source"] == server.url
    assert leftovers(cache) == ["net.onnx", "weights.json"]
    fetch(cache, server.url)
    assert server.ranges == [None]  # the second call asks nobody


def test_cut_connections_continue_in_one_call(server, cache):
    server.cuts = [100_000, 0, 0, 50_000, 1]
    assert fetch(cache, server.url).read_bytes() == CONTENT
    assert server.ranges == [None, *["bytes=100000-"] * 3, "bytes=150000-", "bytes=150001-"]


def test_broken_download_continues_in_the_next_call(server, cache):
    server.cuts = [123_456, *[0] * 10]
    with pytest.raises(DownloadError, match="kept: 123,456 of 307,200 bytes"):
        fetch(cache, server.url)
    assert leftovers(cache) == ["net.onnx.part"]
    assert cache.get("net") is None
    assert cache.unfinished() == ["net"]
    server.cuts, server.ranges = [], []
    assert fetch(cache, server.url).read_bytes() == CONTENT
    assert server.ranges == ["bytes=123456-"]


def test_file_that_another_process_just_finished_is_left_as_it_is(server, cache, monkeypatch):
    lock = fcntl.flock

    def late(*given):
        monkeypatch.setattr(fcntl, "flock", lock)
        fetch(cache, server.url)
        lock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(DownloadError, match=r"another process is downloading net\.onnx"):
        fetch(cache, server.url)
    assert leftovers(cache) == ["net.onnx", "weights.json"]
    (cache.folder / "net" / "weights.json").unlink()
    fetch(cache, server.url)
    assert leftovers(cache) == ["net.onnx", "weights.json"]
    assert server.ranges == [None]


def test_server_without_ranges_begins_anew(server, cache):
    server.honours_ranges = False
    server.cuts = [1000]
    assert fetch(cache, server.url).read_bytes() == CONTENT


def test_damaged_rest_of_an_earlier_download_begins_anew(server, cache):
    part = cache.folder / "net" / "net.onnx.part"
    part.parent.mkdir(parents=True)
    for rest in (b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 9)):
        part.write_bytes(rest)
        assert fetch(cache, server.url).read_bytes() == CONTENT
        for path in part.parent.iterdir():
            path.unlink()


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"x", CONTENT + b"x", CONTENT * 50])
def test_other_content_is_refused_and_removed(server, cache, content):
    server.content = content
    with pytest.raises(DownloadError, match="gives another file than the registered one"):
        fetch(cache, server.url)
    assert leftovers(cache) == []
    assert cache.get("net") is None


def test_shorter_content_is_refused(server, cache):
    server.content = CONTENT[:1000]
    with pytest.raises(DownloadError):
        fetch(cache, server.url)
    assert cache.get("net") is None


def test_second_address_where_the_first_fails(server, cache):
    with pytest.raises(DownloadError, match="0 of 307,200 bytes"):
        fetch(cache, "http://127.0.0.1:1/net.onnx")
    assert fetch(cache, "http://127.0.0.1:1/net.onnx", server.url).read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (503, 4)])
def test_errors_of_the_server(server, cache, status, asked):
    server.status = status
    with pytest.raises(DownloadError, match=str(status)):
        fetch(cache, server.url)
    assert len(server.ranges) == asked


def test_redirect_is_followed_with_its_range(server, cache):
    server.redirect = server.url.replace("net.onnx", "elsewhere")
    server.cuts = [1000]
    assert fetch(cache, server.url).read_bytes() == CONTENT
    assert server.ranges == [None, None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize("target", ["http://example.com/net.onnx", "ftp://example.com/a", "file:///etc/passwd"])
def test_insecure_redirect_is_refused(server, cache, target):
    server.redirect = target
    with pytest.raises(DownloadError, match=r"is not (https|allowed)"):
        fetch(cache, server.url)
    assert leftovers(cache) == []


@pytest.mark.parametrize("target", ["http://example.com/a", "http://127.0.0.1/a", "ftp://example.com/a"])
def test_redirect_away_from_https_is_refused(target):
    request = urllib.request.Request("https://example.com/a")
    with pytest.raises(DownloadError, match="is not https"):
        module._SecureRedirects().redirect_request(
            request, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), target
        )


@pytest.mark.parametrize("url", ["http://example.com/a", "http://127.0.0.1.example.com/a", "file:///etc/passwd", "a"])
def test_insecure_address_is_refused(cache, url):
    with pytest.raises(DownloadError, match="is not https"):
        fetch(cache, url)


def test_offline_nothing_is_asked(server, cache, monkeypatch):
    monkeypatch.setenv("REAPPEAR_OFFLINE", "1")
    with pytest.raises(DownloadError, match="REAPPEAR_OFFLINE"):
        fetch(cache, server.url)
    assert server.ranges == []
    monkeypatch.setenv("REAPPEAR_OFFLINE", "0")
    fetch(cache, server.url)


def test_two_downloads_at_a_time_are_refused(server, cache):
    part = cache.folder / "net" / "net.onnx.part"
    part.parent.mkdir(parents=True)
    with module._locked(part), pytest.raises(DownloadError, match="another process"):
        fetch(cache, server.url)


def test_no_other_code_opens_connections():
    """What SECURITY.md says: only this module does; engines/cluster.py asks a Ray that the user names."""
    source = Path(module.__file__).parents[1]
    pattern = re.compile(r"^\s*(?:import|from) (urllib|http|socket|ftplib|smtplib|requests|httpx|aiohttp)\b", re.M)
    found = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if pattern.search(path.read_text())}
    assert found == {"pipeline/download.py", "pipeline/engines/cluster.py"}


def test_without_an_address(cache):
    with pytest.raises(DownloadError, match="reappear weights add FILE --name osnet_x0_25"):
        download_weights(WEIGHTS["osnet_x0_25"], cache)
