"""What MLflow's own columns show of a run: its user and its gain; and the page that its experiment opens with."""

from getpass import getuser
from pathlib import Path
from socket import gethostname
from unittest.mock import MagicMock

import pytest

from tests.support.events import end_event
from zip_ray.config.tracking import TrackingConfig
from zip_ray.runs.mlflow_mirror import metrics_of
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


def test_the_gain_over_zero_shot_is_a_metric() -> None:
    figures = metrics_of(end_event(20, test_accuracy=0.75, zero_shot_accuracy=0.5))
    assert figures["test/gain"] == pytest.approx(0.25)
