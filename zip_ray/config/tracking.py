"""Section `tracking`: MLflow."""

from zip_ray.config.section import Section


class TrackingConfig(Section):
    """MLflow. The JSON lines in the run folder are the record; MLflow is a copy of them."""

    enabled: bool = True
    """Whether the run is sent to MLflow."""
    uri: str = "sqlite:///mlflow.db"
    """Server, or a local sqlite file."""
    experiment: str = "zip-ray"
    """Experiment."""
    name: str | None = None
    """Name of the run. Default: that of its folder. `zip-ray compare` gives its runs their labels."""
    parent: str | None = None
    """Id of the run that this one is a part of. `zip-ray compare` sets it."""
