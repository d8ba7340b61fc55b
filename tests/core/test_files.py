import json
import os
from pathlib import Path

import pytest

from reappear.core import InputError, SettingsError, check_name, inside, read_bytes, read_json, read_text


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/tmp", "/no/such/file", "a\0b", "x" * 300])
def test_only_regular_files_are_read(path: str) -> None:
    with pytest.raises(InputError, match=r"exist|regular|folder|cannot be read"):
        read_bytes(Path(path), max_bytes=10)


def test_named_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="regular"):
        read_bytes(tmp_path / "pipe", max_bytes=10)


def test_size_limit_counts_bytes_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", max_bytes=5) == b"12345"
    with pytest.raises(InputError, match="larger than 4"):
        read_bytes(tmp_path / "file", max_bytes=4)
    with pytest.raises(InputError, match="larger than 4"):
        read_bytes(Path("/proc/self/status"), max_bytes=4)  # states a size of 0


def test_byte_order_mark_is_removed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_text(tmp_path / "file") == "[1]"
    assert read_json(tmp_path / "file") == [1]


@pytest.mark.parametrize("data", [b"", b"[1", b"\xff", b"[" * 100_000, json.dumps({"a": 1}).encode()[:-1]])
def test_broken_json_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file.json").write_bytes(data)
    with pytest.raises(InputError, match=r"file\.json") as caught:
        read_json(tmp_path / "file.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "link/x", "loop/x", "a\0b"])
def test_paths_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    with pytest.raises(InputError):
        inside(root, name)


def test_paths_inside_are_as_given(tmp_path: Path) -> None:
    assert inside(tmp_path, "a/b.jpg") == tmp_path / "a/b.jpg"
    assert inside(tmp_path, "a/../b.jpg") == tmp_path / "a/../b.jpg"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "../a", ".a", "q.partial", "q.tmp", "a\nb", "x" * 201])
def test_names_that_leave_the_workspace_or_are_hidden_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="--name"):
        check_name(name, "--name")


@pytest.mark.parametrize("name", ["round0", "my model", "höhe-2", "a.b", "x" * 200])
def test_other_names_are_kept(name: str) -> None:
    assert check_name(name, "--name") == name
