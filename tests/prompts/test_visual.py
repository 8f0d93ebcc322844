"""Visual prompts against dense, hand-written forms; their spaces against the published counts."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tests.support.configs import zip_config
from tests.support.reference_decoder import reference_decoder
from zip_ray.clip.loading import FrozenClip, load_clip
from zip_ray.clip.prompt_shape import model_shape
from zip_ray.clip.prompted_images import prompted_features
from zip_ray.clip.visual_tower import encode_conditions, encode_prompted, fix_statistics
from zip_ray.config.model import ModelConfig
from zip_ray.errors import InputError
from zip_ray.prompts import make_space
from zip_ray.prompts.options import ContextOptions
from zip_ray.prompts.visual import (
    DecoderOptions,
    DecoderSpace,
    FrameOptions,
    FrameSpace,
    TokensOptions,
    TokensSpace,
    inner_size,
)
from zip_ray.protocol.facts import ModelShape, Patches, VisualPrompt

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def make_clip(size: int, vision: dict, embed: int = 768) -> FrozenClip:
    """A CLIP of random weights."""
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    torch.manual_seed(3)
    model = open_clip.model.CLIP(embed, {"image_size": size, **vision}, text).eval().requires_grad_(False)
    config = {"size": (size, size), "mean": MEAN, "std": STD}
    return FrozenClip(model, lambda _: torch.empty(0), lambda _: torch.empty(0), config, torch.device("cpu"))


@pytest.fixture(scope="module")
def clip() -> FrozenClip:
    """The small CLIP, with pixel means and deviations that distinguish the channels."""
    clip = load_clip(ModelConfig(), "cpu")
    return replace(clip, preprocess_config={**clip.preprocess_config, "mean": MEAN, "std": STD})


@pytest.fixture(scope="module")
def published() -> FrozenClip:
    """Images of 224 x 224 and features of 768 numbers, as in the published setting; otherwise tiny."""
    return make_clip(224, {"patch_size": 56, "width": 32, "layers": 1, "head_width": 16})


def make_images(count: int, size: int) -> Tensor:
    """Smooth normalised images that use the full range."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0, 1)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def make_shape(size: int, features: int = 0, patch: Patches | None = None) -> ModelShape:
    context = np.zeros((5, 512), np.float32)
    return ModelShape(context, 0.01, (size, size), patch, features)


def patches(clip: FrozenClip) -> Patches | None:
    return model_shape(clip, np.zeros((5, 16), np.float32), ContextOptions()).patches


def plain(clip: FrozenClip, images: Tensor) -> Tensor:
    with torch.no_grad():
        return functional.normalize(clip.model.encode_image(images), dim=-1)


def assert_same(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def test_a_frame_is_what_is_written_out(clip: FrozenClip) -> None:
    images, w = make_images(2, 28), FrameSpace(FrameOptions(), make_shape(32), 1).initial()
    visual = FrameSpace(FrameOptions(), make_shape(32), 1).prompt(w).visual
    assert visual is not None
    expected = np.empty((2, 3, 32, 32), np.float32)
    for n, channel in np.ndindex(2, 3):
        pixels = images[n, channel].numpy().astype(np.float64) * STD[channel] + MEAN[channel]
        for y, x in np.ndindex(32, 32):
            inside = 2 <= y < 30 and 2 <= x < 30
            value = pixels[y - 2, x - 2] if inside else 1 / (1 + math.exp(-w[(channel * 32 + y) * 32 + x]))
            expected[n, channel, y, x] = (value - MEAN[channel]) / STD[channel]
    found = encode_prompted(clip, images, visual)
    assert_same(found, plain(clip, torch.from_numpy(expected)))
    behind = w.reshape(3, 32, 32).copy()
    behind[:, 2:30, 2:30] = 7.0
    hidden = FrameSpace(FrameOptions(), make_shape(32), 1).prompt(behind.ravel()).visual
    assert hidden is not None
    assert torch.equal(encode_prompted(clip, images, hidden), found)


def test_an_image_is_resized_to_the_inside_of_a_frame_at_once(clip: FrozenClip) -> None:
    """It is not first resized to the model's input size."""
    rng, (height, width) = np.random.default_rng(0), (50, 40)
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8))
    small = picture.resize((28, 35), Image.Resampling.BICUBIC).crop((0, 4, 28, 32))
    pixels = torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1) / 255
    expected = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    visual = FrameSpace(FrameOptions(), make_shape(32), 1).prompt(np.zeros(3 * 32 * 32)).visual
    assert visual is not None
    found = prompted_features(clip, [picture], visual)
    assert_same(found, encode_prompted(clip, expected.unsqueeze(0), visual))


