"""The MLflow model of a tuned prompt, as code: MLflow runs this file where the model is loaded."""

from typing import Any

import pandas
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class ImageClassifier(PythonModel):  # type: ignore[misc]
    """Classifies image files, given by their paths in the column `image`."""

    def load_context(self, context: Any) -> None:
        """Load the tuned prompt and its frozen model."""
        from zip_ray.artifact.tuned_prompt import TunedPrompt

        self._classifier = TunedPrompt.load(context.artifacts["prompt"]).classifier()

    def predict(self, context: Any, model_input: pandas.DataFrame, params: Any = None) -> Any:  # noqa: ARG002
        """A frame with the columns `class` and `probability`, a row for each image."""
        found = self._classifier(list(model_input["image"]))
        return pandas.DataFrame(
            {"class": [one.classname for one in found], "probability": [one.probability for one in found]}
        )


set_model(ImageClassifier())
