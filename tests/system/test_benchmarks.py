"""The programs in benchmarks/: each runs with --quick, and --check distinguishes figures reached from missed."""

import importlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tyro

from benchmarks import accuracy, gains, scaling
from benchmarks.common import Figures
from tests.support.paths import ROOT
from zip_ray.actors.cluster import connect
from zip_ray.config.reading import load_config
from zip_ray.config.resources import ClusterConfig
from zip_ray.config.tree import Config

PROGRAMS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "(BenchmarkOptions)" in path.read_text())


SLOW = {"memory", "query", "rounds", "scaling", "startup", "stragglers"}
"""Programs whose smallest measurement takes half a minute: `make slow` runs them."""


@pytest.mark.parametrize(
    "program", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in PROGRAMS]
)
def test_quick_prints_a_table_and_its_figure_last(
    program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ray_cluster: str
) -> None:
    """Uses the tests' cluster, because a small measurement would otherwise spend most of its time starting Ray."""

    def join(cluster: ClusterConfig, _: object) -> str:
        return connect(cluster.model_copy(update={"address": ray_cluster}))

    monkeypatch.setattr("zip_ray.actors.ray_pool.connect", join)
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)  # for processes of their own
    module = importlib.import_module(f"benchmarks.{program}")
    if hasattr(module, "parallel"):
        monkeypatch.setattr(module, "parallel", lambda function, jobs, _: map(function, jobs))
    assert module.main(tyro.cli(module.Options, args=["--quick"])) == 0
    said = capsys.readouterr().out
    assert "\n| --- |" in said
    assert "wanted" in said.splitlines()[-1]


def test_a_program_runs_as_its_page_says() -> None:
    """Runs from the project's root, with jobs in their own processes."""
    command = [sys.executable, "benchmarks/accuracy.py", "--quick", "--processes", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "wanted" in done.stdout.splitlines()[-1]


def figures(gain: float = 0.0, validation: float = 0.5, loss: float = 1.0) -> Figures:
    return Figures(0.6, 0.6 + gain / 100, validation, validation, loss, 1.0, 5000)


Measured = Callable[[Callable[..., Any], Sequence[Any], int], Iterator[Any]]


@pytest.mark.parametrize(("digits", "count", "code"), [(8.1, -0.9, 0), (7.9, 0.0, 1), (9.0, -1.1, 1)])
def test_accuracy_check(monkeypatch: pytest.MonkeyPatch, digits: float, count: float, code: int) -> None:
    def measured(_: object, jobs: Sequence[Any], __: int) -> Iterator[Any]:
        gain = {"digits": digits, "count": count}
        for setting, task, *_rest in jobs:
            # A published run that loses everything is reported, not judged.
            yield (setting, task), figures(-50.0 if setting == "published" else gain.get(task, 0.0)), 1.0

    monkeypatch.setattr(accuracy, "parallel", measured)
    assert accuracy.main(accuracy.Options(check=True)) == code
    assert accuracy.main(accuracy.Options(check=False)) == 0


def test_gains_choice_is_the_best_on_validation_then_the_lowest_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = gains.shipped("zip").optimizer
    shipped = (optimizer.step_size, optimizer.perturbation_scale, optimizer.pairs_per_step)

    def measured(best: tuple[float, ...]) -> Measured:
        def parallel(_: object, jobs: Sequence[Any], __: int) -> Iterator[Any]:
            for _method, point, *_rest in jobs:
                yield point, figures(validation=0.7, loss=0.8 if point == best else 0.9)

        return parallel

    other = next(point for point in itertools.product(*gains.GRIDS["zip"].values()) if point != shipped)
    monkeypatch.setattr(gains, "parallel", measured(shipped))
    assert gains.main(gains.Options(check=True)) == 0
    monkeypatch.setattr(gains, "parallel", measured(other))
    assert gains.main(gains.Options(check=True)) == 1


def test_gains_are_chosen_for_a_model_and_images_of_ones_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Config] = []

    def run(config: Config) -> Figures:
        ran.append(config)
        return figures()

    monkeypatch.setattr(gains, "run", run)
    monkeypatch.setattr(gains, "parallel", lambda function, jobs, _: map(function, jobs))
    gains.main(gains.Options(seeds=(101,), queries=40, model="local-dir:mine", root=tmp_path))
    assert {(c.model.name, c.task.name, str(c.task.root)) for c in ran} == {("local-dir:mine", "folder", str(tmp_path))}
    assert len({(c.optimizer.step_size, c.optimizer.perturbation_scale) for c in ran}) == 6


@pytest.mark.parametrize("method", gains.GRIDS)
def test_what_the_grids_hold(method: gains.Method) -> None:
    """A file's choice, and the configuration of ZIP's authors."""
    fields = gains.GRIDS[method]
    published = load_config(ROOT / "configs" / "methods" / f"{method}.yaml")
    for config in (gains.shipped(method), published):
        for field, values in fields.items():
            assert getattr(config.optimizer, field) in values
    assert gains.shipped(method).optimizer.method == published.optimizer.method


def test_scaling_is_judged_by_its_worst_service_time_with_its_best_number_in_flight() -> None:
    found = {(64, 50, 4): 0.8, (64, 50, 16): 0.96, (64, 200, 4): 0.99, (64, 200, 16): 0.98, (256, 50, 4): 0.1}
    assert scaling.lowest_of_best(found, 64) == 0.96
    assert scaling.lowest_of_best(found, 4) is None
