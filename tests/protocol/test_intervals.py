"""Wilson's interval against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from zip_ray.protocol.intervals import interval


@given(st.integers(1, 5000), st.floats(0, 1))
def test_it_is_scipys(images: int, share: float) -> None:
    right = round(share * images)
    expected = binomtest(right, images).proportion_ci(method="wilson")
    assert interval(right / images, images) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_without_images_anything_is_possible() -> None:
    assert interval(0.0, 0) == (0.0, 1.0)
