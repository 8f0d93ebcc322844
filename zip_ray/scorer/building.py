"""The scorers of a process by their keys: of open_clip's models, of generative ones here or served, or of one's own.

torch is loaded where a model is.
"""

from typing import TYPE_CHECKING, Any

from zip_ray import registry
from zip_ray.config.model import ModelConfig, VlmConfig
from zip_ray.config.scorer_key import config_of_key
from zip_ray.config.served import ServedConfig

if TYPE_CHECKING:
    from zip_ray.scorer.generative import VlmScorers
    from zip_ray.scorer.scorer import ClipScorers


class ScorerBuilder:
    """Builds scorers one after another; while they ask for the same frozen model, it is loaded once."""

    def __init__(self) -> None:
        self._of_clip: ClipScorers | None = None
        self._of_vlm: VlmScorers | None = None

    def of_key(self, key: str) -> Any:
        """The scorer of a key (see `config.scorer_key`): what `pool.contract.ScorerLike` describes.

        Raises:
            InputError: a user's class cannot be imported here, or model, task or their combination cannot be
                used as configured.
        """
        config = config_of_key(key)
        if isinstance(config.model, ModelConfig):
            return self._clip()(config)
        if isinstance(config.model, VlmConfig):
            return self._vlm()(config)
        if isinstance(config.model, ServedConfig):
            from zip_ray.scorer.served_generative import served_scorer

            return served_scorer(config.model, config)
        from zip_ray.tasks import load_task

        own = registry.find("model", config.model.scorer)
        return own(config.model, load_task(config.task, config.seed), config)

    def _clip(self) -> "ClipScorers":
        if self._of_clip is None:
            from zip_ray.scorer.scorer import ClipScorers

            self._of_clip = ClipScorers()
        return self._of_clip

    def _vlm(self) -> "VlmScorers":
        if self._of_vlm is None:
            from zip_ray.scorer.generative import VlmScorers

            self._of_vlm = VlmScorers()
        return self._of_vlm
