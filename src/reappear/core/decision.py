from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InputError

Kind = Literal["same", "different", "merge", "split", "reject"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_NEEDS = {
    "same": "two tracklets or more",
    "different": "two tracklets or more",
    "merge": "two tracklets or more",
    "split": "tracklets, and the others that they are taken from",
    "reject": "tracklets or crops",
}


@dataclass(frozen=True)
class Decision:
    """One review decision. It names tracklets and crops, whose numbers are stable across rounds, not identities.

    Attributes:
        kind: "same": these tracklets are one person. "merge": the same, for all tracklets of some identities.
            "different": no two of these tracklets are one person. "split": none of these tracklets is one person with
            any of `others`. "reject": these tracklets or crops show no identifiable person.
        tracklets: Distinct.
        others: For split: the tracklets that the others are separated from.
        crops: For reject.
        line: Line in the log, from 1; later decisions override earlier ones.
        who: Who decided.
        when: ISO 8601.
        note: Why.

    Raises:
        InputError: A number is negative or repeated, or too few are given.
    """

    kind: Kind
    tracklets: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    crops: tuple[int, ...] = ()
    line: int = 0
    who: str = ""
    when: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        named = (*self.tracklets, *self.others)
        if len(set(named)) < len(named) or len(set(self.crops)) < len(self.crops):
            raise InputError(f"{self.kind}: a number is given twice")
        if min((*named, *self.crops), default=0) < 0:
            raise InputError(f"{self.kind}: numbers must be 0 or more")
        enough = {
            "split": bool(self.tracklets and self.others),
            "reject": bool(self.tracklets or self.crops),
        }.get(self.kind, len(self.tracklets) > 1)
        if not enough or (self.others and self.kind != "split") or (self.crops and self.kind != "reject"):
            raise InputError(f"{self.kind} takes {_NEEDS[self.kind]}")
