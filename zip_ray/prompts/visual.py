"""Visual prompt spaces: a frame round the image, an image made by a decoder, tokens beside the patches. numpy only.

Sources: Tsai, Chen, Ho, ICML 2020 (BAR); Oh et al., CVPR 2023 (BlackVIP); Yu et al., IJCAI 2023 (BPT-VLM); all three in
the form that ZIP's authors compare with (Park et al., ICLR 2025, released code). What a visual prompt does to an image
is in `clip.visual`.
"""

import math
from typing import ClassVar, Literal

import numpy as np

from zip_ray.config.section import Count, Positive
from zip_ray.errors import InputError
from zip_ray.prompts.options import ContextOptions, SpaceOptions
from zip_ray.protocol.arrays import Float32, Float64
from zip_ray.protocol.facts import ModelShape, Prompt, VisualPrompt
from zip_ray.protocol.random_keys import Stream, generator

FRAME_SHARE = 194 / 224
"""Side of the image inside BAR's frame, as a share of what the model sees."""
SOURCE_CHANNELS = 32
HIDDEN_CHANNELS = (64, 32, 32, 16)
"""Channels of the decoder's hidden stages; one more stage makes the three colours."""
SMALLEST_SOURCE = 4
"""Least side of the map that the decoder starts from: each stage doubles it."""
TRIGGER_TOP = 0.1
VISION_FEATURES = 3072
"""The constant in the law of BPT-VLM's visual projection."""

NO_PATCHES = (
    "model.name: its image tower takes no tokens beside its patches: choose a model with open_clip's VisionTransformer "
    "(such as ViT-B-16), or another prompt.space"
)

Shape = tuple[int, ...]


def inner_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the image inside BAR's frame: 194 x 194 of 224 x 224."""
    height, width = (round(FRAME_SHARE * side) for side in size)
    return height, width


def _image_size(shape: ModelShape) -> tuple[int, int]:
    """Height and width of the images that a prompt changes.

    Raises:
        InputError: the scorer takes no such prompts.
    """
    if shape.image_size is None:
        raise InputError("prompt.space: this scorer takes no prompts of images: choose a space of contexts")
    return shape.image_size


class VisualOptions(SpaceOptions):
    """What the spaces have in common under which each query encodes its images."""

    visual: ClassVar[bool] = True


class FrameOptions(VisualOptions):
    """An image in a frame (BAR)."""

    space: Literal["frame"] = "frame"
    """The image in a frame (BAR)."""


class DecoderOptions(VisualOptions):
    """An image added that a small network draws (BlackVIP)."""

    space: Literal["decoder"] = "decoder"
    """An image added that a small network draws (BlackVIP)."""
    encoder: str = "clip"
    """Frozen encoder: clip = the model's own, or one of timm. Published is vit_base_patch16_224.mae. It is fetched when
    it is first needed."""
    scale: Positive = 1.0
    """Factor of the image that is added."""
    statistics: Literal["batch", "running"] = "batch"
    """Of BatchNorm, in the deployed decoder. batch = those of the first mini-batch at its own parameters; running =
    moving means over all points that were queried, with weight 0.1 for the latest, as in BlackVIP's code."""


class TokensOptions(VisualOptions, ContextOptions):
    """Text tokens, and tokens beside the patches (BPT-VLM)."""

    space: Literal["tokens"] = "tokens"
    """Text tokens, and tokens beside the patches (BPT-VLM)."""
    intrinsic_dimension: Count = 500
    """d: parameters, half for text tokens, half for image tokens."""


class FrameSpace:
    """BAR: sigmoid(W) on the frame round the image, W of shape (3, h, w) and N(0, 1) at the start.

    What lies behind the image is part of the parameters, as released: 150,528 at 224 x 224, 37,620 of them seen.
    """

    Options = FrameOptions

    def __init__(self, _options: FrameOptions, shape: ModelShape, seed: int) -> None:
        """Take the shape of the frame from the model.

        Args:
            _options: nothing of it is used.
            shape: the model's, of which the size of its images.
            seed: keys the start.
        """
        self._shape = (3, *_image_size(shape))
        self._seed = seed

    @property
    def dimension(self) -> int:
        """d = 3 h w."""
        return math.prod(self._shape)

    def initial(self) -> Float64:
        """The initial parameters, shape (d,)."""
        return generator(self._seed, Stream.PARAMETERS).standard_normal(self.dimension)

    def prompt(self, w: Float64) -> Prompt:
        """The plain template beside a frame: `weights` is W."""
        return Prompt(None, VisualPrompt("frame", {"weights": w.reshape(self._shape).astype(np.float32)}))

    def tensors(self) -> dict[str, Float64]:
        """No frozen draws."""
        return {}


