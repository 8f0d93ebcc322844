"""The tuned prompt of a run as an MLflow model, which classifies image files on any machine with zip-ray."""

from pathlib import Path

from zip_ray import __version__
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.files import packaged

FOLDER = "model"
"""Among the artifacts of the run: `runs:/RUN_ID/model` can be registered and loaded."""


def classifies_alone(prompt: Path) -> bool:
    """Whether a tuned prompt is of a model that zip-ray loads itself."""
    return TunedPrompt.load(prompt).card.scorer == "clip"


def save_mlflow_model(prompt: Path, folder: Path) -> None:
    """Write the model, as code and not as a pickle, with its signature and an example of its input.

    Args:
        prompt: tuned_prompt.safetensors.
        folder: is made.
    """
    import pandas
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    outputs = [ColSpec(DataType.string, "class"), ColSpec(DataType.double, "probability")]
    pyfunc.save_model(
        str(folder),
        python_model=str(packaged("artifact/served_model.py")),
        artifacts={"prompt": str(prompt)},
        signature=ModelSignature(Schema([ColSpec(DataType.string, "image")]), Schema(outputs)),
        input_example=pandas.DataFrame({"image": ["images/test/1.png"]}),
        pip_requirements=[f"zip-ray=={__version__}"],
    )
