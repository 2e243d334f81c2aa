"""How long a sweep takes: the trainings of its plan, at the measured time of an epoch, in the slots that it has."""

from collections.abc import Mapping
from dataclasses import dataclass

from tune.description.arms import Arm
from tune.description.replication import searches_per_arm, teachers_per_architecture
from tune.description.sweep import SweepConfig


@dataclass(frozen=True)
class EpochTimes:
    """Seconds: of an epoch of a student by arm, of an epoch of a teacher, and of a teacher's cache, both by teacher."""

    students: Mapping[str, float]
    teachers: Mapping[str, float]
    caches: Mapping[str, float]


def seconds_by_part(sweep: SweepConfig, arms: Mapping[str, Arm], times: EpochTimes, slots: int) -> dict[str, float]:
    """Return an upper bound of the seconds of each part of a sweep, and of the `total`.

    Every trial is counted with all of its epochs; early stopping saves some. Trainings fill all slots; a part takes at
    least as long as one of its trainings. Starting Ray, and MLflow, are not counted. Where the sweep
    has several data sets, they count as alike.

    Args:
        sweep: the sweep.
        arms: its arms.
        times: of epochs.
        slots: how many trainings run at once.
    """
    search, verify = sweep.search, sweep.verify
    candidates = min(verify.top, search.trials)
    students = {name: times.students[name] * sweep.train.epochs for name in arms}
    teachers = {name: times.teachers[name] * sweep.teacher.epochs + times.caches[name] for name in _teachers(arms)}
    again = list(teachers.values()) if verify.train_on != "train" else []
    ranked = candidates * verify.rank_seeds if candidates > 1 else 0
    cells, taught = searches_per_arm(sweep), teachers_per_architecture(sweep)
    parts = {
        "teachers": _in_slots(list(teachers.values()), taught, slots),
        "search": _in_slots(list(students.values()), search.trials * cells, slots, search.seeds_per_trial),
        "ranking": _in_slots(list(students.values()), ranked * cells, slots),
        "refitted_teachers": _in_slots(again, taught, slots),
        "verification": _in_slots(list(students.values()), verify.seeds * cells, slots),
    }
    return {name: seconds for name, seconds in parts.items() if seconds} | {"total": sum(parts.values())}


def _in_slots(trainings: list[float], count: int, slots: int, seeds: int = 1) -> float:
    """Return the seconds of `count` trainings of each length, with `seeds` one after another, in the slots."""
    if not trainings or not count:
        return 0.0
    return max(sum(trainings) * count * seeds / slots, max(trainings) * seeds)


def _teachers(arms: Mapping[str, Arm]) -> list[str]:
    return list(dict.fromkeys(teacher for arm in arms.values() for teacher in arm.teachers))
