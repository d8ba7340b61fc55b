import json
import multiprocessing
import os

import pytest

from reappear.core import Decision, InputError, StorageError
from reappear.store import append_decision, file_lock, read_decisions, review, stamp_decisions

LINE = '{"decision": "same", "tracklets": [1, 2]}\n'


def test_decisions_are_read_in_order(tmp_path):
    log = tmp_path / "review.jsonl"
    made = [
        Decision("same", (12, 47), who="anna", when="2026-03-01T09:30:00+00:00", note="red bag\u2028both"),
        Decision("split", (3,), (4, 5)),
        Decision("reject", (), (), (900,)),
    ]
    kept = [append_decision(log, decision, footage="f00d") for decision in made]
    assert [decision.line for decision in kept] == [1, 2, 3]
    assert read_decisions(log, footage="f00d") == kept
    assert json.loads(log.read_text().split("\n")[1]) == {
        "decision": "split",
        "tracklets": [3],
        "others": [4, 5],
        "footage": "f00d",
    }


def test_optional_keys_may_be_missing(tmp_path):
    log = tmp_path / "review.jsonl"
    log.write_text(LINE)
    assert read_decisions(log, footage="f00d") == [Decision("same", (1, 2), line=1)]
    log.write_text("")
    assert read_decisions(log, footage="f00d") == []


def write_some(log, number):
    for tracklet in range(20):
        append_decision(log, Decision("same", (100 * number, 100 * number + tracklet + 1)), footage="f00d")


def test_concurrent_writers_wait(tmp_path):
    log = tmp_path / "review.jsonl"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_some, args=(log, number)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    found = read_decisions(log, footage="f00d")
    assert sorted(decision.tracklets for decision in found) == sorted(
        (100 * number, 100 * number + tracklet + 1) for number in range(4) for tracklet in range(20)
    )


def test_decisions_are_not_stamped_while_one_is_made(tmp_path, monkeypatch):
    """The log is replaced: a line that came in between would be lost."""
    log = tmp_path / "review.jsonl"
    log.write_text(LINE)
    append_decision(log, Decision("same", (5, 6), note="red bag\u2028both"), footage="beef")
    write = review.write_text

    def with_a_writer(path, text):
        with pytest.raises(BlockingIOError), file_lock(log):
            pass
        write(path, text)

    monkeypatch.setattr(review, "write_text", with_a_writer)
    stamp_decisions(log, footage="f00d")
    with file_lock(log) as handle:
        os.write(handle, LINE.encode())
    stamp_decisions(log, footage="f00d")
    assert [json.loads(line)["footage"] for line in log.read_text().split("\n")[:-1]] == ["f00d", "beef", "f00d"]


def test_decision_that_does_not_fit_on_the_disk_leaves_no_half_line(tmp_path, monkeypatch):
    log = tmp_path / "review.jsonl"
    log.write_text(LINE)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:9]))
    with pytest.raises(StorageError, match="the disk is full"):
        append_decision(log, Decision("same", (1, 2)), footage="f00d")
    assert log.read_text() == LINE


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}\n", "line 2 is not a decision"),
        ("[1]\n", "line 2 is not a decision"),
        ('{"decision": "same", "tracklets": [1, 2]\n', "line 2 is not JSON"),
        ("\n", "line 2 is not JSON"),
        ('{"decision": "same", "tracklets": [1, 2]}', "line 2 is cut off; complete it, or remove it"),
        (
            '{"decision": "same", "traclets": [1, 2]}\n',
            "line 2: unknown traclets; known: tracklets, others, crops, who",
        ),
        ('{"decision": "same", "tracklets": [1, 2.5]}\n', "line 2: tracklets must be a list of whole numbers"),
        ('{"decision": "same", "tracklets": [1, true]}\n', "line 2: tracklets must be a list of whole numbers"),
        ('{"decision": "same", "tracklets": [1, 2], "who": 3}\n', "line 2: who must be text, got 3"),
        ('{"decision": "twin", "tracklets": [1, 2]}\n', "line 2: no decision 'twin'; known: same, different, merge"),
        ('{"decision": "same", "tracklets": [1]}\n', "line 2: same takes two tracklets or more"),
        ('{"decision": "same", "tracklets": [1, 2], "footage": "beef"}\n', "line 2 refers to other crops"),
    ],
)
def test_invalid_line_is_named_and_the_log_unchanged(tmp_path, line, message):
    log = tmp_path / "review.jsonl"
    log.write_text(LINE + line)
    with pytest.raises(InputError, match=message):
        read_decisions(log, footage="f00d")
    with pytest.raises(InputError, match=message):
        append_decision(log, Decision("same", (1, 2)), footage="f00d")
    assert log.read_text() == LINE + line


def test_missing_log_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist; check the path, or decide something with `reappear review`"):
        read_decisions(tmp_path / "review.jsonl", footage="f00d")
