"""Section `model`: what is frozen."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from zip_ray.config.section import AtHome, Positive, Section

TINY_VLM, TRANSFORMERS = "tiny-vlm", "transformers:"


class ScorerOptions(Section):
    """The frozen model: what the scorers of all models have in common."""

    scorer: str = ""
    """Name of the scorer."""


class ModelConfig(ScorerOptions):
    """The frozen model, as open_clip names it."""

    scorer: Literal["clip"] = "clip"
    """Scorer of the prompts: models of open_clip, or your own."""
    name: str = "small-clip"
    """small-clip, or a model of open_clip. small-clip ships with zip-ray; others go by open_clip's name, as
    `local-dir:PATH` with open_clip_config.json and weights, or as `hf-hub:ORG/REPO`."""
    pretrained: Annotated[str, AtHome] | None = None
    """open_clip's pretrained tag, or a checkpoint file. Not used with small-clip, local-dir: and hf-hub:."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Precision of the text tower's matrix products. tf32 (GPU) and bf16 are faster but blur the small loss differences
    that ZIP learns from: `zip-ray doctor` measures how much."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the actors; auto = cuda if a GPU is assigned."""


def scorer_of(name: object, otherwise: str) -> str:
    """What scores a model of that name, where the config does not say."""
    generative = isinstance(name, str) and (name == TINY_VLM or name.startswith(TRANSFORMERS))
    return "vlm" if generative else otherwise


def _lasting(name: str) -> str:
    """The name, with a folder that is here as it is found from any working directory."""
    if scorer_of(name, "") != "vlm":
        raise ValueError("give tiny-vlm, transformers:FOLDER or transformers:ORG/REPO, or another model.scorer")
    place = Path(os.path.expanduser(name.removeprefix(TRANSFORMERS)))
    return f"{TRANSFORMERS}{place.absolute()}" if name.startswith(TRANSFORMERS) and place.is_dir() else name


def _settings(text: str) -> str:
    """Refuse what is no JSON object."""
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is no JSON ({error}): give an object of transformers' settings") from error
    if not isinstance(found, dict) or "quant_method" not in found:
        raise ValueError(f"'{text}' names no quant_method: give an object of transformers' settings")
    return text


class GenerativeOptions(ScorerOptions):
    """What generative models have in common, wherever they run."""

    name: Annotated[str, AfterValidator(_lasting)] = TINY_VLM
    """tiny-vlm, which ships with zip-ray; or `transformers:FOLDER` or `transformers:ORG/REPO`: whatever transformers'
    AutoModelForImageTextToText loads."""
    scoring: Literal["sum", "mean", "calibrated"] = "sum"
    """Score of a candidate answer: sum = its log-likelihood; mean = that per token; calibrated = less its
    log-likelihood without the image."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the actors; auto = cuda if a GPU is assigned."""


class VlmConfig(GenerativeOptions):
    """The frozen model, a generative one of transformers."""

    scorer: Literal["vlm"] = "vlm"
    """Generative models of transformers."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the activations. fp32 = whatever the weights are kept in; bf16 is faster on a GPU, but blurs small loss
    differences."""
    quantization: Annotated[str, AfterValidator(_settings)] | None = None
    """Settings of transformers for quantised weights, as JSON with quant_method. Not needed for a model that is stored
    quantised."""
    prefix_memory: Positive | Literal["auto"] = "auto"
    """GiB of host memory, per actor, for the keys and values of images. What does not fit goes to files in the cache
    folder. auto = half of the free memory, shared out among the actors."""
