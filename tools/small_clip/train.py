"""Train the small CLIP: `python -m tools.small_clip.train --help`.

Rendered images are made once and shown in several epochs, shifted at random, each time with a new caption.
Equal captions in a mini-batch are one text, a positive of all its images (one-hot targets would count them as wrong).
"""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import tyro
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import SMALL_CLIP
from zip_ray.tasks.builtin.render import IMAGE_SIZE, Images, Scene, caption, random_scene, render

MODEL_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 4, "width": 128, "layers": 5, "head_width": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 3},
}
PREPROCESS_CONFIG: dict[str, Any] = {
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
LARGEST_SCALE = float(np.log(100))
SHIFT = 2
"""Largest random shift of a training image, pixels."""


@dataclass(frozen=True)
class Options:
    """Train the small CLIP that ships with zip-ray on images it renders itself."""

    out: Path = SMALL_CLIP
    """Folder to write open_clip_config.json, model.safetensors and training.json to."""
    images: int = 200_000
    """Rendered images."""
    steps: int = 1400
    """Updates."""
    batch_size: int = 256
    """Images per update."""
    learning_rate: float = 1e-3
    """Peak of the schedule: linear warm-up over the first twentieth, then a half cosine to zero."""
    weight_decay: float = 0.1
    """Decoupled weight decay (AdamW) of matrices; the token table, gains and biases have none."""
    seed: int = 1
    """Keys the images, captions, order and initial weights."""
    threads: int = 2
    """CPU threads, and processes that render."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    save_every: int = 250
    """Updates between two saves of the weights."""


def main(options: Options) -> None:
    """Render, train, save."""
    started = time.monotonic()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)  # initial weights: torch's own initialisers take no generator
    scenes, images = render_all(options)
    print(f"{len(images)} images rendered in {time.monotonic() - started:.0f} s", flush=True)
    model = CLIP(**MODEL_CONFIG).to(options.device)
    tokenizer = open_clip.SimpleTokenizer(context_length=MODEL_CONFIG["text_cfg"]["context_length"])
    optimizer = make_optimizer(model, options)
    for step, batch in enumerate(batches(options), start=1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        rng = generator(options.seed, Stream.TRAINING, 2, step)
        pixels = normalise(shifted(images[batch], rng)).to(options.device)
        captions = [caption(scenes[i], rng) for i in batch]
        with torch.autocast(options.device, torch.bfloat16):
            loss = contrastive_loss(model, tokenizer, pixels, captions)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, LARGEST_SCALE)
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
        if step % options.save_every == 0 or step == options.steps:
            save(model, options, step, time.monotonic() - started)


def render_all(options: Options) -> tuple[list[Scene], Images]:
    """The training images, shape (n, side, side, 3), and what they show."""
    chunks = np.array_split(np.arange(options.images), max(1, options.images // 2000))
    with ProcessPoolExecutor(options.threads) as pool:
        parts = list(pool.map(_render_chunk, [options.seed] * len(chunks), chunks))
    return [scene for scenes, _ in parts for scene in scenes], np.concatenate([images for _, images in parts])


def _render_chunk(seed: int, indices: Sequence[int]) -> tuple[list[Scene], Images]:
    scenes, images = [], []
    for index in indices:
        rng = generator(seed, Stream.TRAINING, 0, int(index))
        scenes.append(random_scene(rng))
        images.append(render(scenes[-1], rng))
    return scenes, np.stack(images)


def batches(options: Options) -> Iterator[np.ndarray[Any, Any]]:
    """Indices of each update's images: epochs in keyed order, partial batches dropped."""
    per_epoch = options.images // options.batch_size
    for step in range(options.steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            order = generator(options.seed, Stream.TRAINING, 1, epoch).permutation(options.images)
        yield order[place * options.batch_size : (place + 1) * options.batch_size]


def shifted(images: Images, rng: np.random.Generator) -> Images:
    """The images, moved together by up to SHIFT pixels each way; the edge is repeated."""
    dy, dx = rng.integers(0, 2 * SHIFT + 1, 2)
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    return padded[:, dy : dy + IMAGE_SIZE, dx : dx + IMAGE_SIZE]


def normalise(images: Images) -> Tensor:
    """Pixels as the model takes them, shape (n, 3, side, side)."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(PREPROCESS_CONFIG[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


def contrastive_loss(model: CLIP, tokenizer: Any, pixels: Tensor, captions: list[str]) -> Tensor:
    """Symmetric cross-entropy between images and distinct captions (Radford et al., 2021, with shared positives)."""
    texts = sorted(set(captions))
    place = {text: i for i, text in enumerate(texts)}
    target = torch.tensor([place[text] for text in captions], device=pixels.device)
    image = functional.normalize(model.encode_image(pixels).float(), dim=-1)
    text = functional.normalize(encode_cropped(model, tokenizer(texts).to(pixels.device)).float(), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T
    positive = functional.one_hot(target, len(texts)).float()
    to_image = -(positive / positive.sum(0) * functional.log_softmax(logits, dim=0)).sum(0)
    weight = positive.sum(0) / len(captions)
    return (functional.cross_entropy(logits, target) + (weight * to_image).sum()) / 2


def encode_cropped(model: CLIP, ids: Tensor) -> Tensor:
    """`encode_text` without the positions after the longest caption: a causal tower cannot see them."""
    length = int(ids.argmax(dim=1).max()) + 1
    x = model.token_embedding(ids[:, :length]) + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=1)]
    features: Tensor = x @ model.text_projection
    return features


def make_optimizer(model: CLIP, options: Options) -> torch.optim.Optimizer:
    """AdamW with decay on the towers' matrices only."""
    decayed = [p for n, p in model.named_parameters() if p.ndim >= 2 and "embedding" not in n]
    free = [p for n, p in model.named_parameters() if p.ndim < 2 or "embedding" in n]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))


def learning_rate(step: int, options: Options) -> float:
    """Linear warm-up over the first twentieth of the steps, then a half cosine to zero."""
    warm = max(1, options.steps // 20)
    if step < warm:
        return options.learning_rate * step / warm
    return options.learning_rate * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / (options.steps - warm + 1))))


def save(model: CLIP, options: Options, step: int, seconds: float) -> None:
    """Write the model in open_clip's own layout, half precision, and how it was trained."""
    options.out.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": MODEL_CONFIG, "preprocess_cfg": PREPROCESS_CONFIG}
    (options.out / "open_clip_config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    weights = {name: tensor.detach().half().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, options.out / "model.safetensors")
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": options.images,
        "steps": step,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "weight_decay": options.weight_decay,
        "seed": options.seed,
        "minutes": round(seconds / 60, 1),
        "torch": torch.__version__,
        "device": options.device,
        "threads": options.threads,
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
