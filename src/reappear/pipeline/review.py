"""Adds review decisions to the log of a workspace, which correlate applies."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from reappear.core import KINDS, Decision, InputError, Kind, SettingsError, counted, unknown_name
from reappear.store import read_identities

from .workspace import Workspace

_LEAST = {"same": 2, "different": 2, "merge": 2, "split": 1, "reject": 1}


@dataclass(frozen=True)
class ReviewTarget:
    """The items of a decision, as given by the reviewer.

    Attributes:
        numbers: Numbers of tracklets, crops or identities.
        crops: Whether they are crops, which can only be rejected.
        identities: Name of the identities that `merge` and `reject` refer to, and that `split` takes tracklets
            from.
    """

    numbers: Sequence[int]
    crops: bool = False
    identities: str | None = None


def review(work: Workspace, kind: str, target: ReviewTarget, *, who: str = "", note: str = "") -> Decision:
    """Adds one decision to `review.jsonl`.

    Identities are recorded as the tracklets they contain now, for what is one identity changes with every run.

    Args:
        work: A workspace with crops.
        kind: See `Decision`.
        target: The items.
        who: Name of the reviewer.
        note: Reason.

    Returns:
        The decision as it was written, with its line.

    Raises:
        SettingsError: The numbers are invalid for this decision.
        InputError: An item does not exist, or the log is invalid.
    """
    store = work.open_crops()
    numbers = tuple(target.numbers)
    made = _known(kind)
    _check(made, target, len(store.offsets) - 1, len(store))
    tracklets, others, crops = (), (), ()  # type: tuple[int, ...], tuple[int, ...], tuple[int, ...]
    if target.crops:
        crops = numbers
    elif kind == "split":
        tracklets, others = numbers, _others(work, str(target.identities), numbers)
    elif target.identities is not None and kind in ("merge", "reject"):
        tracklets = _members(work, target.identities, numbers)
    else:
        tracklets = numbers
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(made, tracklets, others, crops, who=who, when=now, note=note)
    return work.add_decision(decision)


def _known(kind: str) -> Kind:
    for known in KINDS:
        if kind == known:
            return known
    raise SettingsError(unknown_name("decision", kind, KINDS))


def _check(kind: Kind, target: ReviewTarget, tracklets: int, crops: int) -> None:
    if target.crops and kind != "reject":
        raise SettingsError(f"{kind} takes tracklets; only reject takes --crops")
    if target.crops and target.identities is not None:
        raise SettingsError(
            "--crops and --identities exclude each other; the numbers are of crops or of identities: give one"
        )
    if target.identities is None and kind in ("merge", "split"):
        raise SettingsError(f"{kind} needs --identities NAME, such as --identities round0")
    if target.identities is not None and kind in ("same", "different"):
        raise SettingsError(f"{kind} takes tracklets; omit --identities")
    if len(target.numbers) < _LEAST[kind]:
        raise SettingsError(f"{kind} needs {counted(_LEAST[kind], 'number')} or more, got {len(target.numbers)}")
    if len(set(target.numbers)) < len(target.numbers):
        raise SettingsError(f"{kind}: a number is given twice")
    if kind == "merge" or (kind == "reject" and target.identities is not None):
        return  # `_members` knows which identities there are
    what, count = ("crop", crops) if target.crops else ("tracklet", tracklets)
    for number in target.numbers:
        if not 0 <= number < count:
            raise InputError(f"there is no {what} {number}; they are numbered 0 to {count - 1}")


def _members(work: Workspace, name: str, numbers: Sequence[int]) -> tuple[int, ...]:
    identity = _identity_of(work, name)
    for number in numbers:
        if number < 0 or not (identity == number).any():
            raise InputError(f"{work.identities(name)} has no identity {number}; see `reappear explain`")
    return tuple(np.flatnonzero(np.isin(identity, numbers)).tolist())


def _others(work: Workspace, name: str, tracklets: Sequence[int]) -> tuple[int, ...]:
    """The rest of the identity that holds all of these."""
    identity = _identity_of(work, name)
    inside = np.unique(identity[list(tracklets)])
    if len(inside) > 1 or inside[0] < 0:
        owners = ", ".join(str(number) if number >= 0 else "none" for number in inside.tolist())
        raise InputError(f"these tracklets belong to several identities of {name} ({owners}); split one at a time")
    rest = np.setdiff1d(np.flatnonzero(identity == inside[0]), tracklets)
    if not len(rest):
        raise InputError(f"these are all tracklets of identity {inside[0]}; give only those to separate")
    return tuple(rest.tolist())


def _identity_of(work: Workspace, name: str) -> np.ndarray:
    return np.asarray(read_identities(work.finished_identities(name)).assignment.identity)
