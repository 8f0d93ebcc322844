"""Environment variables of a developer's shell that must not affect the tests."""

import atexit
import os
import shutil
import tempfile


def isolate_environment() -> None:
    """Keep Ray's and MLflow's environment, and features cached by other runs, out of the tests."""
    os.environ.pop("RAY_ADDRESS", None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # 15 by default: next to other programs an actor would get a thirtieth of a core.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - that is its name
    # 10,000 by default, which a test of the metrics would wait for.
    os.environ["RAY_metrics_report_interval_ms"] = "1000"  # noqa: SIM112
    # One worker per core, started at once, which no actor with its own code can use.
    os.environ["RAY_prestart_worker_first_driver"] = "0"  # noqa: SIM112
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(name, None)
    # No test uses an MLflow server's job runners: several processes that each import MLflow.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.environ["OMP_NUM_THREADS"] = "1"  # several test processes share the cores
    if "PYTEST_XDIST_WORKER" not in os.environ:  # inherited by its workers
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="zip-ray-cache-")
        atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
