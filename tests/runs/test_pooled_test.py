"""`zip-ray evaluate` on Ray actors."""

from pathlib import Path

import pytest

from tests.support.command_line import run
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.config.reading import load_config
from zip_ray.pool.in_process import InProcessPool
from zip_ray.runs.pooled_test import score_on_pool
from zip_ray.scorer.scorer import build_scorer


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    options = ("--cluster.pool=in-process", "--tracking.no-enabled", "--budget.queries=40", "--task.shots=2")
    run(folder, "tune", "quickstart", *options, "--task.name=texture", "--output.dir=out")
    return folder


def test_actors_say_what_one_process_does(tuned: Path, ray_cluster: str) -> None:
    """Including predictions and the readout."""
    alone = run(tuned, "evaluate", "out", "--output=alone").stdout
    actors = (f"--cluster.address={ray_cluster}", "--cluster.actors=1")
    pooled = run(tuned, "evaluate", "out", "--output=pooled", *actors).stdout
    assert "tuned + readout" in alone
    assert pooled.replace("pooled", "alone") == alone
    assert (tuned / "pooled/confusion.csv").read_text() == (tuned / "alone/confusion.csv").read_text()
    rows, same = ((tuned / place / "predictions.csv").read_text().splitlines() for place in ("alone", "pooled"))
    for row, other in zip(rows, same, strict=True):  # probabilities are rounded
        assert [cell for cell in row.split(",") if cell.isalpha()] == [c for c in other.split(",") if c.isalpha()]


def test_a_long_test_says_how_many_images_are_done(tuned: Path) -> None:
    prompt = TunedPrompt.load(tuned / "out")
    config = load_config(tuned / "out/config.yaml")
    told: list[tuple[int, int]] = []
    found = score_on_pool(prompt, InProcessPool(lambda: build_scorer(config)), lambda *images: told.append(images))
    count = len(found["tuned"])
    assert told.count((count, count)) == len(told) >= 2, "each prompt's images are one part here"


def test_without_the_runs_config_actors_have_no_model(tuned: Path, tmp_path: Path) -> None:
    for file in (tuned / "out").glob("tuned_prompt.*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    asked = ("evaluate", "tuned_prompt.safetensors", "--task.name=texture", "--task.shots=2")
    run(tmp_path, *asked)
    assert "no config.yaml" in run(tmp_path, *asked, "--cluster.actors=2", code=2).stderr
