"""Every data set of the papers has a miniature, a place in configs/coop.yaml, and a row of the page."""

import re

import open_clip

from tests.support.coop_miniatures import EXPECTED, LAYOUTS
from tests.support.paths import ROOT
from zip_ray.config.reading import load_config
from zip_ray.config.shipped import purpose
from zip_ray.tasks.coop.data_sets import SETS

FILE = ROOT / "configs" / "coop.yaml"
COMMENT = " ".join(line.removeprefix("#") for line in FILE.read_text(encoding="utf-8").splitlines() if line[:1] == "#")
TRAINED = {name for name, (_, _, images) in EXPECTED.items() if images[0]}
"""The data sets that have training images."""


def test_every_set_has_a_miniature() -> None:
    assert SETS.keys() == LAYOUTS.keys() == EXPECTED.keys()


def test_the_file_names_every_set_and_how_to_use_it() -> None:
    tuned, tested = re.fullmatch(r"(.* with NAME one of .*)( The variants of ImageNet .*)", COMMENT).groups()
    assert set(re.findall(r"\w+", tuned)) & SETS.keys() == TRAINED
    assert set(re.findall(r"\w+", tested)) & SETS.keys() == SETS.keys() - TRAINED
    assert purpose(FILE).startswith("The data sets of CoOp's and ZIP's papers")


def test_the_file_is_of_the_published_model() -> None:
    config = load_config(FILE)
    assert config.task.name.removeprefix("coop:") in TRAINED
    assert config.model.name.startswith("ViT-B-16")
    weights = open_clip.get_pretrained_cfg(config.model.name, config.model.pretrained)
    assert open_clip.get_model_config(config.model.name)["quick_gelu"] is weights["quick_gelu"] is True


def test_the_page_lists_every_set() -> None:
    page = (ROOT / "docs" / "guides" / "datasets.md").read_text(encoding="utf-8")
    for name, spec in SETS.items():
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        assert f"| {spec.folder} |" in row
        assert spec.images == "." or spec.images in row
        assert spec.split is None or spec.split in row
