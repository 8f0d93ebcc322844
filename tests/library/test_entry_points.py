"""User-defined methods, named by an entry point of a distribution installed beside zip-ray."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.command_line import run
from tests.support.paths import ROOT
from zip_ray import registry

PAGE = (ROOT / "docs" / "guides" / "extend.md").read_text(encoding="utf-8")
HERE = ("--cluster.pool=in-process", "--tracking.no-enabled", "--validation.every-queries=20", "--budget.queries=20")


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The metadata that pip leaves for a package with two entry points: `heavy-ball`, the guide's method, and `broken`,
    whose module does not exist."""
    site = tmp_path / "site"
    metadata = site / "balls-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: balls\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[zip_ray.optimizers]\nheavy-ball = heavy_ball:Momentum\nbroken = not_there:Momentum\n"
    )
    code = PAGE.split("```python\n# momentum.py\n")[1].split("```")[0]
    (site / "heavy_ball.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    registry._entries.cache_clear()
    yield site
    registry._entries.cache_clear()
    registry._used["optimizer"].clear()


@pytest.mark.usefixtures("distribution")
def test_a_method_is_chosen_by_its_name_and_resumed(tmp_path: Path) -> None:
    run(tmp_path, "tune", "quickstart", "--method=heavy-ball", "--optimizer.rate=0.01", *HERE, "--output.dir=out")
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["optimizer"]["method"] == "heavy-ball"
    assert "30 queries" in run(tmp_path, "resume", "out", "--budget.queries=30").stdout


@pytest.mark.usefixtures("distribution")
def test_its_options_are_validated_and_one_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    wrong = run(tmp_path, "tune", "quickstart", "--method=heavy-ball", "--optimizer.rate=fast", code=2)
    assert "--optimizer.rate" in wrong.stderr
    assert "--optimizer.friction" in run(tmp_path, "tune", "quickstart", "--method=heavy-ball", "--help").stdout
    broken = run(tmp_path, "tune", "quickstart", "--method=broken", *HERE, code=2)
    assert "optimizer.method: 'broken' cannot be imported" in broken.stderr


@pytest.mark.usefixtures("distribution")
def test_an_unknown_name_lists_it_beside_the_built_in_ones(tmp_path: Path) -> None:
    said = run(tmp_path, "tune", "quickstart", "--method=heavy", *HERE, code=2).stderr
    assert "heavy-ball" in said
    assert "gauss-newton" in said
