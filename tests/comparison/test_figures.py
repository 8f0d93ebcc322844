"""The figures of a report against closed forms, and the document that contains them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zip_ray.comparison.report.document import Cell, Code, Document, Picture, Section, Table, to_html, to_markdown
from zip_ray.comparison.statistics import (
    Curve,
    band,
    harmonic_mean,
    holm,
    mean_and_deviation,
    paired_tests,
    queries_to_target,
    smoothed,
)


def curve(queries: list[float], accuracy: list[float]) -> Curve:
    return Curve(np.array(queries, float), np.array(queries, float) / 10, np.array(accuracy, float))


def test_smoothing_by_hand() -> None:
    """Window 20 of 400 queries at ten queries per step: means of the last two steps, once there are two."""
    found = smoothed(curve([10, 20, 30, 40], [0.0, 1.0, 0.0, 0.5]), 400)
    np.testing.assert_array_equal(found.queries, [20, 30, 40])
    np.testing.assert_array_equal(found.accuracy, [0.5, 0.5, 0.25])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 7))
def test_smoothing_is_the_mean_over_the_window(values: list[float], per_step: int) -> None:
    queries = [per_step * (k + 1) for k in range(len(values))]
    found = smoothed(curve(queries, values), 200)
    for at, mean in zip(found.queries, found.accuracy, strict=True):
        inside = [v for q, v in zip(queries, values, strict=True) if at - 10 < q <= at]
        assert mean == pytest.approx(np.mean(inside))
    assert len(found.queries) == sum(q >= 10 for q in queries)


def test_queries_to_target_by_hand() -> None:
    """The lowest best is B's 0.6: A reaches it at 30, B at 50, and C, which has no curve, never."""
    a = curve([10, 20, 30, 40, 50], [0.1, 0.5, 0.7, 0.9, 0.8])
    b = curve([10, 20, 30, 40, 50], [0.1, 0.2, 0.4, 0.5, 0.6])
    none = curve([], [])
    assert queries_to_target({"A": a, "B": b, "C": none}, 50) == (0.6, {"A": 30.0, "B": 50.0, "C": 50.0})
    target, figures = queries_to_target({"C": none}, 50)
    assert math.isnan(target)
    assert figures == {"C": 50.0}


def test_what_a_white_box_does_past_the_budget_does_not_count() -> None:
    """Within 50 queries W's best is 0.3, which A passes at 20; L has no points within the budget."""
    a, w, late = curve([20, 30], [0.4, 0.6]), curve([10, 40, 60], [0.1, 0.3, 0.9]), curve([60], [0.9])
    assert queries_to_target({"A": a, "W": w, "L": late}, 50) == (0.3, {"A": 20.0, "W": 40.0, "L": 50.0})


def test_means_and_deviations_by_hand() -> None:
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)
    assert mean_and_deviation([0.4])[0] == 0.4
    assert math.isnan(mean_and_deviation([0.4])[1])
    assert math.isnan(mean_and_deviation([])[0])
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert math.isnan(harmonic_mean(0.5, math.nan))


def test_the_signed_rank_test_against_its_closed_form() -> None:
    """Of n differences all of one sign and of different sizes, the exact two-sided p is 2 / 2^n."""
    for n in (3, 5, 9):
        ours = {str(k): 0.5 for k in range(n)}
        theirs = {str(k): 0.5 + 0.01 * (k + 1) for k in range(n)}
        (test,) = paired_tests({"A": ours, "B": theirs}, "A")
        assert (test.method, test.pairs) == ("B", n)
        assert test.p == pytest.approx(2 / 2**n)
        assert test.difference == pytest.approx(0.01 * (n + 1) / 2)
    (same,) = paired_tests({"A": ours, "B": ours}, "A")
    assert same.p == 1.0
    (apart,) = paired_tests({"A": ours, "B": {"elsewhere": 0.1}}, "A")
    assert (apart.pairs, math.isnan(apart.holm)) == (0, True)


def test_equal_differences_are_ties_whatever_their_rounding() -> None:
    """Three of four signs agree and all sizes are equal: p is that of 1, 1, 1, -1, whatever the rounding errors."""
    from scipy.stats import wilcoxon

    ours = dict(zip("abcd", [0.6, 0.5, 0.65, 0.35], strict=True))
    theirs = dict(zip("abcd", [0.65, 0.55, 0.7, 0.3], strict=True))
    (test,) = paired_tests({"A": ours, "B": theirs}, "A")
    assert test.p == pytest.approx(wilcoxon([1, 1, 1, -1]).pvalue)


def test_holm_by_hand() -> None:
    """Holm's steps: 0.01 x 4, then 0.02 x 3, 0.03 x 2 (raised to 0.06), 0.5 x 1."""
    nan = float("nan")
    found = holm([0.03, 0.01, nan, 0.5, 0.02])
    assert found[:2] + found[3:] == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert math.isnan(found[2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    found = holm(p)
    for one, adjusted in zip(p, found, strict=True):
        assert one <= adjusted <= min(1.0, len(p) * one) + 1e-12
    assert sorted(found) == [found[k] for k in sorted(range(len(p)), key=lambda k: p[k])]


def test_a_band_goes_as_far_as_the_longest_curve() -> None:
    axis, mean, deviation = band(
        [(np.array([0.0, 10.0]), np.array([0.0, 1.0])), (np.array([0.0, 5.0]), np.array([1.0, 1.5]))], points=3
    )
    np.testing.assert_allclose(axis, [0, 5, 10])
    np.testing.assert_allclose(mean, [0.5, 1.0, 1.25])
    np.testing.assert_allclose(deviation, np.sqrt(0.5) * np.array([1, 1, 0.5]))


def test_a_document_says_the_same_twice() -> None:
    table = Table(("a", "b"), ((Cell("x | y"), Cell("<b>1</b>", best=True)),))
    parts = (table, Picture("p.png", b"\x89PNG", "a picture"), Code("k: 1", "config"))
    document = Document("Title", "Summary.", (Section("Part", "Text & more.", parts),))
    text, page = to_markdown(document), to_html(document)
    assert "| x \\| y | **<b>1</b>** |" in text
    assert "![a picture](p.png)" in text
    assert "<strong>&lt;b&gt;1&lt;/b&gt;</strong>" in page
    assert "data:image/png;base64,iVBORw==" in page
    assert "Text &amp; more." in page
