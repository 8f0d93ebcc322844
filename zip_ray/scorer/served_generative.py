"""The scorer of a generative model behind a server: what `scorer.generative` does, with the decoder elsewhere."""

import os
from functools import cached_property, partial
from typing import ClassVar

import torch

from zip_ray.clip.device import choose_device
from zip_ray.config.model import GenerativeOptions
from zip_ray.config.served import ServedConfig
from zip_ray.config.threads import threads
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.scorer.generative import VlmScorer
from zip_ray.tasks import load_task
from zip_ray.vlm.answering import Answering
from zip_ray.vlm.completions import Completions, Server
from zip_ray.vlm.frozen_vlm import load_vlm
from zip_ray.vlm.memory import GIB
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.served_likelihoods import ServedLikelihoods


class ServedScorer(VlmScorer):
    """Scores of candidate answers by a server. A query is one mini-batch, however many requests it takes."""

    Options: ClassVar[type[GenerativeOptions]] = ServedConfig

    @cached_property
    def _memory(self) -> str:
        size, count = self._answering.prefix_size, len(self.splits["train"]) + len(self.splits["val"])
        kept = f"{size / 2**20:.3g} MiB per image, {size * count / GIB:.3g} GiB for {count} images"
        return f"embeddings of the images are kept in memory: {kept}"


def served_scorer(options: ServedConfig, config: Config) -> ServedScorer:
    """The scorer of a run.

    Raises:
        InputError: key, model, task or server cannot be used as configured.
    """
    torch.set_num_threads(threads(config))
    server = Server(
        url=options.url,
        model=options.served_name,
        key=_key(options.key_variable),
        batch=options.batch,
        connections=options.connections,
        timeout=options.timeout,
        retries=options.retries,
        embeddings=torch.bfloat16 if options.embeddings == "bf16" else torch.float32,
    )
    task, vlm = load_task(config.task, config.seed), load_vlm(options.name, choose_device(config), layers=False)
    likelihoods = partial(ServedLikelihoods, completions=Completions(server), end_token=options.end_token)
    answering = Answering(vlm, options.scoring, PrefixStore(vlm.device, 0), likelihoods)
    return ServedScorer(vlm, answering, options, task, config)


def _key(variable: str | None) -> str | None:
    """The key in that environment variable."""
    if variable is None:
        return None
    found = os.environ.get(variable, "").strip()
    if not found:
        raise InputError(f"model.key_variable: '{variable}' is not set where the scorer runs: set it to the key")
    return found
