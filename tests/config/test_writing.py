"""A config written as YAML is readable and can be read back."""

from pathlib import Path

import pytest
import yaml

from zip_ray.config.reading import load_config, read_tree, validate
from zip_ray.config.tree import Config
from zip_ray.config.writing import to_yaml
from zip_ray.errors import InputError
from zip_ray.optimizers import METHODS

ZIP = {"optimizer": {"method": "zip"}}
IN_PROCESS = {"cluster": {"pool": "in-process"}, "tracking": {"enabled": False}}
SPECIAL = {
    "seed": 7,
    "task": {"shots": 4, "views": "fresh", "crop_scale": [0.2, 0.9], "template": "a: {} # \u00e9"},
    "prompt": {"space": "tokens", "tokens": 3},
    "optimizer": {"method": "spsa", "step_size": 1e-5},
    "budget": {"queries": None, "seconds": 3},
    "cluster": {"actors": [1, 4]},
    "execution": {"mode": "async", "split": "auto"},
}


@pytest.mark.parametrize(
    "tree", [{}, ZIP, SPECIAL, {"cluster": {"pool": "in-process"}, "tracking": {"enabled": False}}]
)
def test_it_reads_back(tree: dict, tmp_path: Path) -> None:
    config = validate(tree, "x")
    (tmp_path / "c.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == config


def test_what_differs_comes_first_and_is_marked() -> None:
    text = to_yaml(validate({"budget": {"seconds": 3.0}, "optimizer": {"method": "spsa-gc", "momentum": 0.5}}, "x"))
    lines = text.splitlines()
    assert lines[:4] == [
        "optimizer:",
        "  method: spsa-gc # default gauss-newton",
        "  momentum: 0.5 # default 0.8",
        "  loss: cross-entropy",
    ]
    place = lines.index("budget:")
    assert lines[place + 1 : place + 3] == ["  seconds: 3.0 # default null", "  queries: 5000"]
    assert lines.index("seed: 1") > place
    assert text.count("#") == 3


@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_brings_is_a_default(method: str) -> None:
    text = to_yaml(validate({"optimizer": {"method": method}}, "x"))
    assert text.count("#") == (method != "gauss-newton")


def test_what_has_no_effect_is_left_out() -> None:
    tree = yaml.safe_load(to_yaml(Config()))
    assert not {"in_flight", "max_staleness", "round_share"} & tree["execution"].keys()
    assert not {"crop_scale", "flip"} & tree["task"].keys()
    tree = yaml.safe_load(to_yaml(validate({"cluster": {"pool": "in-process"}}, "x")))
    assert tree["cluster"] == {"pool": "in-process"}


@pytest.mark.parametrize(("text", "schema"), [("seed: 1\n", 1), ("schema_version: 3\nseed: 1\n", 3)])
def test_a_file_that_another_version_wrote_is_refused(text: str, schema: int, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"config.yaml: written by an.* version of zip-ray \(schema {schema}, this"):
        read_tree(tmp_path / "config.yaml", written=True)
