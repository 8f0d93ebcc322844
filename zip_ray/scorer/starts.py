"""The prompt spaces of a scorer: one for each start that asks name, made when it is first needed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.prompts import PromptSpace, make_space
from zip_ray.prompts.options import ContextOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape, Prompt
from zip_ray.protocol.messages import Ask, TemplateQuery
from zip_ray.protocol.perturbations import points


class StartTexts(Protocol):
    """Encodes the words that a context starts from."""

    suffix: str
    """Text after the class name, as configured."""

    def start(self, template: str) -> tuple[Float32, str]:
        """The context that a template's words make, shape (m, width), and the text after the class name.

        Raises:
            InputError: the words cannot be used.
        """


class Starts:
    """Prompts at parameters, by the template that the prompt space starts from; None as configured."""

    def __init__(self, texts: StartTexts, shape: ModelShape, config: Config) -> None:
        """Make the configured space.

        Raises:
            InputError: it does not fit the model.
        """
        self._texts, self._shape, self._config = texts, shape, config
        self._spaces: dict[str | None, tuple[PromptSpace, str | None]] = {None: (self._space(shape), None)}
        """By start: the space, and the suffix of its prompts."""

    def shape(self, start: str | None) -> tuple[ModelShape, str]:
        """The model's shape with the context of a start, and the text after the class name.

        Raises:
            InputError: its words cannot be used, or the space has no context.
        """
        if start is None:
            return self._shape, self._texts.suffix
        if not isinstance(self._config.prompt, ContextOptions):
            raise InputError(f"start: '{start}': a prompt space without a context starts at no words")
        context, suffix = self._texts.start(start)
        return replace(self._shape, initial_context=context), suffix

    def space(self, start: str | None = None) -> PromptSpace:
        """The prompt space of a start; raises what `shape` does."""
        return self._start(start)[0]

    def prompt(self, w: Float64, start: str | None = None) -> Prompt:
        """The prompt at parameters of shape (d,); raises what `shape` does."""
        space, suffix = self._start(start)
        prompt = space.prompt(w)
        return prompt if suffix is None else replace(prompt, suffix=suffix)

    def asked(self, ask: Ask, sides: Sequence[int] | None = None) -> list[Prompt | str]:
        """What an ask wants scored: prompts at its points, or its sentence; raises what `shape` does.

        Args:
            ask: any.
            sides: which of its points; None for all.
        """
        if isinstance(ask, TemplateQuery):
            return [ask.template]
        found = points(ask)
        return [self.prompt(found[side], ask.start) for side in (range(len(found)) if sides is None else sides)]

    def _start(self, start: str | None) -> tuple[PromptSpace, str | None]:
        if start not in self._spaces:
            shape, suffix = self.shape(start)
            self._spaces[start] = self._space(shape), suffix
        return self._spaces[start]

    def _space(self, shape: ModelShape) -> PromptSpace:
        return make_space(self._config.prompt, shape, self._config.seed)
