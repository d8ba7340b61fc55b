import pytest

from reappear.core import Decision, InputError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "same", "tracklets": (1,)}, "same takes two tracklets or more"),
        ({"kind": "merge"}, "merge takes two tracklets or more"),
        ({"kind": "different", "tracklets": (1, 2), "others": (3,)}, "different takes two tracklets or more"),
        ({"kind": "same", "tracklets": (1, 2), "crops": (3,)}, "same takes two tracklets or more"),
        ({"kind": "split", "tracklets": (1, 2)}, "split takes tracklets, and the others that they are taken from"),
        ({"kind": "split", "tracklets": (1, 2), "others": (2,)}, "split: a number is given twice"),
        ({"kind": "reject"}, "reject takes tracklets or crops"),
        ({"kind": "reject", "crops": (4, 4)}, "reject: a number is given twice"),
        ({"kind": "reject", "tracklets": (-1,)}, "reject: numbers must be 0 or more"),
    ],
)
def test_invalid_decisions_are_refused(given, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        Decision(**given)
