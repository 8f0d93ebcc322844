"""The tiny vision-language model: its image tower is the small CLIP's, and transformers alone loads and asks it."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tools.tiny_vlm.card import accuracy, answer_ids, prompt
from tools.tiny_vlm.model import CHAT, make_model, make_processor, make_tokenizer
from tools.tiny_vlm.questions import Question, ask
from tools.tiny_vlm.train import Options, answer_loss, collate
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.task import BUILT_IN, TaskConfig
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import TINY_VLM
from zip_ray.tasks import load_task
from zip_ray.tasks.builtin.question_texts import QUESTIONS
from zip_ray.tasks.builtin.render import random_scene

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def shipped() -> tuple[object, object]:
    model = transformers.AutoModelForImageTextToText.from_pretrained(TINY_VLM).float().eval()
    return model, transformers.AutoProcessor.from_pretrained(TINY_VLM)


def test_its_image_tower_is_the_small_clips(shipped) -> None:
    model, _ = shipped
    visual = load_clip(ModelConfig(), "cpu").model.visual
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = visual(pixels)
        tower = model.model.vision_tower(pixels).last_hidden_state[:, 0]
        found = visual.ln_post(tower) @ visual.proj
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_its_command_line_makes_the_shipped_files() -> None:
    """By default with the settings the model file was trained with."""
    facts = json.loads((TINY_VLM / "training.json").read_text(encoding="utf-8"))
    options = asdict(Options())
    assert {name: facts[name] for name in options.keys() & facts.keys()} == {
        name: options[name] for name in options.keys() & facts.keys()
    }
    assert {"images", "steps", "batch_size", "learning_rate", "weight_decay", "seed", "threads"} <= facts.keys()


def test_it_takes_at_most_8_megabytes() -> None:
    assert sum(file.stat().st_size for file in TINY_VLM.iterdir()) <= 8e6


def test_it_answers_questions_about_handwritten_digits(shipped) -> None:
    task = load_task(TaskConfig(name="digits", shots=1), 1)
    assert accuracy(*shipped, replace(task, test=task.val), "What digit is this?") > 0.5  # validation images: few


def test_an_image_takes_65_tokens(shipped) -> None:
    _, processor = shipped
    image = load_task(TaskConfig(name="digits", shots=1), 1).test.image(0)
    ids = processor(text=[prompt(processor, "What digit is this?")], images=[image], add_special_tokens=False)[
        "input_ids"
    ]
    assert list(ids[0]).count(processor.image_token_id) == 65
    assert processor.chat_template == CHAT


def test_the_packed_questions_of_training_are_those_of_the_plain_pass() -> None:
    """The mean cross-entropy of the answers' tokens, each question in a separate sequence."""
    rng = generator(1, Stream.TRAINING, 5)
    asked = [ask(random_scene(rng), rng) for _ in range(3)]
    tokenizer = make_tokenizer([f"{one.text}\n{one.answer}" for questions in asked for one in questions])
    model, processor = make_model(tokenizer, 1).eval(), make_processor(tokenizer)
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        features = model.model.vision_tower(pixels).last_hidden_state
        packed = answer_loss(model, features, collate(tokenizer, asked, features.shape[1]))
        losses = [
            plain(model, processor, pixels[i : i + 1], one) for i, questions in enumerate(asked) for one in questions
        ]
    torch.testing.assert_close(packed, torch.cat(losses).mean(), atol=1e-5, rtol=1e-5)


def plain(model, processor, pixels: torch.Tensor, question: Question) -> torch.Tensor:
    """Cross-entropy of each token of the answer, shape (tokens,)."""
    text = prompt(processor, question.text).replace(processor.image_token, processor.image_token * 65)
    start, answer = (
        processor.tokenizer(text, add_special_tokens=False)["input_ids"],
        answer_ids(processor, question.answer),
    )
    logits = model(input_ids=torch.tensor([[*start, *answer]]), pixel_values=pixels).logits[0]
    return functional.cross_entropy(logits[len(start) - 1 : -1], torch.tensor(answer), reduction="none")


def test_every_built_in_task_has_questions() -> None:
    assert QUESTIONS.keys() == BUILT_IN.keys()
    assert all(len(questions) > 1 for questions in QUESTIONS.values())
    assert all(np.unique(questions).size == len(questions) for questions in QUESTIONS.values())
