"""A pool that is opened once and used by many runs."""

from pathlib import Path
from typing import Any

import pytest

import zip_ray
from zip_ray.clip import loading

HERE: dict[str, Any] = {"cluster": {"pool": "in-process"}}


def run_of(folder: Path, seed: int) -> dict[str, Any]:
    """The config of a run of one step, whose images depend on its seed."""
    return {
        "seed": seed,
        "task": {"shots": 1, "batch_size": 10},
        "optimizer": {"method": "zip"},
        "budget": {"queries": 10},
        "output": {"dir": str(folder / str(seed))},
        "tracking": {"enabled": False},
    }


def test_the_model_is_loaded_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    plain = loading.load_clip

    def counted(config: Any, device: str) -> Any:
        loads.append(config.name)
        return plain(config, device)

    monkeypatch.setattr("zip_ray.scorer.scorer.load_clip", counted)
    with zip_ray.open_pool(run_of(tmp_path, 1), **HERE) as pool:
        kept = [zip_ray.tune(run_of(tmp_path, seed), pool=pool, progress=False) for seed in (1, 2)]
    assert loads == ["small-clip"]
    alone = zip_ray.tune(run_of(tmp_path / "alone", 2), **HERE, progress=False)
    assert (kept[1].prompt.parameters == alone.prompt.parameters).all()
    assert kept[0].accuracies.keys() == alone.accuracies.keys()


def test_an_open_pool_has_its_cluster_already(tmp_path: Path) -> None:
    refused = r"^cluster: the pool is open already: give its options to zip_ray.open_pool"
    with zip_ray.open_pool(run_of(tmp_path, 1), **HERE) as pool, pytest.raises(zip_ray.InputError, match=refused):
        zip_ray.tune(run_of(tmp_path, 1), pool=pool, actors=3)
