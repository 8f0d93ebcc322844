"""Options without effect are refused by name; names of earlier versions are reported with the new ones."""

from pathlib import Path

import pytest
import yaml

from zip_ray.config.fields import every_field
from zip_ray.config.inert import RULES, overlay, require_effect
from zip_ray.config.old_names import NEW_NAMES
from zip_ray.config.reading import load_config, validate
from zip_ray.errors import InputError

BELONGS_TO = {
    "optimizer.initial_std": ("optimizer.method gauss-newton", "cma-es"),
    "optimizer.points": ("optimizer.method gauss-newton", "one-sided, random-search"),
    "optimizer.momentum": ("optimizer.method gauss-newton", "spsa-gc"),
    "prompt.encoder": ("prompt.space context", "decoder"),
}


@pytest.mark.parametrize(("path", "why"), BELONGS_TO.items())
def test_an_option_of_another_class_is_refused_with_those_that_have_it(path: str, why: tuple[str, str]) -> None:
    section, name = path.split(".")
    with pytest.raises(InputError) as caught:
        require_effect({section: {name: 5}}, "c.yaml")
    assert str(caught.value) == f"c.yaml: {path}: has no effect with {why[0]}: it belongs to {why[1]}"


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"execution": {"in_flight": 3}}, "execution.in_flight: has no effect with execution.mode sync: leave it out"),
        ({"execution": {"max_staleness": 3}}, "execution.max_staleness: has no effect with execution.mode sync"),
        (
            {"execution": {"mode": "async", "in_flight": 3}},
            "execution.in_flight: has no effect with optimizer.method gauss-newton: leave it out, or change optimizer.",
        ),
        (
            {"execution": {"round_share": 0.8}},
            "execution.round_share: has no effect with execution.mode sync: leave it",
        ),
        (
            {"optimizer": {"method": "zip"}, "execution": {"mode": "async", "round_share": 0.8}},
            "execution.round_share: has no effect with optimizer.method zip: leave it out, or change optimizer.method",
        ),
        ({"task": {"crop_scale": [0.1, 1]}}, "task.crop_scale: has no effect with task.views 0: leave it out"),
        ({"task": {"flip": False, "views": 0}}, "task.flip: has no effect with task.views 0"),
        ({"prompt": {"tokens": 4}}, "prompt.tokens: has no effect with prompt.init auto: leave it out"),
        ({"prompt": {"init": "a photo of a", "tokens": 4}}, "prompt.tokens: has no effect with prompt.init a photo"),
        (
            {"prompt": {"space": "low-rank", "projection": "none", "intrinsic_dimension": 50}},
            "prompt.intrinsic_dimension: has no effect with prompt.projection none",
        ),
        (
            {"cluster": {"pool": "in-process", "actors": 2}},
            "cluster.actors: has no effect with cluster.pool in-process",
        ),
        (
            {"tracking": {"enabled": False, "uri": "x"}},
            "tracking.uri: has no effect with tracking.enabled false: leave it out, or change tracking.enabled",
        ),
        (
            {"optimizer": {"method": "gradient"}, "execution": {"split": "auto"}},
            "execution.split: has no effect with optimizer.method gradient: leave it out, or change optimizer.method",
        ),
        ({"model": {"name": "local-dir:x", "pretrained": "y"}}, "model.pretrained: has no effect with model.name loc"),
        (
            {"optimizer": {"method": "spsa", "step_size_decay": 0, "step_size_offset": 3}},
            "optimizer.step_size_offset: has no effect with optimizer.step_size_decay 0",
        ),
    ],
)
def test_an_option_that_another_leaves_without_effect_is_refused(tree: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        require_effect(tree)
    assert str(caught.value).startswith(message)


def test_an_option_with_an_effect_is_not() -> None:
    require_effect(
        {
            "task": {"views": "fresh", "crop_scale": [0.1, 1], "flip": False},
            "model": {"name": "ViT-B-16", "pretrained": "openai"},
            "prompt": {"space": "tokens", "tokens": 4},
            "optimizer": {"method": "spsa", "momentum": None},  # None gives nothing
            "execution": {"mode": "async", "in_flight": 3, "split": "auto"},
            "cluster": {"actors": 3},
            "tracking": {"uri": "x", "name": "y"},
        }
    )
    require_effect({"execution": {"mode": "async", "round_share": 0.8}})


def test_rules_name_fields() -> None:
    fields = every_field()
    for rule in RULES:
        assert rule.chooser in fields
        assert not set(rule.fields) - fields.keys()


def test_a_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"optimizer": {"population": 99}}))
    with pytest.raises(InputError, match=r"c\.yaml: optimizer\.population: has no effect with optimizer\.method gauss"):
        load_config(tmp_path / "c.yaml")


def test_a_later_choice_leaves_out_what_the_earlier_layer_says_for_the_alternative() -> None:
    file = {"cluster": {"actors": 3, "start_timeout": 9}, "prompt": {"init": "random", "tokens": 4}}
    tree = overlay(file, {"cluster": {"pool": "in-process"}, "prompt": {"init": "template"}})
    assert tree == {"cluster": {"pool": "in-process"}, "prompt": {"init": "template"}}


def test_a_later_method_brings_its_space() -> None:
    file = {"optimizer": {"method": "zip", "step_size": 1}, "prompt": {"init": "template", "intrinsic_dimension": 300}}
    method = {"optimizer": {"method": "gauss-newton"}}
    assert overlay(file, method) == {**method, "prompt": {"init": "template"}}
    file["prompt"]["space"] = "low-rank"
    assert overlay(file, method) == {**file, **method}


def test_what_the_choosing_layer_itself_gives_stays_to_be_refused() -> None:
    tree = overlay({"cluster": {"actors": 3}}, {"cluster": {"pool": "in-process", "actors": 4}})
    assert tree == {"cluster": {"pool": "in-process", "actors": 4}}
    tree = overlay({"cluster": {"pool": "in-process"}}, {"cluster": {"actors": 4}})
    assert tree == {"cluster": {"pool": "in-process", "actors": 4}}


@pytest.mark.parametrize("old", NEW_NAMES)
def test_a_name_of_an_earlier_version_leads_to_the_new_one(old: str) -> None:
    section, name = old.split(".")
    with pytest.raises(InputError) as caught:
        validate({section: {name: 1}}, "c.yaml")
    assert str(caught.value) == f"c.yaml: {old}: this is now {NEW_NAMES[old]}"
    assert old not in every_field()


def test_new_names_are_there() -> None:
    named = {word.rstrip(",") for new in NEW_NAMES.values() for word in new.split() if "." in word}
    assert named <= every_field().keys()
