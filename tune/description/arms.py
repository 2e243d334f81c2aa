"""The arms of a sweep, resolved and checked before it starts: pairings, distillation losses, search parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supersnn.config import LOSS_TERMS, LossTerm, TrainConfig
from supersnn.config_model import current_key, flatten, merge, parse, unflatten
from supersnn.errors import UserError, nearest, prefix_errors
from supersnn.networks.build import require_known
from supersnn.records.pairing import family
from tune.description.space import DEFAULTS, SearchParameter, Values
from tune.description.sweep import ArmConfig, SweepConfig

USUAL_TERMS: dict[str, tuple[LossTerm, ...]] = {"logit": ("logit",), "feature": ("feature",)}
"""The distillation losses of arms with these names; every other arm with teachers has `relation`."""


@dataclass(frozen=True)
class Arm:
    """One arm, resolved: `base` holds every key of its trainings, `parameters` the searched ones, in order."""

    name: str
    base: Mapping[str, Any]
    parameters: Mapping[str, SearchParameter]
    terms: tuple[LossTerm, ...]
    teachers: tuple[str, ...]
    students: tuple[str, ...]

    def config(self, values: Values) -> TrainConfig:
        """Return the training for some sampled values."""
        return parse(TrainConfig, merge(self.base, unflatten(values)), f"arm {self.name}")


def resolve(sweep: SweepConfig, origin: str = "sweep") -> dict[str, Arm]:
    """Return the sweep's arms by name.

    Raises:
        UserError: an arm's pairing contradicts its name, or a search parameter is no key of a training.
    """
    with prefix_errors(f"{origin}: student.architecture"):
        require_known(sweep.student.architecture)
    arms = {name: _resolve(sweep, name, arm, f"{origin}: arms.{name}") for name, arm in sweep.arms.items()}
    for key in sweep.space:
        if not any(key in arm.parameters for arm in arms.values()):
            raise UserError(f"{origin}: space.{key}: parameter is not used by any arm")
    return arms


def _resolve(sweep: SweepConfig, name: str, arm: ArmConfig, origin: str) -> Arm:
    students = arm.students or (sweep.student.architecture,)
    terms = _terms(name, arm, origin)
    _check_pairing(name, students, arm.teachers, origin)
    fixed = dict(arm.set)
    for key in fixed:
        if current_key(TrainConfig, key).startswith("dataset."):
            raise UserError(f"{origin}.set: {key}: all arms of a sweep use the same images; set it at the top level")
    if name == "shuffled":
        fixed["loss.relation.shuffle"] = True
    parameters = _pairing_parameters(students, arm.teachers) | _own_parameters(sweep, arm, terms, origin)
    for term in terms:
        weight = f"loss.{term}.weight"
        if weight not in parameters and weight not in fixed and not getattr(sweep.loss, term).weight:
            parameters[weight] = DEFAULTS[weight]
    base = merge(sweep.base(), unflatten(fixed))
    for term in LOSS_TERMS:
        if term not in terms:
            base = merge(base, {"loss": {term: {"weight": 0.0}}})
    base = merge(base, {"student": {"architecture": students[0]}})
    base = merge(base, {"teacher": {"name": arm.teachers[0] if arm.teachers else None}})
    parameters = {key: parameter for key, parameter in parameters.items() if key not in fixed}
    resolved = Arm(name, base, parameters, terms, arm.teachers, students)
    for share in (0.0, 0.999999):
        resolved.config({key: parameter.at(share) for key, parameter in parameters.items()})
    return resolved


def _terms(name: str, arm: ArmConfig, origin: str) -> tuple[LossTerm, ...]:
    if arm.losses is None:
        return USUAL_TERMS.get(name, ("relation",)) if arm.teachers else ()
    if arm.losses and not arm.teachers:
        raise UserError(f"{origin}.losses: {list(arm.losses)} need teachers; name some in {origin}.teachers")
    if arm.teachers and not arm.losses:
        raise UserError(
            f"{origin}.losses: arm has teachers but no distillation loss; add one of {', '.join(LOSS_TERMS)}"
        )
    return arm.losses


def _check_pairing(name: str, students: tuple[str, ...], teachers: tuple[str, ...], origin: str) -> None:
    families = {_family(student, f"{origin}.students") for student in students}
    for teacher in teachers:
        same = _family(teacher, f"{origin}.teachers") in families
        if (name == "homogeneous" and not same) or (name == "heterogeneous" and same):
            raise UserError(
                f"{origin}.teachers: {teacher} is of family {family(teacher)!r}; a {name} arm needs teachers "
                f"{'outside' if same else 'of'} the students' families ({', '.join(sorted(families))})"
            )
    if name == "direct" and teachers:
        raise UserError(f"{origin}.teachers: the direct arm must have no teacher, found {list(teachers)}")
    if name in ("homogeneous", "heterogeneous", "logit", "feature", "shuffled") and not teachers:
        raise UserError(f"{origin}.teachers: an arm named {name} needs at least one teacher")


def _family(architecture: str, origin: str) -> str:
    with prefix_errors(origin):
        require_known(architecture)
    return family(architecture)


def _pairing_parameters(students: tuple[str, ...], teachers: tuple[str, ...]) -> dict[str, SearchParameter]:
    choices = {"student.architecture": students, "teacher.name": teachers}
    return {key: SearchParameter(categorical=names) for key, names in choices.items() if len(names) > 1}


def _own_parameters(
    sweep: SweepConfig, arm: ArmConfig, terms: tuple[LossTerm, ...], origin: str
) -> dict[str, SearchParameter]:
    """Return the sweep's search space with the arm's, without the parameters of losses that are off."""
    known = set(flatten(TrainConfig.model_validate(sweep.base() | {"loss": {}})))
    parameters = dict(sweep.space) | dict(arm.space)
    for key, parameter in parameters.items():
        for named in (key, *(parameter.when or {})):
            if current_key(TrainConfig, named) not in known:
                raise UserError(f"{origin}: space.{key}: {named!r} is unknown{nearest(named, known)}")
        if key.startswith(("dataset.", "teacher.")) or key == "seed":
            raise UserError(f"{origin}: space.{key}: cannot be searched: it would change the data or the teachers")
    off = tuple(f"loss.{term}." for term in LOSS_TERMS if term not in terms)
    return {key: parameter for key, parameter in parameters.items() if not key.startswith(off)}
