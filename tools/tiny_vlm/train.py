"""Train the tiny vision-language model: `python -m tools.tiny_vlm.train --help`.

The image tower is the small CLIP's, frozen: its outputs are computed once per image. The five questions of an image
stand behind it in one sequence and do not see one another, so that the image is read once for all of them.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
import tyro
from torch import Tensor
from torch.nn import functional
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from tools.small_clip.train import Options as SmallClipOptions
from tools.small_clip.train import batches, normalise, render_all, shifted
from tools.tiny_vlm.model import END, make_model, make_processor, make_tokenizer
from tools.tiny_vlm.questions import Question, ask
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.shipped import TINY_VLM
from zip_ray.tasks.builtin.render import Images, Scene

IGNORED = -100
"""Target of a token that nothing is learnt from."""


@dataclass(frozen=True)
class Options:
    """Train the tiny LLaVA that ships with zip-ray on questions about images that are rendered."""

    out: Path = TINY_VLM
    """Folder for model, processor and training.json."""
    images: int = 60_000
    """Rendered images, none of them one of the small CLIP's."""
    steps: int = 5_000
    """Updates."""
    batch_size: int = 16
    """Images per update, with five questions each."""
    learning_rate: float = 2e-3
    """Peak of the schedule: linear warm-up over the first twentieth, then a half cosine to zero."""
    weight_decay: float = 0.05
    """Decoupled weight decay (AdamW) of matrices."""
    seed: int = 7
    """Keys images, questions, order and initial weights."""
    threads: int = 1
    """CPU threads, and processes that render."""
    save_every: int = 1_000
    """Updates between two saves."""


@dataclass(frozen=True)
class Batch:
    """Sequences of equal length: image, then its questions with their answers."""

    ids: Tensor
    """Of the text behind the image, shape (n, length)."""
    targets: Tensor
    """The token behind each, where it belongs to an answer, else `IGNORED`; shape (n, length)."""
    owner: Tensor
    """Number of the question that a token belongs to; -1 for padding. Shape (n, length)."""
    positions: Tensor
    """Within image and question, from 0 on; shape (n, length)."""


