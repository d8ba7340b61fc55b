import numpy as np
import pytest

from reappear.core import InputError, cosine_distance, unit_rows


def test_distance_is_one_minus_cosine_for_any_lengths():
    found = cosine_distance(np.array([[2.0, 0.0]]), np.array([[5.0, 0.0], [0.0, 0.1], [-1.0, 0.0], [3.0, 3.0]]))
    assert found[0].tolist() == pytest.approx([0, 1, 2, 1 - np.sqrt(0.5)], abs=1e-6)


def test_unit_rows_are_float32_of_length_one():
    rows = unit_rows(np.array([[3.0, 4.0]], np.float16))
    assert rows.dtype == np.float32
    assert rows.tolist() == [pytest.approx([0.6, 0.8])]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_zero_and_nonfinite_rows_are_refused(value):
    rows = np.ones((4, 2))
    rows[2] = value
    with pytest.raises(InputError, match="gallery: zero or not finite: 1 row, the first is 2"):
        unit_rows(rows, name="gallery")