@pytest.mark.parametrize(("which", "size", "stages", "side"), [("published", 224, 5, 7), ("clip", 32, 3, 4)])
def test_a_decoder_is_the_released_one(
    which: str, size: int, stages: int, side: int, request: pytest.FixtureRequest
) -> None:
    clip = request.getfixturevalue(which)
    images = make_images(3, size)
    seen = clip.model.encode_image(images)
    space = DecoderSpace(DecoderOptions(), make_shape(size, seen.shape[1]), 2)
    w = space.initial() + 0.3 * np.random.default_rng(0).standard_normal(space.dimension)
    visual = space.prompt(w).visual
    assert visual is not None
    decoder = reference_decoder(stages).train().requires_grad_(False)
    trigger = space.dimension - sum(p.numel() for p in decoder.parameters())
    flat = torch.from_numpy(w).float()
    nn.utils.vector_to_parameters(flat[trigger:], decoder.parameters())

    def prompted(images: Tensor) -> Tensor:
        source = torch.cat([clip.model.encode_image(images), flat[:trigger].expand(len(images), -1)], dim=1)
        mean, std = (torch.tensor(m).view(3, 1, 1) for m in (MEAN, STD))
        drawn = images + decoder(source.reshape(-1, 32, side, side))
        return plain(clip, torch.minimum(torch.maximum(drawn, -mean / std), (1 - mean) / std))

    whole = encode_prompted(clip, images, visual)
    assert_same(whole, prompted(images))
    assert (whole - plain(clip, images)).abs().max() > 1e-2
    assert_same(encode_prompted(clip, images, visual, part=slice(1, 3)), whole[1:3])
    assert_same(encode_prompted(clip, images, visual, conditions=seen), whole)
    # With fixed statistics an image does not depend on the other images.
    fixed = fix_statistics(visual, encode_conditions(clip, images, "clip"), (size, size))
    assert_same(encode_prompted(clip, images, fixed), whole)
    for stage, norm in enumerate(layer for layer in decoder if isinstance(layer, nn.BatchNorm2d)):
        count = 3 * (side * 2 ** (stage + 1)) ** 2
        norm.running_var *= (count - 1) / count  # the library keeps the unbiased variance
    decoder.eval()
    another = make_images(4, size)[3:]
    assert_same(encode_prompted(clip, another, fixed), prompted(another))


def test_a_decoder_that_draws_nothing_changes_nothing(clip: FrozenClip) -> None:
    images = make_images(2, 32)
    visual = DecoderSpace(DecoderOptions(), make_shape(32, 128), 2).prompt(np.zeros(7744)).visual
    assert visual is not None
    assert_same(encode_prompted(clip, images, visual), plain(clip, images))


def written_out_tower(clip: FrozenClip, images: Tensor, tokens: Tensor) -> Tensor:
    """The small CLIP's image tower, step by step, with tokens behind the patches."""
    weights = {name: value.double() for name, value in clip.model.visual.state_dict().items()}

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    cut = images.double().reshape(-1, 3, 8, 4, 8, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 64, 48)
    x = cut @ weights["conv1.weight"].reshape(128, 48).T
    x = torch.cat([weights["class_embedding"].expand(len(x), 1, -1), x], dim=1) + weights["positional_embedding"]
    x = norm(torch.cat([x, tokens.double().expand(len(x), -1, -1)], dim=1), "ln_pre")
    for layer in range(5):
        block = f"transformer.resblocks.{layer}"
        y = norm(x, f"{block}.ln_1")
        y = y @ weights[f"{block}.attn.in_proj_weight"].T + weights[f"{block}.attn.in_proj_bias"]
        q, k, v = y.reshape(*y.shape[:2], 3, 4, 32).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-1, -2) / math.sqrt(32)).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{block}.attn.out_proj")
        y = linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc")
        x = x + linear(0.5 * y * (1 + torch.erf(y / math.sqrt(2))), f"{block}.mlp.c_proj")
    return functional.normalize(norm(x[:, 0], "ln_post") @ weights["proj"], dim=-1).float()