class DecoderSpace:
    """BlackVIP: the weights of a small decoder, and a trigger vector beside the frozen encoder's feature.

    Feature and trigger fill a map of 32 x h/2^s x w/2^s, which s stages double to an image. A hidden stage is a
    transposed convolution 2 x 2 channel by channel (bias), one 1 x 1 over the channels, BatchNorm (scale, shift) and
    GELU; the last a transposed convolution 2 x 2 to three colours. s is at most five, as at 224 x 224, where the map
    is 7 x 7 and d = 9,920 for a feature of 768 numbers; smaller for images that cannot be halved so often.
    """

    Options = DecoderOptions

    def __init__(self, options: DecoderOptions, shape: ModelShape, seed: int) -> None:
        """Lay the parameters out.

        Args:
            options: the frozen encoder's name.
            shape: the model's: the size of its images, and how many numbers the frozen encoder makes of one.
            seed: keys the start.

        Raises:
            InputError: the images cannot be halved, or the feature leaves no room for a trigger.
        """
        self._encoder, self._scale, self._seed = options.encoder, options.scale, seed
        size, feature = _image_size(shape), shape.encoder_features
        stages = _stages(size)
        source = SOURCE_CHANNELS * (size[0] >> stages) * (size[1] >> stages)
        if feature >= source:
            raise InputError(
                f"prompt.encoder: '{options.encoder}' gives {feature} numbers, of which the decoder takes fewer than "
                f"{source} for images of {size[0]} x {size[1]}: choose a smaller encoder"
            )
        self._shapes = decoder_shapes(stages, source - feature)

    @property
    def dimension(self) -> int:
        """d, trigger and weights together."""
        return sum(math.prod(shape) for shape in self._shapes.values())

    def initial(self) -> Float64:
        """Shape (d,): trigger U[0, 0.1], BatchNorm 1 and 0, the rest U[-b, b] with b = 1 / sqrt(fan).

        fan counts the weights of one input channel, n k k for n output channels a group and kernels k x k.
        """
        rng = generator(self._seed, Stream.PARAMETERS)
        parts, fan = [], 1
        for name, shape in self._shapes.items():
            if name == "trigger":
                part = rng.uniform(0.0, TRIGGER_TOP, shape)
            elif "norm" in name:
                part = np.full(shape, float(name.endswith("weight")))
            else:
                fan = math.prod(shape[1:]) if name.endswith("weight") else fan  # a bias has that of its weight
                part = rng.uniform(-1 / math.sqrt(fan), 1 / math.sqrt(fan), shape)
            parts.append(part.ravel())
        return np.concatenate(parts)

    def prompt(self, w: Float64) -> Prompt:
        """The plain template beside a decoder, its tensors by the names of `decoder_shapes`.

        The last layer is linear, so that the scale is a factor of its weights. Statistics of BatchNorm may follow the
        parameters (see `OptimizerState.deployed`): all means, then all variances, stage by stage.
        """
        shapes = self._shapes
        if w.size > self.dimension:
            widths = {name: shape for name, shape in shapes.items() if name.endswith("norm.bias")}
            for kind in ("mean", "variance"):
                shapes = shapes | {name.replace("bias", kind): shape for name, shape in widths.items()}
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        parts = np.split(w, ends[:-1])
        tensors = {
            name: part.reshape(shape).astype(np.float32)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }
        tensors["colours.weight"] *= np.float32(self._scale)
        return Prompt(None, VisualPrompt("decoder", tensors, self._encoder))

    def tensors(self) -> dict[str, Float64]:
        """No frozen draws."""
        return {}


