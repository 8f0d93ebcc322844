"""The model card, written from the shipped file: `python -m tools.small_clip.card`."""

import json

import torch

from tools.small_clip.train import MODEL_CONFIG
from zip_ray.clip.image_features import split_features
from zip_ray.clip.loading import FrozenClip, load_clip, weights_digest
from zip_ray.clip.plain_text import encode_texts
from zip_ray.config.model import ModelConfig
from zip_ray.config.task import BUILT_IN, TaskConfig
from zip_ray.shipped import SMALL_CLIP
from zip_ray.tasks import Task, load_task
from zip_ray.tasks.builtin.draw import fonts
from zip_ray.tasks.builtin.render import SHARES, STYLES

CARD = SMALL_CLIP / "MODEL_CARD.md"


def zero_shot() -> dict[str, dict[str, float]]:
    """Test accuracy of every hand-written template of every built-in task, in evaluation mode, from the file."""
    clip = load_clip(ModelConfig(), "cpu")
    tasks = (load_task(TaskConfig(name=name, shots=1), seed=1) for name in BUILT_IN)  # few shots: only tests are used
    return {task.name: accuracies(clip, task) for task in tasks}


def accuracies(clip: FrozenClip, task: Task) -> dict[str, float]:
    """Test accuracy of every hand-written template of a task, the plain one first."""
    images, labels = split_features(clip, task.test), torch.from_numpy(task.test.labels)
    found = {}
    for template in task.templates:
        texts = [template.replace("{}", classname) for classname in task.classnames]
        text = encode_texts(clip.model, clip.tokenizer, texts)
        found[template] = float(((images @ text.T).argmax(dim=1) == labels).double().mean())
    return found


def card() -> str:
    """The card as Markdown."""
    facts = json.loads((SMALL_CLIP / "training.json").read_text(encoding="utf-8"))
    vision, text = MODEL_CONFIG["vision_cfg"], MODEL_CONFIG["text_cfg"]
    size = (SMALL_CLIP / "model.safetensors").stat().st_size / 1e6
    digest = weights_digest(load_clip(ModelConfig(), "cpu").model.state_dict())
    lines = [
        "# The small CLIP of zip-ray",
        "",
        "Made by `python -m tools.small_clip.train`; this card by `python -m tools.small_clip.card`.",
        "For tests, benchmarks and a first try on a laptop: it was trained on rendered pictures, not on photographs.",
        "",
        "| | |",
        "|---|---|",
        f"| parameters | {facts['parameters']:,}, of which the token table {text['vocab_size'] * text['width']:,} |",
        f"| file | {size:.1f} MB, half precision, weights' digest {digest[:16]} |",
        f"| image tower | ViT, {vision['image_size']} px, patch {vision['patch_size']}, width {vision['width']}, "
        f"{vision['layers']} layers |",
        f"| text tower | causal, context length {text['context_length']}, width {text['width']}, "
        f"{text['layers']} layers, CLIP's tokenizer |",
        f"| data | {facts['images']:,} rendered images ({', '.join(f'{k} {v:.0%}' for k, v in SHARES.items())}) in "
        f"{len(STYLES)} styles ({', '.join(STYLES)}), {len(fonts())} fonts of matplotlib, digits also by hand-drawn "
        "strokes; a new caption and a small shift each time an image is shown |",
        f"| training | {facts['steps']} steps of {facts['batch_size']} images, AdamW, learning rate "
        f"{facts['learning_rate']:g}, weight decay {facts['weight_decay']:g}, bfloat16, seed {facts['seed']} |",
        f"| time | {facts['minutes']:.0f} minutes on {facts['threads']} CPU threads shared with other work, "
        f"torch {facts['torch']} |",
        "| licence | MIT, as the project; the fonts' own licences (Bitstream Vera, STIX, BaKoMa) "
        "allow pictures of their glyphs |",
        "",
        "No image of the UCI digits was used in training. How they were scanned (8 x 8 means over a cut-out character) "
        "was imitated, and a look at eighty of them shaped the strokes.",
        "",
        "## Zero-shot accuracy on the test images, evaluation mode",
        "",
        "| task | template | accuracy |",
        "|---|---|---|",
    ]
    for name, templates in zero_shot().items():
        lines += [f"| {name} | {template} | {accuracy:.1%} |" for template, accuracy in templates.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    CARD.write_text(card(), encoding="utf-8")
    print(CARD.read_text(encoding="utf-8"))
