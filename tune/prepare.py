"""Before a trial needs them: every teacher of a sweep is trained and its bank filled, a task a teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from supersnn.bank import Bank, kinds_for
from supersnn.config import TrainConfig
from supersnn.data import training_data
from supersnn.teachers import TeacherStore
from tune.arms import Arm
from tune.executor import Executor

POOL = "loss.relation.pool"


@dataclass(frozen=True)
class Preparation:
    """One teacher, and all that the arms will ask of it: plain values only, so that it travels anywhere."""

    config: dict[str, Any]
    kinds: tuple[str, ...]
    store: str


@dataclass(frozen=True)
class Teaching:
    """What a preparation came to: the fields of the journal's `teacher` event, and of its `bank` event if any."""

    teacher: dict[str, Any]
    bank: dict[str, Any] | None

    def events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the journal's events."""
        yield "teacher", self.teacher
        if self.bank is not None:
            yield "bank", self.bank


def prepare(arms: Mapping[str, Arm], store: Path, executor: Executor) -> Iterator[Teaching]:
    """Yield each teacher of the arms, trained or found, as it becomes ready.

    Raises:
        UserError: a teacher cannot be had.
    """
    for _, done in executor.tasks(prepare_one, preparations(arms, store)):
        if isinstance(done, Exception):
            raise done
        yield done


def preparations(arms: Mapping[str, Arm], store: Path) -> list[Preparation]:
    """Return one preparation a teacher, with what any arm may ask of it."""
    configs: dict[str, TrainConfig] = {}
    kinds: dict[str, dict[str, None]] = {}
    for arm in arms.values():
        for teacher in arm.teachers:
            for pool in _pools(arm):
                values = {key: knob.at(0.0) for key, knob in arm.knobs.items()}
                config = arm.config({**values, "teacher.name": teacher, **pool})
                configs.setdefault(teacher, config)
                kinds.setdefault(teacher, {}).update(dict.fromkeys(kinds_for(config.loss)))
    return [Preparation(configs[name].model_dump(mode="json"), tuple(kinds[name]), str(store)) for name in configs]


def _pools(arm: Arm) -> list[dict[str, Any]]:
    """The pooled sides that an arm searches, each as values of a configuration."""
    knob = arm.knobs.get(POOL)
    return [{POOL: choice} for choice in knob.categorical] if knob and knob.categorical else [{}]


def prepare_one(item: Preparation) -> Teaching:
    """Train or find one teacher, and fill its bank, on this worker's device."""
    config = TrainConfig.model_validate(item.config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = training_data(config.dataset, device)
    store = Path(item.store)
    teacher = TeacherStore(store / "teachers").get(config, data, device)
    name = str(config.teacher.name)
    fields = {
        "name": name,
        "digest": teacher.digest,
        "family": teacher.family,
        "parameters": teacher.parameters,
        "val_accuracy": teacher.val_accuracy,
        "epochs": config.teacher.epochs,
        "seconds": teacher.seconds,
        "split": data.fingerprint,
        "known_split": teacher.known_split,
    }
    if config.teacher.views == "off":
        return Teaching(fields, None)
    bank = Bank.open(store / "banks", teacher, data, config, item.kinds)
    about = {"teacher": name, "digest": bank.digest, "views": config.teacher.views}
    return Teaching(fields, about | {"seconds": bank.seconds, "bytes": bank.bytes})
