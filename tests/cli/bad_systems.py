"""Every command that writes, on a system that refuses it; then again, where nothing refuses.

Runs as `python -m tests.cli.bad_systems LINE...`, as `bad_paths`.
"""

import ctypes
import errno
import fcntl
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .bad_paths import call, make_places

TINY = "--backbone cnn6 --set arguments={width:4} --images-per-step 8 --device cpu --workers 0 --steps 1"
LINES = [
    "ingest SET --out NEW/w --workers 1",
    "embed WORK --name new",
    "correlate WORK --name new",
    "pretrain WORK --name new --labels given --set method.curriculum=[[0,2]] " + TINY,
    "finetune --data SET --out NEW/w --validation-share 0 " + TINY,
    "evaluate SET --out NEW/w --model color",
    "export-data WORK --out NEW/d --identities given",
    "export-data WORK --out NEW/d --identities given --to sightings",
    "report WORK --out NEW/r",
    "search WORK crop:0 --picture NEW/p.jpg",
    "review WORK same 0 1",
    "synthesize --out NEW/s --people 2 --test-people 1 --films 1 --cameras 1 --appearances 1 --workers 1",
]
_NO_LOCKS = {"report", "search"}  # need none
_SMALL = {"review"}


def _no_locks() -> None:
    def flock(*given: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    fcntl.flock = flock  # type: ignore[assignment]


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))


def _no_rights() -> None:
    """Takes from root the right to write anywhere."""
    if os.geteuid() == 0 and ctypes.CDLL(None).capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()):
        raise OSError("capset")


SYSTEMS = {
    "no locks": (_no_locks, _NO_LOCKS, "no file locks"),
    "small files": (_small_files, _SMALL, "cannot write"),
    "read-only": (_no_rights, set[str](), "permission denied"),
}


def check(lines: list[str]) -> list[str]:
    """What did not end in one line and exit code 1, or could not be done afterwards."""
    wrong = []
    with tempfile.TemporaryDirectory() as place:
        places = make_places(Path(place))
        for line in lines:
            for name, (prepare, free, expected) in SYSTEMS.items():
                if line.split()[0] in free:
                    continue
                new = Path(place) / "new"
                shutil.copytree(places["WORK"], new / "work")
                new.joinpath("w").mkdir()
                named = {**places, "WORK": str(new / "work")}
                words = [named.get(word, word.replace("NEW", str(new))) for word in line.split()]
                _set_modes(new, 0o500 if name == "read-only" else 0o700)
                code = call(words, Path(place) / "message", prepare)
                message = (Path(place) / "message").read_text().splitlines()
                own = [row for row in message if row.startswith("reappear: ")]
                if code != 1 or len(own) != 1 or "bug in" in own[0] or expected not in own[0] or ".tmp" in own[0]:
                    wrong.append(f"{line}, {name}: exit {code}: {' | '.join(message)[-300:]}")
                _set_modes(new, 0o700)
                if code := call(words, Path(place) / "message"):
                    text = (Path(place) / "message").read_text()
                    wrong.append(f"{line}, after {name}: exit {code}: {text[-300:]}")
                shutil.rmtree(new)
    return wrong


def _set_modes(folder: Path, mode: int) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(mode)
        else:
            path.chmod(mode & 0o600)


if __name__ == "__main__":
    found = check(sys.argv[1:])
    sys.stderr.write("\n".join(found))
    sys.exit(bool(found))
