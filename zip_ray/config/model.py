"""Section `model`: what is frozen."""

from typing import Annotated, Literal

from zip_ray.config.section import AtHome, Section


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
