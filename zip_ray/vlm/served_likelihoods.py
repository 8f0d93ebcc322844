"""Scores of candidate answers by a server: whole sequences as embeddings, one for each inner node of the answer tree.

The image is in the sequence as what the image tower, which is here, makes of it; the decoder is the server's. A request
of the server's own for an image beside embeddings would leave the chat template and the tokens of half an answer to it.
"""

from collections.abc import Hashable, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zip_ray.errors import InputError
from zip_ray.protocol.facts import SERVED, Scoring
from zip_ray.vlm.answer_tree import Answers
from zip_ray.vlm.chat import Chat
from zip_ray.vlm.completions import Completions, Group
from zip_ray.vlm.frozen_vlm import FrozenVlm
from zip_ray.vlm.likelihoods import TOLERANCE, Likelihoods, Picture
from zip_ray.vlm.prefix_store import PrefixStore
from zip_ray.vlm.tree_pass import Soft


class ServedLikelihoods(Likelihoods):
    """What a served model says of candidate answers."""

    def __init__(
        self,
        vlm: FrozenVlm,
        chat: Chat,
        store: PrefixStore,
        scoring: Scoring,
        *,
        completions: Completions,
        end_token: bool,
    ) -> None:
        """Nothing is sent before `check`; keys and values are the server's, so the store stays empty.

        Args:
            vlm: without the layers of its decoder.
            chat: its template.
            store: unused.
            scoring: of an answer.
            completions: the server.
            end_token: whether the ends of answers count.
        """
        super().__init__(vlm, chat, store, scoring)
        self.kind, self._completions, self._end_token = SERVED, completions, end_token
        self._kept: dict[Hashable, Tensor] = {}

    def scores(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        """As of any likelihoods; raises InputError for the server's faults, too."""
        return super().scores(prompts, pictures, answers if self._end_token else _without_ends(answers))

    def check(self, picture: Picture, prompts: Sequence[Soft], answers: Answers) -> None:
        """Ask about the same words as embeddings and as tokens: is the server's model the one whose parts are here?

        Raises:
            InputError: it is another; or embeddings do not express what its decoder gets, or the server refuses.
        """
        self._beginning(picture)
        ids = [*self._vlm.token_ids(self._chat.blind), *prompts[0].question]
        tokens = sorted({answer[0] for answer in answers})
        as_tokens = self._completions.behind_tokens(ids, tokens)
        (as_embeddings,) = self._completions.next_tokens([([partial(self._embed, ids)], tokens)])
        difference, most = np.abs(as_embeddings[0] - as_tokens).max(), np.abs(as_tokens).max()
        absolute, relative = TOLERANCE[torch.bfloat16]
        if difference > absolute + relative * most:
            raise InputError(
                f"model.name: '{self._vlm.name}' is not what the server has: the same words as tokens and as "
                f"embeddings differ by {difference:.1g}: give the model that is served"
            )

    def prefix_size(self, picture: Picture) -> int:
        """Bytes of a picture's embeddings."""
        return self._beginning(picture).nbytes

    def _sums(self, prompts: Sequence[Soft], pictures: Sequence[Picture], answers: Answers) -> Tensor:
        tree, heads = self._tree(answers), [self._head(prompt) for prompt in prompts]
        begun = [self._beginning(picture) for picture in pictures]
        self._require_room(max(map(len, begun)) + max(map(len, heads)) + max(map(len, answers)))
        nodes = np.unique(tree.edge_rows)
        groups: list[Group] = []
        for node in nodes:
            behind = self._embed(tree.fed[tree.sees[node - 1]].tolist() if node else [])
            sequences = [partial(torch.cat, [beginning, head, behind]) for head, beginning in product(heads, begun)]
            groups.append((sequences, tree.edge_tokens[tree.edge_rows == node].tolist()))
        found = np.empty((len(heads) * len(begun), len(tree.edge_tokens)))
        for node, answered in zip(nodes, self._completions.next_tokens(groups), strict=True):
            found[:, tree.edge_rows == node] = answered
        return torch.from_numpy(found @ tree.paths.T.astype(np.float64)).view(len(heads), len(begun), -1)

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self._vlm.embed(torch.tensor(ids, dtype=torch.long))

    def _head(self, prompt: Soft) -> Tensor:
        """Soft prompt and question, shape (rows, width)."""
        return torch.cat([prompt.context.to(self._vlm.device), self._embed(prompt.question)])

    def _beginning(self, picture: Picture) -> Tensor:
        """System text and image as the decoder gets them, shape (rows, width); kept for images that come again."""
        if picture.key in self._kept:
            return self._kept[picture.key]
        blind = picture.key is None
        with self._images_taken():
            image = None if blind else picture.open()
            made = embedded(self._vlm, self._chat.blind if blind else self._chat.before, image)
        if picture.lasting:
            self._kept[picture.key] = made
        return made


def _without_ends(answers: Answers) -> Answers:
    """Answers less their end tokens.

    Raises:
        InputError: one is the beginning of another, and would win by being its start.
    """
    shorter = tuple(answer[:-1] for answer in answers)
    beginnings = {answer[:n] for answer in shorter for n in range(1, len(answer))}
    if beginnings & {*shorter}:
        raise InputError(
            "model.end_token: 'false', but one answer is the beginning of another: leave it true, or rename one"
        )
    return shorter


class _Read(Exception):
    """The decoder's input is known: nothing more of the forward pass is needed."""


@torch.inference_mode()
def embedded(vlm: FrozenVlm, before: str, image: Image.Image | None) -> Tensor:
    """What the decoder gets for the beginning of a sequence: shape (rows, width), float32.

    Raises:
        InputError: the processor does not take the image, or embeddings are not all that the decoder gets.
    """
    given: dict[str, object] = {}

    def read(_module: object, _arguments: object, named: dict[str, object]) -> None:
        given.update(named)
        raise _Read

    inputs = vlm.inputs(before, image)
    vlm.forget_positions()
    handle = vlm.decoder.register_forward_pre_hook(read, with_kwargs=True)
    try:
        vlm.model.model(**inputs, use_cache=False)
    except _Read:
        pass
    finally:
        handle.remove()
    fault = _beyond_embeddings(given)
    if fault:
        raise InputError(f"model.name: '{vlm.name}' cannot be served by embeddings: {fault}: use model.scorer vlm")
    found = given["inputs_embeds"]
    assert isinstance(found, Tensor)
    return found[0].float()


def _beyond_embeddings(given: dict[str, object]) -> str:
    """What a decoder gets that a sequence of embeddings does not tell; empty for nothing."""
    mask, positions = given.get("attention_mask"), given.get("position_ids")
    if mask is not None and not (isinstance(mask, Tensor) and mask.ndim == 2 and bool(mask.all())):
        return "its image has an attention mask of its own"
    if isinstance(positions, Tensor) and not (
        positions.ndim == 2 and torch.equal(positions[0].cpu(), torch.arange(positions.shape[1]))
    ):
        return "its image has positions of its own"
    if given.get("deepstack_visual_embeds") is not None:
        return "its image enters deeper layers, too"
    return ""
