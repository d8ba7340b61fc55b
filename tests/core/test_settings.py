import dataclasses
import pickle
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Interval

from reappear.core import RISING, SILENT, Fraction, Positive, SettingsError, settings
from reappear.core.settings import expected, range_of


@settings
class Knob:
    loud: int = 3


def test_settings_are_frozen_and_named():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Knob().loud = 4
    with pytest.raises(TypeError):
        Knob(4)
    assert Knob(loud=4) == dataclasses.replace(Knob(), loud=4)


@settings
class Filter:
    order: Annotated[int, "order", Interval(ge=1, le=9)] = 3
    gain: Annotated[Positive | None, "gain"] = None
    band: Annotated[tuple[Fraction, Fraction], "pass band", RISING] = (0.1, 0.9)
    shape: Annotated[Literal["hann", "flat"], "window"] = "hann"
    table: Annotated[Path, "coefficients"]


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"order": 0}, ["order: ", "a whole number, 1 to 9", "got 0"]),
        ({"order": 2.5}, ["order: ", "got 2.5"]),
        ({"order": float("nan")}, ["order: ", "got nan"]),
        ({"gain": 0.0}, ["gain: ", "above 0", "got 0.0"]),
        ({"gain": float("inf")}, ["gain: ", "got inf"]),
        ({"band": (0.9, 0.1)}, ["band: ", "the lower first", "(0.9, 0.1)"]),
        ({"band": (0.1, 1.5)}, ["band: ", "each 0 to 1", "(0.1, 1.5)"]),
        ({"band": (0.1,)}, ["band: ", "2 numbers"]),
        ({"shape": "han"}, ["shape: ", "did you mean hann? known: hann, flat"]),
        ({"ordre": 3}, ["unknown setting 'ordre'; did you mean order? known: order, gain, band, shape, table"]),
        ({"table": 3}, ["table: must be a path"]),
    ],
)
def test_values_are_checked_on_construction(wrong, facts):
    with pytest.raises(SettingsError) as caught:
        Filter(**{"table": Path("t.csv")} | wrong)
    assert all(fact in str(caught.value) for fact in facts), caught.value
    assert "\n" not in str(caught.value)
    if "ordre" not in wrong:
        with pytest.raises(SettingsError):
            dataclasses.replace(Filter(table=Path("t.csv")), **wrong)


def test_missing_required_setting_is_named():
    with pytest.raises(SettingsError, match=r"^table: must be given, a path$"):
        Filter()


def test_defaults_obey_their_ranges():
    @settings
    class Odd:
        order: Annotated[int, "order", Interval(ge=1)] = 0

    with pytest.raises(SettingsError, match=r"^order: "):
        Odd()


def test_settings_can_be_pickled():
    made = Filter(table=Path("t.csv"), gain=2)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, Interval(ge=1)], "1 or more"),
        (Annotated[int, Interval(ge=1, le=100_000_000)], "1 to 100000000"),
        (Annotated[float, Interval(gt=0)], "above 0"),
        (Annotated[float, Interval(gt=0, le=1)], "above 0, at most 1"),
        (Annotated[float, Interval(ge=0, lt=1)], "0 or more, below 1"),
        (Annotated[float, Interval(ge=1e-6, le=1e6)], "1e-06 to 1000000"),
        (tuple[Fraction, ...], "each 0 to 1"),
        (Positive | None, "above 0"),
        (str, ""),
    ],
)
def test_ranges_in_words(hint, words):
    assert range_of(hint) == words
    assert expected(hint).endswith(words)


def test_silent_progress_ignores_everything(capsys):
    with SILENT.task("work", None, "step") as advance:
        advance(3)
    SILENT.note("done")
    message = capsys.readouterr()
    assert (message.out, message.err) == ("", "")
