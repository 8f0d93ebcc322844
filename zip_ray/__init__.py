"""zip-ray: tune the prompt of a frozen vision-language model with forward passes only.

The public names are imported when they are first used: `import zip_ray` loads neither torch nor Ray.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zip_ray.artifact.tuned_prompt import TunedPrompt
    from zip_ray.config.tree import Config
    from zip_ray.errors import InputError
    from zip_ray.library import classify, compare, evaluate, open_pool, resume, tune
    from zip_ray.runs.run_result import RunResult
    from zip_ray.tuning.loop import Interrupted

__version__ = "0.1.0"

_HOMES = {
    "tune": "library",
    "resume": "library",
    "evaluate": "library",
    "classify": "library",
    "compare": "library",
    "open_pool": "library",
    "Config": "config.tree",
    "TunedPrompt": "artifact.tuned_prompt",
    "RunResult": "runs.run_result",
    "InputError": "errors",
    "Interrupted": "tuning.loop",
}
"""By public name: the module that has it."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zip_ray' has no attribute '{name}'")
    return getattr(import_module(f"zip_ray.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


__all__ = [
    "Config",
    "InputError",
    "Interrupted",
    "RunResult",
    "TunedPrompt",
    "__version__",
    "classify",
    "compare",
    "evaluate",
    "open_pool",
    "resume",
    "tune",
]
