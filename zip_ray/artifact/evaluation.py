"""A tuned prompt on the test images of a task: its class scores, and those of the task's plain template."""

import torch
from torch import Tensor

from zip_ray.artifact.classifier import folded_scores, load_model
from zip_ray.artifact.scored_test import ScoredTest, scored
from zip_ray.artifact.tuned_prompt import PLAIN_TEMPLATE, READ_OUT, TUNED, TunedPrompt
from zip_ray.clip.image_features import split_features
from zip_ray.clip.plain_text import encode_texts
from zip_ray.clip.prompted_images import prompted_features
from zip_ray.config.task import TaskConfig
from zip_ray.tasks import load_task
from zip_ray.tasks.counted import counted
from zip_ray.tasks.images import each_image


@torch.no_grad()
def score_test(prompt: TunedPrompt, task: TaskConfig, seed: int) -> ScoredTest:
    """A tuned prompt on any task: its own or another.

    The readout is used if the prompt has one and it was fitted to these classes; for other classes a warning says so.
    If only images were tuned, the texts are the task's plain template, as in tuning.

    Raises:
        InputError: the task or the prompt's model cannot be used.
    """
    data = load_task(task, seed)
    if prompt.card.scorer == "vlm":
        from zip_ray.artifact.answer_classifier import answer_scores

        return scored(answer_scores(prompt, data, task.question), data)
    clip = load_model(prompt)
    images = split_features(clip, data.test)
    visual = prompt.prompt.visual
    prompted = (
        images
        if visual is None
        else prompted_features(clip, counted(each_image(data.test), len(data.test), "encoding"), visual)
    )
    plain = encode_texts(clip.model, clip.tokenizer, [data.template.replace("{}", name) for name in data.classnames])
    is_text = prompt.prompt.context is not None
    tuned = prompt.text_features(clip.model, clip.tokenizer, data.classnames) if is_text else plain
    scale = prompt.card.logit_scale
    scores: dict[str, Tensor] = {PLAIN_TEMPLATE: scale * images @ plain.T, TUNED: scale * prompted @ tuned.T}
    read_out = prompt.read_out(data.classnames)
    if read_out is not None:
        scores[READ_OUT] = folded_scores(prompted, read_out)
    return scored({name: one.float().cpu().numpy() for name, one in scores.items()}, data)
