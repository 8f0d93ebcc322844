"""What MLflow's own columns show of a run (its user and gain), and the page its experiment opens with."""

from getpass import getuser
from pathlib import Path
from socket import gethostname
from unittest.mock import MagicMock

import pytest

from tests.support.events import end_event, start_event
from zip_ray.config.tracking import TrackingConfig
from zip_ray.config.tree import Config
from zip_ray.runs.mlflow_mirror import description, metrics_of
from zip_ray.runs.mlflow_server import find_or_create_run


def test_a_run_says_who_ran_it_and_where(tmp_path: Path) -> None:
    client = MagicMock()
    client.get_experiment_by_name.return_value, client.search_runs.return_value = None, []
    find_or_create_run(client, TrackingConfig(), tmp_path, 1.0)
    *_, of_experiment = client.create_experiment.call_args.args
    assert of_experiment == {"mlflow.experimentKind": "custom_model_development"}
    tags = client.create_run.call_args.kwargs["tags"]
    assert (tags["mlflow.user"], tags["host"]) == (getuser(), gethostname())
    assert tags["mlflow.source.name"]


@pytest.mark.parametrize(
    ("model", "name"),
    [({"scorer": "clip", "name": "small-clip"}, "small-clip"), ({"scorer": "own:Scorer"}, "own:Scorer")],
)
def test_a_run_is_described_by_its_model_or_its_scorer_and_every_limit(model: dict, name: str) -> None:
    config = Config().model_dump(mode="json")
    config |= {"model": model, "budget": {"queries": None, "seconds": 9.5, "steps": 7, "target_accuracy": None}}
    assert description(start_event(config=config)) == (
        f"`gauss-newton` tunes a prompt of `{name}` for `digits`, 16 images per class, seed 1, within 9.5 seconds and "
        "7 steps."
    )


def test_the_gain_over_zero_shot_is_a_metric() -> None:
    figures = metrics_of(end_event(20, test_accuracy=0.75, zero_shot_accuracy=0.5))
    assert figures["test/gain"] == pytest.approx(0.25)
