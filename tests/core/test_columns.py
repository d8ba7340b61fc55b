import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reappear.core import Detections, InputError, Tracks, lengths_to_offsets, offsets_to_owner


@given(st.lists(st.integers(0, 5)))
def test_offsets_and_owners_agree(lengths):
    offsets = lengths_to_offsets(np.array(lengths, np.int64))
    owner = offsets_to_owner(offsets)
    assert len(owner) == sum(lengths)
    assert np.bincount(owner, minlength=len(lengths)).tolist() == lengths
    assert (np.diff(owner) >= 0).all()


@pytest.mark.parametrize("offsets", [[], [1, 3], [0, 2], [0, 3, 2, 3]])
def test_invalid_offsets_are_refused(offsets):
    with pytest.raises(InputError, match="must rise from 0 to the number of rows"):
        Tracks(np.arange(3), np.zeros((3, 4)), np.ones(3), np.array(offsets, np.int64))


def test_columns_of_unequal_length(unchecked):
    with pytest.raises(InputError, match="Detections: columns must have one length, got frame 2, box 3, score 2"):
        Detections(np.arange(2), np.zeros((3, 4)), np.ones(2))


def test_tracks_are_counted():
    assert len(Tracks(np.arange(3), np.zeros((3, 4)), np.ones(3), np.array([0, 1, 1, 3]))) == 3
