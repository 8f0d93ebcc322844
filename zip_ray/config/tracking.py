"""Section `tracking`: MLflow."""

import os

from zip_ray.config.section import Section


class TrackingConfig(Section):
    """MLflow. The JSON lines in the run folder are the record; MLflow is a copy of them."""

    enabled: bool = True
    """Whether the run is sent to MLflow."""
    uri: str | None = None
    """Server, or a local sqlite file. Default: MLFLOW_TRACKING_URI, or else sqlite:///mlflow.db. User and password are
    written nowhere: a resume takes them from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    experiment: str | None = None
    """Experiment. Default: MLFLOW_EXPERIMENT_NAME, or else zip-ray."""
    name: str | None = None
    """Name of the run. Default: that of its folder. `zip-ray compare` gives its runs their labels."""
    parent: str | None = None
    """Id of the MLflow run that contains this one. `zip-ray compare` sets it."""

    @property
    def address(self) -> str:
        """Where MLflow is."""
        return self.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"

    @property
    def experiment_name(self) -> str:
        """The experiment of the run."""
        return self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "zip-ray"
