"""The low-rank prompt space against a step-by-step Fastfood with a dense Hadamard matrix."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from tests.support.configs import zip_config
from zip_ray.config.fields import section_classes
from zip_ray.errors import InputError
from zip_ray.prompts import FullSpace, LowRankSpace, PromptSpace, RandomProjectionSpace, make_space
from zip_ray.prompts.fastfood import fastfood_matrix, hadamard_transform
from zip_ray.prompts.full import FullOptions
from zip_ray.prompts.low_rank import LowRankOptions, random_context
from zip_ray.prompts.random_projection import RandomProjectionOptions
from zip_ray.prompts.visual import FrameOptions
from zip_ray.protocol.facts import ModelShape
from zip_ray.protocol.random_keys import Stream, generator
from zip_ray.testing import PromptSpaceContract


def shape(c0: np.ndarray) -> ModelShape:
    return ModelShape(c0, 0.02, (32, 32), None)


def dense_fastfood(rng: np.random.Generator, width: int, x: np.ndarray) -> np.ndarray:
    """The eight steps of the specification one by one, with matrices."""
    n = 1
    while n < width:
        n *= 2
    signs = np.diag(rng.choice(np.array([-1.0, 1.0]), size=n))
    order = rng.permutation(n)
    gauss = rng.standard_normal(n)
    permute = np.zeros((n, n))
    permute[np.arange(n), order] = 1
    h = hadamard(n).astype(float)
    padded = np.concatenate([x, np.zeros(n - len(x))])
    y = h @ (np.diag(gauss) @ (permute @ (h @ (signs @ padded))))
    return y[:width] / (np.sqrt(n * (gauss**2).sum()) * np.sqrt(width / n))


@given(st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_transform_is_the_dense_hadamard_matrix(log_n: int, seed: int) -> None:
    n = 2**log_n
    x = np.random.default_rng(seed).standard_normal((n, 3))
    np.testing.assert_allclose(hadamard_transform(x), hadamard(n) @ x, atol=1e-10)


@pytest.mark.parametrize(("width", "size"), [(512, 62), (128, 62), (192, 100), (5, 3), (1, 1)])
def test_fastfood_matrix_equals_the_steps(width: int, size: int) -> None:
    matrix = fastfood_matrix(generator(3, Stream.PROJECTION, 1), width, size)
    x = np.random.default_rng(0).standard_normal(size)
    expected = dense_fastfood(generator(3, Stream.PROJECTION, 1), width, x)
    np.testing.assert_allclose(matrix @ x, expected, rtol=1e-9, atol=1e-9)


def test_fastfood_approximately_preserves_norms() -> None:
    ratios = []
    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal(62)
        matrix = fastfood_matrix(generator(seed, Stream.PROJECTION, 0), 512, 62)
        ratios.append(np.linalg.norm(matrix @ x) / np.linalg.norm(x))
    assert np.mean(ratios) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("tokens", "rank", "dim", "width", "expected"),
    [(8, 5, 500, 512, 417), (8, 5, 500, 128, 417), (4, 5, 500, 512, 775), (16, 3, 500, 512, 175), (1, 1, 10, 64, 22)],
)
def test_parameter_counts(tokens: int, rank: int, dim: int, width: int, expected: int) -> None:
    """417 is the published count; the others follow from m r + r + p r + p with p = floor(dim / m)."""
    config = LowRankOptions(tokens=tokens, rank=rank, intrinsic_dimension=dim)
    space = LowRankSpace(config, shape(np.zeros((tokens, width), np.float32)), seed=1)
    assert space.dimension == space.initial().size == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ({}, 417),
        ({"diagonal": False}, 412),
        ({"shared_feature": False}, 355),
        ({"diagonal": False, "shared_feature": False}, 350),
        ({"projection": "none"}, 40 + 5 + 2560 + 512),
        ({"space": "full"}, 8 * 62),
        ({"space": "full", "projection": "none"}, 8 * 512),
        ({"space": "context"}, 8 * 512),
        ({"space": "random-projection"}, 500),
    ],
)
def test_parameter_counts_of_spaces_and_ablations(prompt: dict, expected: int) -> None:
    """At width 512, m = 8: 417 = 40 + 5 + 310 + 62, minus what a switch removes."""
    space = make_space(zip_config({"prompt": prompt}, "test").prompt, shape(np.zeros((8, 512), np.float32)), 1)
    assert space.dimension == space.initial().size == expected


def test_whole_map_equals_a_dense_computation() -> None:
    m, r, p, width = 8, 5, 62, 512
    c0 = random_context(m, width, seed=7)
    space = LowRankSpace(LowRankOptions(), shape(c0), seed=7)
    w = np.random.default_rng(0).standard_normal(417)
    u, s = w[:40].reshape(m, r), w[40:45]
    v, shared = w[45:355].reshape(p, r), w[355:]
    low_rank = u @ np.diag(s) @ v.T + np.ones((m, 1)) @ shared[None, :]
    expected = np.stack(
        [c0[i] + dense_fastfood(generator(7, Stream.PROJECTION, i), width, low_rank[i]) for i in range(m)]
    )
    np.testing.assert_allclose(space.context(w), expected, atol=1e-6)


def test_initial_parameters_leave_the_initial_context() -> None:
    c0 = random_context(8, 512, seed=1)
    space = LowRankSpace(LowRankOptions(), shape(c0), seed=1)
    w = space.initial()
    np.testing.assert_array_equal(space.context(w), c0)
    factors = space.factors(w)
    assert not factors.u.any()
    assert not factors.shared.any()
    assert (factors.s == 1).all()
    assert factors.v.std() == pytest.approx(1, abs=0.15)
    assert c0.std() == pytest.approx(0.02, rel=0.05)


def test_seed_decides_the_space() -> None:
    c0 = np.zeros((8, 64), np.float32)
    one, again, other = (LowRankSpace(LowRankOptions(intrinsic_dimension=80), shape(c0), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.projection, again.projection)
    assert np.abs(one.projection - other.projection).max() > 0.1
    assert np.abs(one.projection[0] - one.projection[1]).max() > 0.1, "each token has its own map"


@pytest.mark.parametrize("dim", [7, 8 * 64 + 8])
def test_impossible_intrinsic_dimension_is_named(dim: int) -> None:
    with pytest.raises(InputError, match=rf"prompt.intrinsic_dimension: {dim} .* choose between 8 and 512"):
        LowRankSpace(LowRankOptions(intrinsic_dimension=dim), shape(np.zeros((8, 64), np.float32)), seed=1)


SPACES_AND_SWITCHES = [
    *({"space": "low-rank", "diagonal": d, "shared_feature": s} for d in (True, False) for s in (True, False)),
    {"space": "low-rank", "projection": "none"},
    {"space": "full"},
    {"space": "full", "projection": "none"},
    {"space": "context"},
    {"space": "random-projection", "intrinsic_dimension": 7},
]


class TestEveryTextSpace(PromptSpaceContract):
    @pytest.fixture(autouse=True, params=SPACES_AND_SWITCHES, ids=str)
    def one_of_them(self, request: pytest.FixtureRequest) -> None:
        prompt = request.param
        kind = section_classes("prompt")[prompt["space"]]
        small = {"rank": 2, "intrinsic_dimension": 15, **prompt}
        self.options = kind(**{name: value for name, value in small.items() if name in kind.model_fields})

    def make_space(self, shape: ModelShape, seed: int) -> PromptSpace:
        return make_space(self.options, shape, seed)

    def test_another_seed_draws_another_projection(self) -> None:
        drawn, other = (self.space(seed).tensors().get("projection") for seed in (1, 2))
        if drawn is not None:
            assert np.abs(drawn - other).max() > 1e-3


class TestFrame(PromptSpaceContract):
    def make_space(self, shape: ModelShape, seed: int) -> PromptSpace:
        return make_space(FrameOptions(), shape, seed)


def test_without_low_rank_every_row_is_free() -> None:
    """Full W, and low rank at full rank, reach the same contexts."""
    c0 = shape(random_context(3, 12, seed=5))
    low, full = (
        LowRankSpace(LowRankOptions(intrinsic_dimension=15, rank=3), c0, 1),
        FullSpace(FullOptions(intrinsic_dimension=15), c0, 1),
    )
    w = low.initial() + np.random.default_rng(1).standard_normal(low.dimension)
    np.testing.assert_array_equal(full.context(low.rows(w).ravel()), low.context(w))


def test_random_projection_moves_tokens_in_units_of_an_embedding() -> None:
    """Parameters N(0, sigma^2) move each token by about sigma times the norm of N(0, 0.02^2 I): 0.02 sqrt(512)."""
    space = RandomProjectionSpace(
        RandomProjectionOptions(intrinsic_dimension=100), shape(np.zeros((8, 512), np.float32)), 3
    )
    draws = np.random.default_rng(0)
    moves = [np.linalg.norm(space.context(0.3 * draws.standard_normal(100)), axis=1) for _ in range(40)]
    assert np.mean(moves) == pytest.approx(0.3 * 0.02 * np.sqrt(512), rel=0.02)
    w = draws.standard_normal(100)
    expected = space.tensors()["projection"] @ w
    np.testing.assert_allclose(space.context(w).ravel(), expected, atol=1e-7)
