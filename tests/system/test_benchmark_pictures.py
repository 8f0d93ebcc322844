"""The pictures of the programs in benchmarks/ that draw several methods."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import experiments, rounds, scaling, staleness
from benchmarks.curves import Look
from zip_ray.runs import plotting

pytestmark = pytest.mark.slow


def draw_experiments(path: Path) -> None:
    spaces = {("low-rank", 1): [100.0, 50.0], ("full", 1): [200.0, 90.0], ("full", 8): [300.0, 80.0]}
    left = {size: [0.9, 0.5, 1e-4, 0.5, 0.9] for size in (1000, 100000)}
    experiments.draw(path, spaces, (100, 10000), left)


def draw_rounds(path: Path) -> None:
    curve = [Look(seconds, 10, 0.5) for seconds in (0.0, 10.0, 5000.0)]
    rounds.draw(path, {name: {1: curve, 64: curve} for name in "ABCD"}, rounds.Options(actors=(1, 64)))


def draw_scaling(path: Path) -> None:
    scaling.draw(path, {(n, service, out): 0.9 for n in (1, 8, 64) for service in (20, 100) for out in (1, 2, 4)})


def draw_staleness(path: Path) -> None:
    ways = [staleness.Way(pairs) for pairs in (1, 2, 4, 8, 16, 32)] + [staleness.AS_SHIPPED]
    curves = {(task, way): np.linspace(0.1, 0.9, 101) for task in ("digits", "letter") for way in ways}
    staleness.draw(path, curves, ("digits", "letter"), ways)


@pytest.mark.parametrize("draw", [draw_experiments, draw_rounds, draw_scaling, draw_staleness])
def test_curves_can_be_told_apart_without_colour(
    draw: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any two curves share at most one of colour, marker and dashes; legends lie off the axes; no tick is 10^n."""
    kept: list[Any] = []

    def keep(figure: Any, _dpi: int) -> bytes:
        figure.draw_without_rendering()
        kept.append(figure)
        return b""

    for module in (experiments, rounds, scaling, staleness):
        monkeypatch.setattr(module, "png", keep)
    draw(tmp_path / "x.png")
    (figure,) = kept
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert legends
    for axes in filter(lambda one: one.lines, figure.axes):
        assert not any(one.get_window_extent().overlaps(axes.get_window_extent()) for one in legends)
        curves = [line for line in axes.lines if line.get_color() != plotting.GREY]
        parts = [(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in curves]
        assert len(parts) >= 2
        assert all(sum(a == b for a, b in zip(one, other, strict=True)) <= 1 for one, other in combinations(parts, 2))
        ticks = [*axes.get_xticklabels(which="both"), *axes.get_yticklabels(which="both")]
        assert not any("$" in label.get_text() or "e" in label.get_text() for label in ticks)
