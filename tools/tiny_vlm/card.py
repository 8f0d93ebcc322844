"""The model card, written from the shipped files: `python -m tools.tiny_vlm.card`."""

import json
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from tools.tiny_vlm.model import HEADS, INNER, KEY_VALUE_HEADS, LAYERS, WIDTH
from zip_ray.config.task import BUILT_IN, TaskConfig
from zip_ray.shipped import TINY_VLM
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.builtin.question_texts import QUESTIONS

CARD = TINY_VLM / "MODEL_CARD.md"
MOST_IMAGES = 100
"""Test images per task, spread evenly."""


def zero_shot() -> dict[str, dict[str, float]]:
    """By task and hand-written question: the share of test images whose right answer has the highest likelihood."""
    model = AutoModelForImageTextToText.from_pretrained(TINY_VLM).float().eval()
    processor = AutoProcessor.from_pretrained(TINY_VLM)
    tasks = (load_task(TaskConfig(name=name, shots=1), seed=1) for name in BUILT_IN)  # few shots: only tests are used
    return {task.name: {one: accuracy(model, processor, task, one) for one in QUESTIONS[task.name]} for task in tasks}


@torch.inference_mode()
def accuracy(model: Any, processor: Any, task: Task, question: str) -> float:
    """Of answers chosen by their likelihood, by the library's own pass over whole sequences."""
    count = min(MOST_IMAGES, len(task.test))
    chosen = np.linspace(0, len(task.test) - 1, count).astype(int)
    answers = [answer_ids(processor, name) for name in task.classnames]
    longest = max(map(len, answers))
    pixels = processor.image_processor([task.test.image(i) for i in chosen], return_tensors="pt")["pixel_values"]
    asked = processor(text=[prompt(processor, question)], images=[task.test.image(0)], add_special_tokens=False)
    start = list(asked["input_ids"][0])
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([[*start, *answer, *[pad] * (longest - len(answer))] for answer in answers])
    likelihoods = []
    for pixel in pixels:
        logits = model(input_ids=ids, pixel_values=pixel.expand(len(ids), -1, -1, -1)).logits
        found = logits[:, len(start) - 1 : -1].log_softmax(-1).gather(2, ids[:, len(start) :, None])[..., 0]
        mask = torch.tensor([[place < len(answer) for place in range(longest)] for answer in answers])
        likelihoods.append((found * mask).sum(1).numpy())
    return float(np.mean(np.argmax(likelihoods, axis=1) == task.test.labels[chosen]))


def prompt(processor: Any, question: str) -> str:
    """What a sequence begins with, up to the answer."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text: str = processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False)
    return text


def answer_ids(processor: Any, answer: str) -> list[int]:
    """Tokens of an answer with the one that ends it."""
    tokenizer = processor.tokenizer
    return [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def card() -> str:
    """The card as Markdown."""
    facts = json.loads((TINY_VLM / "training.json").read_text(encoding="utf-8"))
    size = sum(file.stat().st_size for file in TINY_VLM.iterdir() if file != CARD) / 1e6
    lines = [
        "# The tiny vision-language model of zip-ray",
        "",
        "Made by `python -m tools.tiny_vlm.train`; this card by `python -m tools.tiny_vlm.card`.",
        "A LLaVA for tests, benchmarks and a first try on a laptop, trained on questions about rendered pictures.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {facts['parameters']:,}, of which {facts['trained']:,} were trained here |",
        f"| files | {size:.1f} MB, weights in half precision |",
        "| image tower | that of the small CLIP, frozen: last layer, class token and 64 patches: 65 tokens per image |",
        f"| decoder | Llama, {LAYERS} layers of width {WIDTH}, {HEADS} heads, {KEY_VALUE_HEADS} for keys and values, "
        f"feed-forward width {INNER}, embedding and head tied |",
        "| tokenizer | byte-level BPE, made from the questions |",
        f"| data | {facts['images']:,} rendered images, none of them one of the small CLIP's; five questions each time "
        "that an image is shown: its content, two colours, style, kind |",
        f"| training | {facts['steps']} steps of {facts['batch_size']} images, AdamW, learning rate "
        f"{facts['learning_rate']:g}, weight decay {facts['weight_decay']:g}, seed {facts['seed']} |",
        f"| time | {facts['minutes']:.0f} minutes on {facts['threads']} CPU threads shared with other work, torch "
        f"{facts['torch']}, transformers {facts['transformers']} |",
        "| licence | MIT, as the project; the fonts' own licences (Bitstream Vera, STIX, BaKoMa) allow pictures of "
        "their glyphs |",
        "",
        "No image of the UCI digits was used in training, nor any image of a built-in task.",
        "",
        "## Zero-shot accuracy on test images",
        "",
        f"The class name with the highest likelihood as an answer; up to {MOST_IMAGES} images per task.",
        "",
        "| task | question | accuracy |",
        "|---|---|---|",
    ]
    for name, questions in zero_shot().items():
        lines += [f"| {name} | {question} | {share:.1%} |" for question, share in questions.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    CARD.write_text(card(), encoding="utf-8")
    print(CARD.read_text(encoding="utf-8"))
