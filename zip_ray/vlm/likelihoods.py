"""Scores of candidate answers: log-likelihoods behind an image and a prompt, by the tree pass or the plain one."""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from zip_ray.errors import InputError, one_line
from zip_ray.protocol.facts import TOKEN_TREE, Scoring
from zip_ray.vlm.answer_tree import Answers, answer_tree
from zip_ray.vlm.chat import Chat
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.plain_pass import plain_pass
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.prefixes import Prefix, compute_prefix
from zip_ray.vlm.tree_pass import Soft, tree_pass

IMAGES_PER_PASS = 16
PASS_BYTES = 2**30
"""Of keys and values that go through the decoder at once: they are copied there."""
CHECKED_ANSWERS = 8
"""Candidates, the longest among them, that both passes score when a run begins."""
TOLERANCE = {torch.float32: (1e-4, 1e-5), torch.bfloat16: (0.1, 0.02), torch.float16: (0.05, 0.01)}
"""By type of the activations: difference of the two passes that is rounding, absolute and per log-likelihood."""
_log = logging.getLogger(__name__)


class Picture(NamedTuple):
    """An image of a pass."""

    key: Hashable
    """By which its prefix is kept."""
    open: Callable[[], Image.Image]
    lasting: bool = True
    """Whether its prefix is worth a file."""


class Likelihoods:
    """What a frozen model says of candidate answers."""

    def __init__(self, vlm: FrozenVlm, chat: Chat, store: PrefixStore, scoring: Scoring) -> None:
        """Take the tree pass, until `check` finds that it is not exact."""
        self._vlm, self._chat, self._store, self._scoring = vlm, chat, store, scoring
        self.kind = TOKEN_TREE
        """How answers are scored: `TOKEN_TREE`, or the plain pass and the reason."""
        self._tree = lru_cache(maxsize=4096)(answer_tree)

    @torch.inference_mode()
    def scores(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        """Scores, shape (prompts, pictures, answers), float64 on the CPU.

        Raises:
            InputError: an image cannot be read or used, answers are equal, or a sequence is too long.
        """
        found = self._sums(prompts, pictures, answers)
        if self._scoring == "mean":
            return found / torch.tensor([len(answer) for answer in answers])
        if self._scoring == "calibrated":
            return found - self._sums(prompts, [Picture(None, _no_image)], answers)
        return found

    def prefix(self, picture: Picture) -> Prefix:
        """The prefix of a picture, from the store; of none if its key is None."""
        blind = picture.key is None
        before = self._chat.blind if blind else self._chat.before
        with self._images_taken():
            return self._store.get(
                picture.key,
                lambda: compute_prefix(self._vlm, before, None if blind else picture.open()),
                picture.lasting,
            )

    @contextmanager
    def _images_taken(self) -> Iterator[None]:
        """Say in one line that the model refuses an image."""
        try:
            yield
        except ValueError as error:
            raise InputError(
                f"model.name: '{self._vlm.name}' does not take images as its processor makes them "
                f"({one_line(error)}): correct the processor's image size"
            ) from error

    def check(self, picture: Picture, prompts: Sequence[Soft], answers: Answers) -> None:
        """Hold the tree pass against the plain one on an image, and take the plain one, loudly, if they differ.

        Raises:
            InputError: the image or the answers cannot be used.
        """
        chosen = tuple(sorted(answers, key=len)[-CHECKED_ANSWERS:])
        plain = self._plain(prompts, [picture], chosen)
        try:
            tree = self._by_tree(prompts, [picture], chosen)
        except InputError:
            raise
        except Exception as error:  # a family that is built in another way
            fault = one_line(error)
        else:
            difference, most = float((tree - plain).abs().max()), float(plain.abs().max())
            absolute, relative = TOLERANCE[torch.float32 if self._exact else torch.bfloat16]
            if difference <= absolute + relative * most:
                return
            cause = "its image sees the prompt, or its quantised layers round by batch"
            fault = f"the tree pass differs by {difference:.0e}: {cause}"
        self.kind = f"plain pass: {fault}"
        _log.warning("model.name: '%s' takes one pass per image, prompt and candidate (%s)", self._vlm.name, fault)

    def prefix_size(self, picture: Picture) -> int:
        """Bytes of a picture's keys and values; 0 where the plain pass keeps none."""
        return self.prefix(picture).size if self.kind == TOKEN_TREE else 0

    @property
    def _exact(self) -> bool:
        return self._vlm.activations == torch.float32

    def _sums(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        if self.kind == TOKEN_TREE:
            return self._by_tree(prompts, pictures, answers)
        return self._plain(prompts, pictures, answers)

    def _by_tree(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        tree = self._tree(answers)
        longest = max(len(one.context) + len(one.question) for one in prompts) + max(map(len, answers))
        paths, found = torch.from_numpy(tree.paths).double(), []
        for prefixes in self._together(pictures):
            self._require_room(prefixes[0].length + longest)
            found.append(tree_pass(self._vlm, prefixes, prompts, tree).double().cpu() @ paths.T)
        return torch.cat(found).transpose(0, 1)

    def _together(self, pictures: Sequence[Picture]) -> Iterator[list[Prefix]]:
        """Prefixes in their order, as many of one length as go through the decoder at once."""
        part: list[Prefix] = []
        for prefix in map(self.prefix, pictures):
            if part and (prefix.length != part[0].length or len(part) == _most(part[0])):
                yield part
                part = []
            part.append(prefix)
        yield part

    def _plain(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        found = []
        for prompt in prompts:
            of_prompt = []
            for picture in pictures:
                blind = picture.key is None
                before = self._chat.blind if blind else self._chat.before
                image = None if blind else picture.open()
                with self._images_taken():
                    tokens = plain_pass(self._vlm, before, image, prompt, answers)
                of_prompt.append(tokens.double().sum(dim=1).cpu())
            found.append(torch.stack(of_prompt))
        return torch.stack(found)

    def _require_room(self, tokens: int) -> None:
        most = getattr(self._vlm.text_config, "max_position_embeddings", None)
        if most is not None and tokens > most:
            raise InputError(
                f"task.name: image, prompt and longest answer are {tokens} tokens, and the model reads {most}: shorten "
                "the answers or the question"
            )


def _most(prefix: Prefix) -> int:
    """Images of a pass."""
    return max(1, min(IMAGES_PER_PASS, PASS_BYTES // prefix.size))


def _no_image() -> Image.Image:
    raise AssertionError("a sequence without an image opens none")
