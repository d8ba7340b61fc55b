import dataclasses

import pytest

from reappear.core import SILENT, settings


@settings
class Knob:
    loud: int = 3


def test_settings_are_frozen_and_named():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Knob().loud = 4
    with pytest.raises(TypeError):
        Knob(4)
    assert Knob(loud=4) == dataclasses.replace(Knob(), loud=4)


def test_silence_listens_to_anything_and_says_nothing(capsys):
    with SILENT.task("work", None) as advance:
        advance(3)
    SILENT.note("done")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")
