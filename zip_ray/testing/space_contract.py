"""The contract of every prompt space."""

import numpy as np

from zip_ray.prompts import PromptSpace, TextSpace
from zip_ray.prompts.low_rank import random_context
from zip_ray.protocol.arrays import Float64
from zip_ray.protocol.facts import ModelShape


class PromptSpaceContract:
    """Tests of a prompt space, on a model of three context tokens of width 12."""

    shape = ModelShape(random_context(3, 12, seed=5), token_std=0.02, image_size=(32, 32))

    def make_space(self, shape: ModelShape, seed: int) -> PromptSpace:
        """The space with some settings."""
        raise NotImplementedError

    def space(self, seed: int = 1) -> PromptSpace:
        """The space of the test's model."""
        return self.make_space(self.shape, seed)

    def point(self, space: PromptSpace) -> Float64:
        """Parameters away from the start."""
        return space.initial() + np.random.default_rng(2).standard_normal(space.dimension)

    def test_parameters_are_a_vector_of_its_dimension(self) -> None:
        space = self.space()
        assert space.initial().shape == (space.dimension,)
        assert space.initial().dtype == np.float64
        np.testing.assert_array_equal(space.initial(), space.initial())

    def test_the_same_seed_is_the_same_space(self) -> None:
        one, again = self.space(), self.space()
        w = self.point(one)
        np.testing.assert_array_equal(one.initial(), again.initial())
        first, second = one.prompt(w), again.prompt(w)
        if first.context is not None:
            np.testing.assert_array_equal(first.context, second.context)
        drawn, redrawn = one.tensors(), again.tensors()
        assert drawn.keys() == redrawn.keys()
        for name, tensor in drawn.items():
            np.testing.assert_array_equal(tensor, redrawn[name])

    def test_a_context_begins_at_the_models_start_and_moves(self) -> None:
        space = self.space()
        start = space.prompt(space.initial()).context
        if not isinstance(space, TextSpace) or start is None:
            return
        np.testing.assert_array_equal(start, self.shape.initial_context)
        assert start.dtype == np.float32
        moved = space.prompt(self.point(space)).context
        assert moved is not None
        assert moved.shape == start.shape
        assert np.abs(moved - start).max() > 0

    def test_a_prompt_leaves_its_parameters_alone(self) -> None:
        space = self.space()
        w = self.point(space)
        before = w.copy()
        space.prompt(w)
        np.testing.assert_array_equal(w, before)

    def test_pullback_is_the_vector_jacobian_product(self) -> None:
        """Against central differences, which are exact where the map is linear or quadratic in each parameter."""
        space = self.space()
        if not isinstance(space, TextSpace):
            return
        w = self.point(space)
        gradient, h = np.random.default_rng(3).standard_normal(self.shape.initial_context.shape), 0.1
        ahead = [space.context(w + h * e).astype(np.float64) for e in np.eye(space.dimension)]
        behind = [space.context(w - h * e).astype(np.float64) for e in np.eye(space.dimension)]
        expected = [np.sum(gradient * (one - other)) / (2 * h) for one, other in zip(ahead, behind, strict=True)]
        np.testing.assert_allclose(space.pullback(w, gradient), expected, atol=2e-5 * max(1.0, np.abs(expected).max()))
