"""Manifests whose images have questions, with or without options of their own, and runs on them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.painted import COLOURS, load, paint
from tests.support.scoring import evaluate, score, template_query
from zip_ray.config.reading import validate
from zip_ray.errors import InputError
from zip_ray.scorer.generative import VlmScorers
from zip_ray.scorer.scorer import build_scorer
from zip_ray.tasks.asked_images import Asked, QuestionImages
from zip_ray.vlm.questions import INSTRUCTION

NAMES = list(COLOURS)


def rows(root: Path, options: bool) -> list[dict[str, Any]]:
    """Ten train and six test images, some with two options and some with three."""
    made = []
    for place in range(16):
        colour = NAMES[place % 3]
        paint(root / f"{place}.png", colour)
        row = {"path": f"{place}.png", "split": "train" if place < 10 else "test", "answer": colour}
        row["question"] = f"Which colour is number {place % 2}?"
        if options:
            other = NAMES[(place + 1) % 3]
            row["options"] = [other, colour] if place % 4 else [colour, other, "grey"]
        made.append(row)
    return made


def write(path: Path, table: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, table)))
    return path


def test_options_make_a_multiple_choice(tmp_path: Path) -> None:
    task = load("manifest", write(tmp_path / "a.jsonl", rows(tmp_path, options=True)), shots=2)
    assert task.classnames == ("A", "B", "C")
    assert isinstance(task.test, QuestionImages)
    assert task.test.asked[2] == Asked("Which colour is number 0?", ("red", "green", "grey"))
    for images in (task.train, task.val, task.test):
        assert isinstance(images, QuestionImages)
        for place, label in enumerate(images.labels):
            assert images.image(place).getpixel((0, 0)) == COLOURS[images.asked[place].options[label]]
    assert len(task.train) == 4, "two images of A, two of B, none of C"
    assert not {*task.train.images.paths} & {*task.val.images.paths}


def test_without_options_all_answers_are_candidates(tmp_path: Path) -> None:
    table = rows(tmp_path, options=False)
    lines = ["path,split,question,answer", *(f"{r['path']},{r['split']},{r['question']},{r['answer']}" for r in table)]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    task = load("manifest", tmp_path / "a.csv", shots=2)
    assert task.classnames == ("blue", "green", "red")
    assert task.test.labels.tolist() == [("blue", "green", "red").index(NAMES[place % 3]) for place in range(10, 16)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"answer": "mauve"}, r":1: row: .*the answer 'mauve' is not among the options: correct the row"),
        ({"answer": ""}, r":1: row: .*a question needs its answer: correct the row"),
        ({"options": ["red", "red"]}, r":1: row: .*give up to 26 different options: correct the row"),
        ({"options": []}, r"some rows have a question or options and others none: give all or no row either"),
        ({"question": ""}, r":1: row: .*give label and classname, or question and answer"),
    ],
)
def test_a_wrong_row_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    table = rows(tmp_path, options=True)
    table[0] |= change
    with pytest.raises(InputError, match=said):
        load("manifest", write(tmp_path / "a.jsonl", table), shots=2)


def test_questions_are_no_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(tmp_path, options=True))
    with pytest.raises(InputError, match=r"^task.classes: 'base': images with questions have no classes"):
        load("manifest", path, shots=2, classes="base")
    with pytest.raises(InputError, match=r"^task.root: '.*' has questions, which CLIP does not read"):
        build_scorer(validate({"task": {"name": "manifest", "root": str(path), "shots": 2}}, ""))


def test_each_image_is_scored_by_its_own_question_and_options(painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", rows(tmp_path, options=True))
    tree = {**painted_vlm_run, "task": {"name": "manifest", "root": str(path), "shots": 2}}
    config = validate(tree, "")
    scorer = VlmScorers()(config)
    task = scorer.task
    assert scorer.facts().template == f"{INSTRUCTION} {{}}"
    (found,) = score(scorer, template_query(scorer.facts().template, chunk=0))
    assert found.scores is not None
    assert np.isfinite(found.scores).all()
    for place, asked in enumerate(task.train.asked):
        alone = scorer.scores([f"{INSTRUCTION} {{}}"], "train", np.array([place]))[0, 0]
        own = found.scores[0, place]
        count = len(asked.options)
        assert own[count:].max(initial=-np.inf) < np.logaddexp.reduce(own[:count]) - 40, "options it does not have"
        np.testing.assert_allclose(alone, own, rtol=1e-4)
        other = replace(asked, question="Is it round?")
        scorer.splits["train"] = replace(task.train, asked=(other,) * len(task.train))
        assert np.abs(scorer.scores([f"{INSTRUCTION} {{}}"], "train", np.array([place]))[0, 0] - own).max() > 1e-3
        scorer.splits["train"] = task.train
    assert evaluate(scorer, "test", scorer.facts().template).images == 6