def decoder_shapes(stages: int, trigger: int) -> dict[str, Shape]:
    """Names and shapes of the decoder's tensors, in the flat order of the parameters."""
    shapes: dict[str, Shape] = {"trigger": (trigger,)}
    channels = SOURCE_CHANNELS
    for stage, out in enumerate(HIDDEN_CHANNELS[: stages - 1]):
        spread = HIDDEN_CHANNELS[0] // SOURCE_CHANNELS if stage == 0 else 1
        shapes[f"{stage}.spread.weight"] = (channels, spread, 2, 2)
        shapes[f"{stage}.spread.bias"] = (channels * spread,)
        shapes[f"{stage}.mix.weight"] = (channels * spread, out, 1, 1)
        shapes[f"{stage}.norm.weight"] = (out,)
        shapes[f"{stage}.norm.bias"] = (out,)
        channels = out
    shapes["colours.weight"] = (channels, 3, 2, 2)
    return shapes


def _stages(size: tuple[int, int]) -> int:
    """How often an image can be halved: five times at most, to no side below 4.

    Raises:
        InputError: not once.
    """
    stages, sides = 0, size
    while stages <= len(HIDDEN_CHANNELS) and all(s % 2 == 0 and s // 2 >= SMALLEST_SOURCE for s in sides):
        stages, sides = stages + 1, (sides[0] // 2, sides[1] // 2)
    if stages == 0:
        raise InputError(
            f"prompt.space: decoder doubles a small map to the size of an image, and {size[0]} x {size[1]} pixels "
            "cannot be halved: choose another space, or a model with images of even sides"
        )
    return stages


class TokensSpace:
    """BPT-VLM: text tokens A_L z_L and visual tokens A_V z_V of parameters z = (z_L, z_V), 0 at the start.

    z_L and z_V have half the intrinsic dimension n each. Entries of A_L are N(0, std_emb / sqrt(n/2)), those of A_V
    N(mean_conv 3072 / (n/2), std_conv sqrt(3072 / (n/2))), with the moments of the model's token embeddings and of
    its patch embedding. Nothing is added to the text tokens, so that the start is a context of zeros.
    """

    Options = TokensOptions

    def __init__(self, options: TokensOptions, shape: ModelShape, seed: int) -> None:
        """Draw both projections.

        Args:
            options: intrinsic dimension n, and the number of visual tokens.
            shape: the model's; the number of text tokens is that of its initial context.
            seed: keys every draw.

        Raises:
            InputError: the image tower has no patches to stand beside, or one number is to be halved.
        """
        if shape.patches is None:
            raise InputError(NO_PATCHES)
        if options.intrinsic_dimension < 2:
            raise InputError("prompt.intrinsic_dimension: 1 leaves texts or images without a number: give at least 2")
        self._text = shape.initial_context.shape
        self._visual = options.tokens, shape.patches.width
        self._half = options.intrinsic_dimension // 2
        self._dimension = options.intrinsic_dimension
        rest = self._dimension - self._half
        draw = generator(seed, Stream.PROJECTION, 0).standard_normal((math.prod(self._text), self._half))
        self.text_projection = shape.token_std / math.sqrt(self._half) * draw
        """A_L, shape (m width, n/2)."""
        draw = generator(seed, Stream.PROJECTION, 1).standard_normal((math.prod(self._visual), rest))
        features = VISION_FEATURES / rest
        self.visual_projection = shape.patches.mean * features + shape.patches.std * math.sqrt(features) * draw
        """A_V, shape (tokens vision width, n/2)."""

    @property
    def dimension(self) -> int:
        """n."""
        return self._dimension

    def initial(self) -> Float64:
        """Zeros, shape (n,): the mean that CMA-ES starts from."""
        return np.zeros(self._dimension)

    def prompt(self, w: Float64) -> Prompt:
        """A context and visual tokens: `tokens`, shape (tokens, vision width)."""
        text = _product(self.text_projection, w[: self._half]).reshape(self._text)
        visual = _product(self.visual_projection, w[self._half :]).reshape(self._visual)
        return Prompt(text, VisualPrompt("tokens", {"tokens": visual}))

    def tensors(self) -> dict[str, Float64]:
        """None: both projections take 100 MB for ViT-B/16, and the tokens in a tuned prompt do not need them."""
        return {}


def _product(matrix: Float64, vector: Float64) -> Float32:
    """Without BLAS, as in `per_token`: the same bits on every actor."""
    product: Float32 = np.einsum("ij,j->i", matrix, vector).astype(np.float32)
    return product
