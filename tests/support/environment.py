"""What a shell of a developer may have set, and tests must not see."""

import os
import tempfile


def isolate_environment() -> None:
    """Ray's and MLflow's own environment must not leak into the tests, nor the features cached by other runs."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="zip-ray-cache-")
