"""`review.jsonl`: an append-only log of review decisions, one per line.

    {"decision": "same", "tracklets": [12, 47], "who": "anna", "when": "2026-03-01T09:30:00+00:00", "note": "red bag"}

Keys: decision; tracklets, others, crops (lists of numbers, see `Decision`); who, when, note; footage (the fingerprint
of the crops that the numbers are of). Only the decision and its numbers must be there.
"""

import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reappear.core import KINDS, Decision, InputError, parse_json, read_text

from .atomic import disk_errors, file_lock, sync_folder, write_text
from .crops import Renumbering

_NUMBERS, _WORDS = ("tracklets", "others", "crops"), ("who", "when", "note", "footage")


Renumber = Callable[[str], Renumbering | None]


def append_decision(path: Path, decision: Decision, *, footage: str, renumber: Renumber | None = None) -> Decision:
    """Appends a decision durably, with the file locked.

    Args:
        path: The log; made if missing.
        decision: The decision; its line number is ignored.
        footage: Fingerprint of the crops.
        renumber: See `read_decisions`.

    Returns:
        The decision with its line.

    Raises:
        InputError: A line of the log is invalid.
    """
    plain: dict[str, Any] = {"decision": decision.kind}
    plain |= {key: list(value) for key in _NUMBERS if (value := getattr(decision, key))}
    plain |= {key: value for key in ("who", "when", "note") if (value := getattr(decision, key))}
    plain["footage"] = footage
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path, wait=True) as handle:
            read_decisions(path, footage=footage, renumber=renumber)  # which raises for an invalid log
            line = count_decisions(path) + 1
            _append(handle, (json.dumps(plain, ensure_ascii=False) + "\n").encode())
        sync_folder(path.parent)
    return replace(decision, line=line)


def _append(handle: int, data: bytes) -> None:
    """Appends to a file and flushes it to disk; after an error the file is as before."""
    size = os.fstat(handle).st_size
    try:
        if os.write(handle, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    except OSError:
        os.ftruncate(handle, size)
        raise


def count_decisions(path: Path) -> int:
    """The number of lines of a log."""
    return read_text(path).count("\n")


def stamp_decisions(path: Path, *, footage: str) -> None:
    """Writes into each line of a log that names no crops that it is of these.

    Args:
        path: The log; may be missing.
        footage: Fingerprint of the crops, which are about to be replaced.
    """
    if not path.exists():
        return
    with disk_errors(path), file_lock(path, wait=True):
        read_decisions(path, footage=footage, renumber=lambda other: Renumbering.none())
        plain = [parse_json(line, path) for line in read_text(path).split("\n")[:-1]]
        if any("footage" not in one for one in plain):
            lines = [json.dumps({**one, "footage": one.get("footage", footage)}, ensure_ascii=False) for one in plain]
            write_text(path, "".join(line + "\n" for line in lines))


def read_decisions(path: Path, *, footage: str, renumber: Renumber | None = None) -> list[Decision]:
    """Decisions in the order they were made; without those on crops that are not there now.

    Args:
        path: The log.
        footage: Fingerprint of the crops.
        renumber: The present numbers of tracklets and crops of an earlier state, by its fingerprint; None where it is
            unknown.

    Raises:
        InputError: The log is missing, a line is invalid, or it refers to other crops than `footage`.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; check the path, or decide something with `reappear review`")
    text = read_text(path)
    if text and not text.endswith("\n"):
        raise InputError(f"{path} line {text.count(chr(10)) + 1} is cut off; complete it, or remove it")
    known = cache(renumber or (lambda other: None))
    lines = enumerate(text.split("\n")[:-1], 1)
    found = [_decision(line, number, f"{path} line {number}", footage, known) for number, line in lines]
    return [decision for decision in found if decision is not None]


def _decision(line: str, number: int, where: str, footage: str, renumber: Renumber) -> Decision | None:
    plain = parse_json(line, where)
    if not isinstance(plain, dict) or not isinstance(plain.get("decision"), str):
        raise InputError(f'{where} is not a decision such as {{"decision": "same", "tracklets": [12, 47]}}')
    if plain["decision"] not in KINDS:
        raise InputError(f"{where}: no decision {plain['decision']!r}; known: {', '.join(KINDS)}")
    if unknown := plain.keys() - {"decision", *_NUMBERS, *_WORDS}:
        raise InputError(f"{where}: unknown {', '.join(sorted(unknown))}; known: {', '.join((*_NUMBERS, *_WORDS))}")
    for key in _NUMBERS:
        numbers = plain.get(key, [])
        if not isinstance(numbers, list) or not all(type(value) is int and value < 2**63 for value in numbers):
            raise InputError(f"{where}: {key} must be a list of whole numbers, got {numbers!r}")
    for key in _WORDS:
        if not isinstance(plain.get(key, ""), str):
            raise InputError(f"{where}: {key} must be text, got {plain[key]!r}")
    made_on = plain.get("footage", footage)
    moved = None if made_on == footage else renumber(made_on)
    if made_on != footage and moved is None:
        raise InputError(
            f"{where} refers to other crops: the videos were ingested again, so tracklets have new numbers; "
            f"move the log away, or correlate with --review none"
        )
    try:
        decision = Decision(
            plain["decision"],
            tuple(plain.get("tracklets", ())),
            tuple(plain.get("others", ())),
            tuple(plain.get("crops", ())),
            line=number,
            who=plain.get("who", ""),
            when=plain.get("when", ""),
            note=plain.get("note", ""),
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return decision if moved is None else _renumbered(decision, moved)


def _renumbered(decision: Decision, moved: Renumbering) -> Decision | None:
    """The decision in present numbers; None where too little of what it names is there."""

    def now(numbers: tuple[int, ...], table: np.ndarray) -> tuple[int, ...]:
        found = (int(table[number]) if number < len(table) else -1 for number in numbers)
        return tuple(number for number in found if number >= 0)

    try:
        return replace(
            decision,
            tracklets=now(decision.tracklets, moved.tracklet),
            others=now(decision.others, moved.tracklet),
            crops=now(decision.crops, moved.crop),
        )
    except InputError:
        return None
