"""The code of a registered model: MLflow copies this file into the model and runs it there. Nothing is pickled.

Takes images, uint8 [B, C, H, W]; returns logits, float32 [B, K], their mean over time.
"""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import torch
from mlflow.pyfunc.model import PythonModel

from supersnn import exported


class ExportedStudent(PythonModel):
    """The student of the export folder among the model's artifacts."""

    def load_context(self, context: Any) -> None:
        """Load the student, after checking every file of the export folder."""
        self.student = exported.load(Path(context.artifacts["export"]), trust=True)  # as this file is

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray:
        """Return the logits, float32 [B, K], of images uint8 [B, C, H, W]."""
        del context, params
        return self.student.predict(torch.from_numpy(np.ascontiguousarray(model_input))).numpy()


mlflow.models.set_model(ExportedStudent())
