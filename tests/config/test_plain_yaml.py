"""YAML without surprises: duplicate keys and misleading scalars are errors that give their line."""

from pathlib import Path

import pytest

from zip_ray.comparison.suite import load_suite
from zip_ray.config.plain_yaml import YamlFault, load_yaml
from zip_ray.config.reading import load_config, validate
from zip_ray.errors import InputError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: {shots: 4}\nseed: 2\ntask: {name: count}\n", ":3: task: given twice, in line 1 too: keep one"),
        ("task:\n  shots: 4\n  shots: 5\n", ":3: shots: given twice, in line 2 too"),
        ("seed: 1\ntask:\n  shots: 010\n", r":3: shots: 010: YAML reads it as 8: write that, or put it in quotes"),
        ("budget: {queries: 1:30}\n", r":1: queries: 1:30: YAML reads it as 90"),
        ("budget:\n  minutes: 1:30.5\n", r":2: minutes: 1:30.5: YAML reads it as 90.5"),
        ("tracking:\n  enabled: off\n", r":2: enabled: off: YAML reads it as false"),
        ("cluster:\n  actors: [2, 010]\n", r":2: 010: YAML reads it as 8"),
        ("task:\n  name: [\n", r":3: not YAML: "),
        ("seed: true\n", r":1: seed: true is a truth value: give"),
        ("seed: 1\ntask:\n  name: digits\n  shots: true\n", r":4: task\.shots: true is a truth value: give"),
        ("seed: 1\ntask:\n  shots: many\n", r":3: task\.shots: 'many': Input should be a valid integer"),
        ("seed: 1\ncluster:\n  actors:\n  - 2\n  - true\n", r":3: cluster\.actors: true is a truth value"),
        ("optimizer: {method: zip, step_size: true}\n", r":1: optimizer\.step_size: true is a truth value"),
    ],
)
def test_what_misleads_in_a_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=rf"c\.yaml{message}") as caught:
        load_config(tmp_path / "c.yaml")
    assert "\n" not in str(caught.value)


def test_a_suite_is_read_by_the_same_rules(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: s\nmethods:\n  a: {}\n  a: {seed: 2}\n")
    with pytest.raises(InputError, match=r"s.yaml:4: a: given twice, in line 3 too"):
        load_suite(tmp_path / "s.yaml")


def test_a_fault_in_a_suite_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "name: s\ntasks: {digits: {}}\nmethods: {a: {}}\nbase:\n  seed: 1\nshots: [true]\n"
    )
    with pytest.raises(InputError, match=r"s.yaml:6: shots: true is a truth value"):
        load_suite(tmp_path / "s.yaml")


def test_what_is_plain_is_read() -> None:
    text = "a: [0, -3, 1_000, 0xff, 1.5, true, False, '010', 08, '1:30', yes sir, null]"
    assert load_yaml(text) == {"a": [0, -3, 1000, 255, 1.5, True, False, "010", "08", "1:30", "yes sir", None]}
    assert load_yaml("a: &one {b: 1}\nc: {<<: *one, b: 2}") == {"a": {"b": 1}, "c": {"b": 2}}


def test_options_are_read_by_the_same_rules() -> None:
    with pytest.raises(YamlFault, match="010: YAML reads it as 8"):
        load_yaml("010")
    assert validate({"tracking": {"enabled": True}}, "x").tracking.enabled
