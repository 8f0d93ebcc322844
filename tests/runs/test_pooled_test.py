"""`zip-ray evaluate` on Ray actors."""

from pathlib import Path

import pytest

from tests.support.command_line import run


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    options = ("--cluster.pool=in-process", "--tracking.no-enabled", "--budget.queries=40", "--task.shots=2")
    run(folder, "tune", "quickstart", *options, "--task.name=texture", "--output.dir=out")
    return folder


def test_actors_say_what_one_process_does(tuned: Path, ray_cluster: str) -> None:
    """Predictions and all; the readout is among them."""
    alone = run(tuned, "evaluate", "out", "--output=alone").stdout
    actors = (f"--cluster.address={ray_cluster}", "--cluster.actors=1")
    pooled = run(tuned, "evaluate", "out", "--output=pooled", *actors).stdout
    assert "tuned + readout" in alone
    assert pooled.replace("pooled", "alone") == alone
    assert (tuned / "pooled/confusion.csv").read_text() == (tuned / "alone/confusion.csv").read_text()
    rows, same = ((tuned / place / "predictions.csv").read_text().splitlines() for place in ("alone", "pooled"))
    for row, other in zip(rows, same, strict=True):  # probabilities are rounded
        assert [cell for cell in row.split(",") if cell.isalpha()] == [c for c in other.split(",") if c.isalpha()]


def test_without_the_runs_config_actors_have_no_model(tuned: Path, tmp_path: Path) -> None:
    for file in (tuned / "out").glob("tuned_prompt.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    asked = ("evaluate", "tuned_prompt.safetensors", "--task.name=texture", "--task.shots=2")
    run(tmp_path, *asked)
    assert "no config.yaml" in run(tmp_path, *asked, "--cluster.actors=2", code=2).stderr