def test_tokens_stand_behind_the_patches(clip: FrozenClip) -> None:
    images = make_images(3, 32)
    shape = make_shape(32, patch=patches(clip))
    space = TokensSpace(TokensOptions(tokens=5, intrinsic_dimension=40), shape, 4)
    w = np.random.default_rng(1).standard_normal(40)
    prompt = space.prompt(w)
    assert prompt.context is not None
    assert prompt.visual is not None
    np.testing.assert_allclose(prompt.context.ravel(), space.text_projection @ w[:20], rtol=1e-5, atol=1e-6)
    tokens = (space.visual_projection @ w[20:]).reshape(5, 128)
    np.testing.assert_allclose(prompt.visual.tensors["tokens"], tokens, rtol=1e-5, atol=1e-6)
    found = encode_prompted(clip, images, prompt.visual)
    assert_same(found, written_out_tower(clip, images, torch.from_numpy(tokens)))
    assert (found - plain(clip, images)).abs().max() > 1e-2
    assert_same(encode_prompted(clip, images, prompt.visual, part=slice(2, 3)), found[2:])
    none = VisualPrompt("tokens", {"tokens": np.zeros((0, 128), np.float32)})
    assert_same(encode_prompted(clip, images, none), plain(clip, images))
    assert_same(plain(clip, images), written_out_tower(clip, images, torch.zeros(0, 128)))


def test_texts_and_images_have_a_number_each(clip: FrozenClip) -> None:
    with pytest.raises(InputError, match=r"prompt\.intrinsic_dimension: 1 leaves .* at least 2"):
        TokensSpace(TokensOptions(intrinsic_dimension=1), make_shape(32, patch=patches(clip)), 1)


def test_a_tower_without_patches_is_refused() -> None:
    clip = make_clip(32, {"layers": (1, 1, 1, 1), "width": 8})
    assert patches(clip) is None
    with pytest.raises(InputError, match=r"model\.name: .* takes no tokens .* choose"):
        TokensSpace(TokensOptions(), make_shape(32), 1)
    visual = VisualPrompt("tokens", {"tokens": np.zeros((5, 8), np.float32)})
    with pytest.raises(InputError, match=r"model\.name: .* takes no tokens"):
        encode_prompted(clip, make_images(1, 32), visual)


def test_patches_are_those_of_the_patch_embedding(clip: FrozenClip) -> None:
    weight = clip.model.visual.conv1.weight.numpy()
    found = patches(clip)
    assert found is not None
    np.testing.assert_allclose((found.width, found.mean, found.std), (128, weight.mean(), weight.std()), rtol=1e-4)


def test_published_counts() -> None:
    frame = FrameSpace(FrameOptions(), make_shape(224), 1)
    assert frame.dimension == frame.initial().size == 150_528
    h, w = inner_size((224, 224))
    assert (h, w) == (194, 194)
    assert 3 * (224 * 224 - h * w) == 37_620
    decoder = DecoderSpace(DecoderOptions(), make_shape(224, 768), 1)
    assert decoder.dimension == decoder.initial().size == 9_920
    visual = decoder.prompt(decoder.initial()).visual
    assert visual is not None
    assert visual.tensors["trigger"].size == 800
    assert sum(p.numel() for p in reference_decoder(5).parameters()) == 9_120
    tokens = TokensSpace(
        TokensOptions(tokens=5, intrinsic_dimension=4000), make_shape(224, patch=Patches(768, 0.0, 0.02)), 1
    )
    assert tokens.dimension == tokens.initial().size == 4_000


