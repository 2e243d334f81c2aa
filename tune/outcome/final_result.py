"""The result of a final run: its measurements, in `result.json` of its folder."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from supersnn.files import write_atomically
from supersnn.records.metrics import TEST_ACCURACY, VAL_ACCURACY, by_column, by_key


class FinalResult(BaseModel):
    """The result of one training after the search.

    Attributes:
        seed: of the training.
        metrics: by key; accuracies are fractions, operations and energy are for one image. Without a test they are
            those of the validation images. A loss that is not finite is None.
        rates: the firing rate by layer.
        images: how many images they were measured on.
        opened: when the test images were opened, in Unix seconds; None where they stayed closed.
        seconds: of training.
        ended: ``finished`` or ``failed:REASON``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int
    metrics: dict[str, float | None]
    rates: dict[str, float] = {}
    images: int
    opened: float | None = None
    seconds: float
    ended: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the result in a file; those of earlier versions have each metric under its column's name."""
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls.model_validate(plain if "metrics" in plain else plain | {"metrics": by_key(plain)})

    def write(self, path: Path) -> None:
        """Write the result to a file, atomically."""
        write_atomically(path, self.model_dump_json())

    @property
    def val(self) -> float:
        """The validation accuracy."""
        return self._accuracy(VAL_ACCURACY.key)

    @property
    def test(self) -> float | None:
        """The test accuracy, None where the test images stayed closed."""
        return self.metrics.get(TEST_ACCURACY.key)

    def row(self) -> dict[str, Any]:
        """Return the result as `verified.json` has it: metrics under their columns' names."""
        about = {"seed": self.seed, **by_column(self.metrics)}
        return about | self.model_dump(mode="json", exclude={"seed", "metrics"})

    def _accuracy(self, key: str) -> float:
        value = self.metrics[key]
        assert value is not None
        return value
