"""Downloads weights: the only code of reappear that opens a connection to other machines, and only on request.

Over https, from the addresses of `store.weights`, checked against a pinned size and SHA-256 before the file gets its
name. A broken download continues where it stopped, in the same call or the next.
"""

import contextlib
import http.client
import ipaddress
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reappear import __version__
from reappear.core import SILENT, DownloadError, Progress, counted
from reappear.store import (
    CachedWeights,
    Weights,
    WeightsCache,
    WeightsFile,
    disk_errors,
    file_lock,
    hash_file,
    sync_folder,
)

_ATTEMPTS = 4  # in a row without a new byte
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 16


def download_weights(
    entry: Weights, cache: WeightsCache, *, pause: float = 1.0, progress: Progress = SILENT
) -> CachedWeights:
    """Downloads the files of a network into the cache; does nothing where they are there.

    Args:
        entry: The network.
        cache: Where to.
        pause: Seconds before a failed attempt is repeated; doubled each time.
        progress: Progress listener.

    Raises:
        DownloadError: It is switched off, there is no address, no address answers, or what comes is another file.
        StorageError: The disk is full or read-only.
    """
    if (there := cache.get(entry.name)) is not None:
        progress.note(f"weights: {entry.name} is already in {there.folder}")
        return there
    if not entry.can_be_downloaded:
        raise DownloadError(
            f"{entry.name} has no public address; get the file from its authors, then: reappear weights add FILE "
            f"--name {entry.name}"
        )
    if os.environ.get("REAPPEAR_OFFLINE", "") not in ("", "0"):
        raise DownloadError(
            f"REAPPEAR_OFFLINE is set, so {entry.name} is not downloaded; unset it, or copy the file here from "
            f"another machine: reappear weights add FILE --name {entry.name}"
        )
    folder = cache.folder / entry.name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with progress.task(f"downloading {entry.name}", entry.size, "byte") as tick:
            sources = [_download(file, folder, pause, tick, progress) for file in entry.files]
        sync_folder(folder)
    files = {file.name: (file.size, file.sha256) for file in entry.files}
    return cache.finish(entry.name, files, load=entry.files[0].name, source=sources[0])


def _download(file: WeightsFile, folder: Path, pause: float, tick: Callable[[int], None], progress: Progress) -> str:
    """Downloads one file from the first of its addresses that gives it; returns the address."""
    path, part = folder / file.name, folder / f"{file.name}.part"
    reasons = []
    with _locked(part):
        if path.is_file() and path.stat().st_size == file.size and hash_file(path) == file.sha256:
            tick(file.size)
            return file.urls[0]
        for url in file.urls:
            try:
                _require_secure(url)
                _fetch(url, file, part, pause, tick, progress)
            except DownloadError as error:
                reasons.append(str(error))
                continue
            part.replace(path)
            return url
    raise DownloadError("; ".join(reasons))


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock(part))
        except BlockingIOError as error:
            raise DownloadError(f"another process is downloading {part.stem}; wait for it, or stop it") from error
        try:
            yield
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()


def _fetch(
    url: str, file: WeightsFile, part: Path, pause: float, tick: Callable[[int], None], progress: Progress
) -> None:
    """Fills `part`, going on where it ends.

    Raises:
        DownloadError: The address does not answer, or gives another file, which is then removed.
    """
    most = part.stat().st_size
    failures, fresh = 0, most == 0
    tick(most)
    while True:
        have = part.stat().st_size
        problem = _receive(url, file, part, tick) if have < file.size else ""
        if part.stat().st_size >= file.size:
            if part.stat().st_size == file.size and hash_file(part) == file.sha256:
                return
            tick(-part.stat().st_size)
            os.truncate(part, 0)
            if fresh:
                raise DownloadError(
                    f"{url} gives another file than the registered one of SHA-256 {file.sha256}; it is not kept: "
                    "do not use it, and report this"
                )
            progress.note(f"weights: what an earlier download left of {file.name} does not fit; beginning anew")
            most, fresh = 0, True
            continue
        failures = failures + 1 if part.stat().st_size <= most else 0
        most = max(most, part.stat().st_size)
        if failures == _ATTEMPTS:
            raise DownloadError(
                f"{url}: {problem or 'the connection ends early'}; kept: {part.stat().st_size:,} of "
                f"{counted(file.size, 'byte')}, and the same command goes on from there"
            )
        progress.note(f"weights: {problem or 'the connection ended early'}; trying again after {counted(most, 'byte')}")
        time.sleep(pause * 2**failures)


def _receive(url: str, file: WeightsFile, part: Path, tick: Callable[[int], None]) -> str:
    """Appends what the server sends, one byte more than the file's size at most; returns what went wrong, or "".

    Raises:
        DownloadError: The server refuses, or a redirect is not secure: another attempt would not help.
    """
    have = part.stat().st_size
    headers = {"User-Agent": f"reappear/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (its scheme is checked)
    try:
        with _OPENER.open(request, timeout=_TIMEOUT) as answer, part.open("r+b") as out:
            if have and not _continues(answer, have):
                tick(-have)
                out.truncate(0)
                have = 0
            out.seek(have)
            while have <= file.size and (block := answer.read(min(_BLOCK, file.size + 1 - have))):
                out.write(block)
                have += len(block)
                tick(len(block))
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            tick(-have)
            os.truncate(part, 0)
            return ""
        if error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise DownloadError(f"{url}: the server answers {error.code} {error.reason}; check the network") from error
        return f"the server answers {error.code} {error.reason}"
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        return " ".join(str(getattr(error, "reason", "") or error or type(error).__name__).split())[:200]
    return ""


def _continues(answer: Any, have: int) -> bool:
    """Whether the server sends the rest of the file, from byte `have`."""
    sent = str(answer.headers.get("Content-Range", ""))
    return bool(answer.status == http.HTTPStatus.PARTIAL_CONTENT and sent.startswith(f"bytes {have}-"))


def _require_secure(url: str, before: str = "") -> None:
    """Refuses all but https; http is allowed on this machine alone, and not after https.

    Raises:
        DownloadError: The address is not secure.
    """
    parts = urllib.parse.urlsplit(url)
    local = parts.scheme == "http" and not before.startswith("https:") and _is_loopback(parts.hostname or "")
    if parts.scheme != "https" and not local:
        where = f"{before} leads to {url}, which" if before else url
        raise DownloadError(f"{where} is not https, so nothing is downloaded from there; report this")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _require_secure(newurl, before=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SecureRedirects())