def test_laws_of_the_starts() -> None:
    w = FrameSpace(FrameOptions(), make_shape(64), 1).initial()
    assert (w.mean(), w.std()) == pytest.approx((0, 1), abs=0.03)
    decoder = DecoderSpace(DecoderOptions(), make_shape(224, 768), 1)
    w = decoder.initial()
    assert (w[:800].min(), w[:800].max()) == pytest.approx((0, 0.1), abs=1e-3)
    start = 800
    for layer in reference_decoder(5):
        for name, tensor in layer.named_parameters():
            part, start = w[start : start + tensor.numel()], start + tensor.numel()
            if isinstance(layer, nn.BatchNorm2d):
                assert set(part) == {1.0 if name == "weight" else 0.0}
                continue
            fan, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)
            assert 0.8 / math.sqrt(fan) < np.abs(part).max() <= 1 / math.sqrt(fan)
            assert part.mean() == pytest.approx(0, abs=4 / math.sqrt(3 * fan * part.size))
    patch = Patches(128, 0.001, 0.03)
    tokens = TokensSpace(TokensOptions(tokens=5, intrinsic_dimension=1000), make_shape(32, patch=patch), 1)
    text, visual = tokens.text_projection, tokens.visual_projection
    assert (text.shape, visual.shape) == ((5 * 512, 500), (5 * 128, 500))
    assert (text.mean(), text.std()) == pytest.approx((0, 0.01 / math.sqrt(500)), abs=2e-6)
    expected = 0.001 * 3072 / 500, 0.03 * math.sqrt(3072 / 500)
    assert (visual.mean(), visual.std()) == pytest.approx(expected, abs=5e-4)
    assert abs(np.corrcoef(text[:640].ravel(), visual.ravel())[0, 1]) < 0.01
    assert not tokens.initial().any()


@pytest.mark.parametrize(
    ("size", "feature", "message"),
    [(225, 768, r"prompt\.space: .* 225 x 225 pixels"), (224, 1568, r"prompt\.encoder: 'clip' gives 1568 numbers")],
)
def test_a_decoder_that_does_not_fit_is_refused(size: int, feature: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DecoderSpace(DecoderOptions(), make_shape(size, feature), 1)


def test_an_encoder_of_timm_shows_its_class_token(clip: FrozenClip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights are not downloaded here: the architecture is timm's, the weights are random."""
    create: Callable[..., nn.Module] = timm.create_model
    torch.manual_seed(5)
    model = create("vit_tiny_patch16_224", pretrained=False, num_classes=0).eval()
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: create_copy(create, model))
    images = make_images(2, 32)
    found = encode_conditions(clip, images, "vit_tiny_patch16_224")
    row = bicubic_up(32, 224)
    large = (row @ images.double() @ row.T).float()
    with torch.no_grad():
        outputs = model.forward_intermediates(large, indices=1, norm=False, return_prefix_tokens=True)[1]
    torch.testing.assert_close(found, outputs[-1][1][:, 0], atol=1e-3, rtol=1e-3)


def create_copy(create: Callable[..., nn.Module], model: nn.Module) -> nn.Module:
    copy = create("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    copy.load_state_dict(model.state_dict())
    return copy


def bicubic_up(source: int, target: int) -> Tensor:
    """The library's matrix (target, source) for enlarging, row by row."""
    unit = torch.eye(source, dtype=torch.float64).reshape(source, 1, 1, source)
    rows = functional.interpolate(unit, (1, target), mode="bicubic", antialias=True)
    return rows.reshape(source, target).T


def test_an_encoder_that_cannot_be_loaded_is_named(clip: FrozenClip) -> None:
    with pytest.raises(InputError, match=r"prompt\.encoder: 'no_such_encoder' cannot be loaded"):
        encode_conditions(clip, make_images(1, 32), "no_such_encoder")


@pytest.mark.parametrize("name", ["frame", "decoder", "tokens"])
def test_every_visual_space_is_its_seeds(name: str) -> None:
    """The same seed gives the same start and map, another seed different ones; prompts are float32."""
    shape = make_shape(32, 128, Patches(128, 0.001, 0.03))
    prompt = {"space": name, **({"tokens": 3, "intrinsic_dimension": 12} if name == "tokens" else {})}
    options = zip_config({"prompt": prompt}, "test").prompt
    one, again, other = (make_space(options, shape, seed) for seed in (1, 1, 2))
    w = one.initial() + np.random.default_rng(0).standard_normal(one.dimension)
    assert one.initial().shape == (one.dimension,)
    np.testing.assert_array_equal(one.initial(), again.initial())
    step = w - one.initial()
    visual, same, different = (s.prompt(s.initial() + step).visual for s in (one, again, other))
    assert visual is not None
    assert same is not None
    assert different is not None
    assert visual.kind == name
    for key, tensor in visual.tensors.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, same.tensors[key])
        assert "norm" in key or np.abs(tensor - different.tensors[key]).max() > 1e-3
    assert (one.prompt(w).context is None) == (name != "tokens")
