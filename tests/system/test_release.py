"""Settings called published match ZIP's release; deviations are documented."""

import pytest

from tests.support.paths import ROOT
from zip_ray.comparison.plan import plan
from zip_ray.comparison.suite import load_suite
from zip_ray.config.reading import load_config

SUITES = ROOT / "configs" / "suites"
PUBLISHED = {"ZIP": "zip", "BAR": "bar", "BlackVIP": "blackvip", "BPT-VLM": "bpt-vlm"}
NO_CROPS = "published gains, no crops"


@pytest.mark.parametrize("name", PUBLISHED.values())
def test_published_method_files_crop_at_each_step(name: str) -> None:
    task = load_config(ROOT / "configs" / "methods" / f"{name}.yaml").task
    assert (task.views, task.crop_scale, task.flip) == ("fresh", (0.08, 1.0), True)


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: path.stem)
def test_rows_of_published_methods_crop_or_say_that_they_do_not(path: object) -> None:
    for one in plan(load_suite(path), ROOT):  # type: ignore[arg-type]
        name = one.method.removesuffix(f", {NO_CROPS}")
        if name in PUBLISHED and path.stem not in {"ablations", "smoke"}:  # type: ignore[attr-defined]
            assert (one.config.task.views == "fresh") == (one.method == name), one.label


@pytest.mark.parametrize("path", sorted(SUITES.glob("paper*.yaml")), ids=lambda path: path.stem)
def test_the_papers_suites_draw_and_deploy_as_released(path: object) -> None:
    runs = plan(load_suite(path), ROOT)  # type: ignore[arg-type]
    assert {(one.config.task.draw, one.config.task.views) for one in runs} == {("coop", "fresh")}
    by_method = {one.method: one.config for one in runs}
    assert by_method["BlackVIP"].prompt.statistics == "running"  # type: ignore[union-attr]
    bpt = by_method["BPT-VLM"].optimizer
    stored = "best" if path.stem == "paper" else "last"  # type: ignore[attr-defined]
    assert (bpt.batches, bpt.incumbent) == ("own", stored)  # type: ignore[union-attr]


def test_the_ablations_have_the_releases_optimisers_in_zips_space() -> None:
    runs = {one.method: one.config for one in plan(load_suite(SUITES / "ablations.yaml"), ROOT)}
    for name, method in (("SPSA", "spsa"), ("SPSA-GC", "spsa-gc")):
        config = runs[f"{name} in ZIP's space"]
        assert (config.optimizer.method, config.prompt) == (method, runs["ZIP"].prompt)


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("reference/method.md", "under fp16 autocast"),
        ("guides/datasets.md", "SVHN is not split as in ZIP's release"),
        ("reference/rivals.md", "is like BBT (Sun et al., ICML 2022), and not BBT"),
        ("measurements/results/README.md", "`spsa` and `spsa-gc` move ZIP's own 417 numbers"),
        ("measurements/results/README.md", "Measured with 20 fixed crops per image"),
        ("measurements/results/README.md", "cuts small digits away"),
        ("measurements/accuracy.md", "cuts small digits away"),
    ],
)
def test_what_differs_is_said(page: str, words: str) -> None:
    assert words in " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
