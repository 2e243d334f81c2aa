"""The result of a final run: its measurements, in `result.json` of its folder."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from supersnn.files import DamagedFile, write_atomically
from supersnn.records.events import TrialRanked, WinnerVerified
from supersnn.records.metrics import TEST_ACCURACY, VAL_ACCURACY, by_column, by_key

Recorded = WinnerVerified | TrialRanked
"""The events that the journal has of final runs."""


class FinalResult(BaseModel):
    """The result of one training after the search.

    Attributes:
        seed: of the training.
        config: digest of the training's configuration (`supersnn.digests.digest`); None in results of versions
            that stored none.
        metrics: by key; accuracies are fractions, operations and energy are for one image. Without a test they are
            those of the validation images. A loss that is not finite is None.
        rates: the firing rate by layer.
        images: how many images they were measured on.
        opened: when the test images were opened, in Unix seconds; None where they stayed closed.
        seconds: of training.
        ended: ``finished`` or ``failed:REASON``.
        anytime: accuracy and cost on the same images after each time step, and of early exits
            (`supersnn.anytime.Point`); empty in results of earlier versions.
        int8: weights of 8 bits beside floats on the same images (`supersnn.export_formats.int8_format.compared`); None
            without `export.int8`.
        right: which test images were classified correctly (`supersnn.records.packed`); None without a test, and in
            results of earlier versions.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    seed: int
    config: str | None = None
    metrics: dict[str, float | None]
    rates: dict[str, float] = {}
    images: int
    opened: float | None = None
    seconds: float
    ended: str
    anytime: list[dict[str, Any]] = []
    int8: dict[str, Any] | None = None
    right: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the result in a file; those of earlier versions have each metric under its column's name.

        Raises:
            DamagedFile: it is no result.
        """
        try:
            plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            result = cls.model_validate(plain if "metrics" in plain else plain | {"metrics": by_key(plain)})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            key = ".".join(map(str, first["loc"]))
            raise DamagedFile(f"{path}: damaged: {key}: {first['msg'].lower()}; {RETRAIN}") from None
        except (ValueError, TypeError, AttributeError):
            raise DamagedFile(f"{path}: damaged: not a JSON object; {RETRAIN}") from None
        if result.metrics.get(VAL_ACCURACY.key) is None:
            raise DamagedFile(f"{path}: damaged: it has no {VAL_ACCURACY.title}; {RETRAIN}")
        return result

    def write(self, path: Path) -> None:
        """Write the result to a file, atomically."""
        write_atomically(path, self.model_dump_json())

    def difference(self, event: Recorded) -> str | None:
        """Return the first value that differs from the journal's event of this run, as text; None without any.

        What the event does not have, as in journals of earlier versions, is not compared.
        """
        if isinstance(event, TrialRanked):
            pairs: dict[str, tuple[Any, Any]] = {VAL_ACCURACY.key: (self.val, event.value)}
        else:
            about = ("rates", "seconds", "opened", "right", *(["ended"] if "ended" in event.model_fields_set else []))
            known = {key for key in (VAL_ACCURACY.key, TEST_ACCURACY.key) if key in event.metrics}
            compared = sorted(known | (event.metrics.keys() & self.metrics.keys()))
            pairs = {key: (self.metrics.get(key), event.metrics[key]) for key in compared}
            pairs |= {
                key: (getattr(self, key), getattr(event, key)) for key in about if getattr(event, key) is not None
            }
        for key, (stored, recorded) in pairs.items():
            if stored != recorded:
                return f"{key} is {stored} here and {recorded} in the journal"
        return None

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
        return about | self.model_dump(mode="json", exclude={"seed", "config", "metrics", "right"})

    def _accuracy(self, key: str) -> float:
        value = self.metrics[key]
        assert value is not None
        return value


RETRAIN = "move the file away, and `supersnn sweep` trains this run again"