def main(options: Options) -> None:
    """Render, encode, train, save."""
    started = time.monotonic()
    torch.set_num_threads(options.threads)
    rendering = SmallClipOptions(
        images=options.images,
        steps=options.steps,
        batch_size=options.batch_size,
        seed=options.seed,
        threads=options.threads,
    )
    scenes, images = render_all(rendering)
    print(f"{len(images)} images rendered in {time.monotonic() - started:.0f} s", flush=True)
    tokenizer = make_tokenizer(_texts(scenes, options.seed))
    model = make_model(tokenizer, options.seed)
    features = encode(model, images, options.seed)
    print(f"encoded after {time.monotonic() - started:.0f} s; {len(tokenizer)} tokens", flush=True)
    learnt = [one for one in model.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in learnt if one.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [one for one in learnt if one.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.learning_rate, betas=(0.9, 0.98))
    for step, chosen in enumerate(batches(rendering), start=1):
        rng = generator(options.seed, Stream.TRAINING, 2, step)
        batch = collate(tokenizer, [ask(scenes[i], rng) for i in chosen], features.shape[1])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        loss = answer_loss(model, features[torch.from_numpy(chosen)].float(), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
        if step % options.save_every == 0 or step == options.steps:
            save(model, tokenizer, options, step, time.monotonic() - started)


def _texts(scenes: Sequence[Scene], seed: int) -> list[str]:
    """What the tokenizer is made from."""
    rng = generator(seed, Stream.TRAINING, 3)
    return [f"{question.text}\n{question.answer}" for scene in scenes[:5000] for question in ask(scene, rng)]


@torch.no_grad()
def encode(model: LlavaForConditionalGeneration, images: Images, seed: int, chunk: int = 500) -> Tensor:
    """The tower's outputs that the projector reads, in half precision: shape (n, 65, width of the tower)."""
    found = []
    for start in range(0, len(images), chunk):
        moved = shifted(images[start : start + chunk], generator(seed, Stream.TRAINING, 4, start))
        found.append(model.model.vision_tower(normalise(moved)).last_hidden_state.half())
    return torch.cat(found)


def collate(tokenizer: PreTrainedTokenizerFast, asked: Sequence[Sequence[Question]], image_tokens: int) -> Batch:
    """The sequences of some images, padded at their ends."""
    rows = [_sequence(tokenizer, questions, image_tokens) for questions in asked]
    length = max(len(row[0]) for row in rows)
    padding = (tokenizer.pad_token_id, IGNORED, -1, 0)
    columns = [
        torch.tensor([row[part] + [padding[part]] * (length - len(row[part])) for row in rows]) for part in range(4)
    ]
    return Batch(*columns)


def _sequence(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[Question], image_tokens: int
) -> tuple[list[int], list[int], list[int], list[int]]:
    """Tokens, targets, owners and positions of the questions of one image."""
    ids: list[int] = []
    targets: list[int] = []
    owner: list[int] = []
    positions: list[int] = []
    for number, question in enumerate(questions):
        asked = tokenizer(question.text, add_special_tokens=False)["input_ids"]
        asked += tokenizer("\n", add_special_tokens=False)["input_ids"]
        answered = tokenizer(f"{question.answer}{END}", add_special_tokens=False)["input_ids"]
        ids += asked + answered[:-1]
        targets += [IGNORED] * (len(asked) - 1) + answered
        length = len(asked) + len(answered) - 1
        owner += [number] * length
        positions += range(1 + image_tokens, 1 + image_tokens + length)  # behind the start token and the image
    return ids, targets, owner, positions


def answer_loss(model: LlavaForConditionalGeneration, features: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of the answers' tokens.

    Args:
        model: with a projector and a decoder.
        features: of the images, shape (n, image tokens, width of the tower).
        batch: their questions.
    """
    n, image_tokens = features.shape[:2]
    start = model.config.text_config.bos_token_id
    embed = model.get_input_embeddings()
    prefix = torch.cat([embed(torch.full((n, 1), start)), model.model.multi_modal_projector(features)], dim=1)
    owner = torch.cat([torch.full((n, 1 + image_tokens), -2), batch.owner], dim=1)
    causal = torch.ones(owner.shape[1], owner.shape[1], dtype=torch.bool).tril()
    shared = owner[:, None, :] == -2
    own = owner[:, :, None] == owner[:, None, :]
    positions = torch.cat([torch.arange(1 + image_tokens).expand(n, -1), batch.positions], dim=1)
    hidden = model.model.language_model(
        inputs_embeds=torch.cat([prefix, embed(batch.ids)], dim=1),
        attention_mask=(causal & (shared | own))[:, None],
        position_ids=positions,
        use_cache=False,
    ).last_hidden_state[:, 1 + image_tokens :]
    answered = batch.targets != IGNORED
    return functional.cross_entropy(model.lm_head(hidden[answered]), batch.targets[answered])


def learning_rate(step: int, options: Options) -> float:
    """At an update, counted from 1."""
    warm = max(1, options.steps // 20)
    if step <= warm:
        return options.learning_rate * step / warm
    return float(options.learning_rate * 0.5 * (1 + np.cos(np.pi * (step - warm) / max(1, options.steps - warm))))


def save(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    options: Options,
    step: int,
    seconds: float,
) -> None:
    """Model and processor as transformers loads them, in half precision, and how they were made."""
    weights = {name: weight.half() for name, weight in model.state_dict().items()}
    model.save_pretrained(options.out, state_dict=weights)
    make_processor(tokenizer).save_pretrained(options.out)
    facts = {
        **{name: value for name, value in asdict(options).items() if name not in ("out", "save_every")},
        "steps": step,
        "minutes": seconds / 60,
        "parameters": sum(one.numel() for one in model.parameters()),
        "trained": sum(one.numel() for one in model.parameters() if one.requires_grad),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (options.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
