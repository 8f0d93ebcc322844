"""The tiny vision-language model: its image tower is the small CLIP's, and transformers alone loads and asks it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tools.tiny_vlm.card import accuracy, answer_ids, prompt
from tools.tiny_vlm.model import CHAT, make_model, make_processor, make_tokenizer
from tools.tiny_vlm.questions import Question, ask
from tools.tiny_vlm.train import answer_loss, collate
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig
from zip_ray.config.task import BUILT_IN, TaskConfig
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import TINY_VLM
from zip_ray.tasks import load_task
from zip_ray.tasks.builtin.questions import QUESTIONS
from zip_ray.tasks.builtin.render import random_scene

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def shipped() -> tuple[object, object]:
    model = transformers.AutoModelForImageTextToText.from_pretrained(TINY_VLM).float().eval()
    return model, transformers.AutoProcessor.from_pretrained(TINY_VLM)


def test_its_image_tower_is_the_small_clips(shipped) -> None:
    model, processor = shipped
    clip = load_clip(ModelConfig(), "cpu")
    images = [load_task(TaskConfig(name="digits", shots=1), 1).test.image(i) for i in range(4)]
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        expected = clip.model.visual(torch.stack([clip.preprocess(image) for image in images]))
        tower = model.model.vision_tower(pixels).last_hidden_state[:, 0]
        found = clip.model.visual.ln_post(tower) @ clip.model.visual.proj
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)  # the shipped tower is in half precision


def test_it_answers_questions_about_handwritten_digits(shipped) -> None:
    task = load_task(TaskConfig(name="digits", shots=1), 1)
    assert accuracy(*shipped, task, "What digit is this?") > 0.5


def test_an_image_takes_65_tokens(shipped) -> None:
    _, processor = shipped
    image = load_task(TaskConfig(name="digits", shots=1), 1).test.image(0)
    ids = processor(text=[prompt(processor, "What digit is this?")], images=[image], add_special_tokens=False)[
        "input_ids"
    ]
    assert list(ids[0]).count(processor.image_token_id) == 65
    assert processor.chat_template == CHAT


def test_the_packed_questions_of_training_are_those_of_the_plain_pass() -> None:
    """The mean cross-entropy of the answers' tokens, each question in a sequence of its own."""
    rng = generator(1, Stream.TRAINING, 5)
    asked = [ask(random_scene(rng), rng) for _ in range(3)]
    tokenizer = make_tokenizer([f" {one.text}\n{one.answer}" for questions in asked for one in questions])
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
