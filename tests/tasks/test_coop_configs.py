"""Every data set of the papers has a config that opens with its command, a row of the page, and a miniature."""

from pathlib import Path

import open_clip

from tests.support.coop_miniatures import EXPECTED, LAYOUTS
from tests.support.faults import check_each
from tests.support.paths import ROOT
from zip_ray.config.reading import load_config
from zip_ray.tasks.coop.data_sets import SETS


def test_every_set_has_a_miniature_and_a_config() -> None:
    assert SETS.keys() == LAYOUTS.keys() == EXPECTED.keys()
    assert {path.stem for path in (ROOT / "configs" / "datasets").glob("*.yaml")} == SETS.keys()


def test_configs_open_with_their_command_and_name_their_set() -> None:
    check_each((ROOT / "configs" / "datasets").glob("*.yaml"), opens_with_its_command_and_names_its_set)


def opens_with_its_command_and_names_its_set(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    testing_only = EXPECTED[path.stem][2][0] == []
    command = f"evaluate RUN --task.name coop:{path.stem}" if testing_only else f"tune configs/datasets/{path.name}"
    assert first == f"# python run.py {command} --task.root DATA"
    config = load_config(path)
    assert config.task.name == f"coop:{path.stem}"
    assert config.model.name.startswith("ViT-B-16")
    weights = open_clip.get_pretrained_cfg(config.model.name, config.model.pretrained)
    assert open_clip.get_model_config(config.model.name)["quick_gelu"] is weights["quick_gelu"] is True


def test_the_page_lists_every_set() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name, spec in SETS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"| {spec.folder} |" in row
        assert spec.images == "." or spec.images in row
        assert spec.split is None or spec.split in row
