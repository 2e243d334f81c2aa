"""The arms of a sweep, resolved and checked before it starts: pairings, distillation losses, search parameters."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from supersnn.config import LOSS_TERMS, LossTerm, TrainConfig
from supersnn.config_model import current_key, parse
from supersnn.errors import UserError, nearest, prefix_errors
from supersnn.nested import flatten, merge, unflatten
from supersnn.networks.build import family, require_known
from supersnn.own_losses import needs
from tune.description import own_parts, references, relation_ranges, settings
from tune.description.conditions import combinations, existing, ordered
from tune.description.space import DEFAULTS, SearchParameter, Values
from tune.description.sweep import ArmConfig, SweepConfig
from tune.description.trying import try_values

OWN_WEIGHT = SearchParameter(log=(0.05, 5.0))
"""The range of the weight of a loss term of one's own that has none."""
USUAL_TERMS: dict[str, tuple[LossTerm, ...]] = {"logit": ("logit",), "feature": ("feature",)}
"""The distillation losses of arms with these names; every other arm with teachers has `relation`."""


@dataclass(frozen=True)
class Arm:
    """One arm, resolved: `base` holds every key of its trainings, `parameters` the searched ones, in order."""

    name: str
    base: Mapping[str, Any]
    parameters: Mapping[str, SearchParameter]
    terms: tuple[str, ...]
    teachers: tuple[str, ...]
    students: tuple[str, ...]

    def config(self, values: Values, origin: str | None = None) -> TrainConfig:
        """Return the training for some sampled values; `origin` is named in errors, by default the arm.

        Fixed arguments of parts of one's own are left out where a part is chosen that does not have them.
        """
        chosen = own_parts.with_accepted_arguments(merge(self.base, unflatten(values)), values)
        return parse(TrainConfig, chosen, origin or f"arm {self.name}")

    def trainings(self, keys: Iterable[str]) -> Iterator[TrainConfig]:
        """Yield a training for each combination of the values of some keys that a trial can have."""
        fixed = flatten(self.base)
        searched = [key for key in keys if key in self.parameters]
        for values in combinations(self.parameters, fixed, searched):
            yield self.config(existing(self.parameters, fixed, values))


def resolve(sweep: SweepConfig, origin: str = "sweep") -> dict[str, Arm]:
    """Return the sweep's arms by name; whatever a trial may be trained with has been tried.

    Raises:
        UserError: an arm's pairing contradicts its name, or something in the sweep refers to nothing, or contradicts
            another part.
    """
    with prefix_errors(origin):
        settings.check(sweep)
        own_parts.check_sweep(sweep)
        with prefix_errors("student.architecture"):
            require_known(sweep.student.architecture)
        arms = {}
        for name, arm in sweep.arms.items():
            with prefix_errors(f"arms.{name}", "."):
                arms[name] = _resolve(sweep, name, arm)
        references.check(sweep, arms)
        own_parts.check_arms(sweep, arms)
        for name, resolved in arms.items():
            with prefix_errors(f"arms.{name}", "."):
                try_values(resolved)
    return arms


def resolve_again(sweep: SweepConfig) -> dict[str, Arm]:
    """Return the arms of a sweep that differs from one that was resolved in its data set and seeds only."""
    return {name: _resolve(sweep, name, arm) for name, arm in sweep.arms.items()}


def _resolve(sweep: SweepConfig, name: str, arm: ArmConfig) -> Arm:
    students = arm.students or (sweep.student.architecture,)
    terms = _terms(name, arm, sweep)
    _check_pairing(name, students, arm.teachers)
    references.check_fixed(arm, terms, sweep)
    fixed = {current_key(TrainConfig, key): value for key, value in arm.set.items()}
    if name == "shuffled":
        fixed["loss.relation.shuffle"] = True
    parameters = _pairing_parameters(students, arm.teachers) | _own_parameters(sweep, arm, terms)
    for term in terms:
        weight = weight_key(term, sweep)
        if weight not in parameters and weight not in fixed and not sweep.loss.weight(term):
            parameters[weight] = _default_range(weight, sweep, parameters, fixed)
    base = merge(sweep.base(), unflatten(fixed))
    for term in (*LOSS_TERMS, *sweep.loss.own):
        if term not in terms:
            base = merge(base, unflatten({weight_key(term, sweep): 0.0}))
    base = merge(base, {"student": {"architecture": students[0]}})
    base = merge(base, {"teacher": {"name": arm.teachers[0] if arm.teachers else None}})
    parameters = ordered({key: parameter for key, parameter in parameters.items() if key not in fixed})
    return Arm(name, base, parameters, terms, arm.teachers, students)


def _default_range(
    weight: str, sweep: SweepConfig, parameters: Mapping[str, SearchParameter], fixed: Mapping[str, Any]
) -> SearchParameter:
    """Return the range of a term's weight that has none; that of the relational term depends on its kinds."""
    if weight != relation_ranges.WEIGHT:
        return DEFAULTS.get(weight, OWN_WEIGHT)
    values = []
    for key, own in (
        (relation_ranges.KIND, sweep.loss.relation.kind),
        (relation_ranges.SCALE, sweep.loss.relation.scale),
    ):
        searched = parameters[key].categorical if key in parameters and key not in fixed else None
        values.append(searched or (fixed.get(key, own),))
    return relation_ranges.weight_range(*values)


def weight_key(term: str, sweep: SweepConfig) -> str:
    """Return the dotted key of a loss term's weight."""
    return f"loss.own.{term}.weight" if term in sweep.loss.own else f"loss.{term}.weight"


def _terms(name: str, arm: ArmConfig, sweep: SweepConfig) -> tuple[str, ...]:
    if arm.losses is None:
        return USUAL_TERMS.get(name, ("relation",)) if arm.teachers else ()
    for term in arm.losses:
        if term not in LOSS_TERMS and term not in sweep.loss.own:
            known = (*LOSS_TERMS, *sweep.loss.own)
            hint = nearest(term, known) or f"; known: {', '.join(known)}, and the names under loss.own"
            raise UserError(f"losses: {term!r} is unknown{hint}")
    with_teacher = [term for term in arm.losses if term in LOSS_TERMS or needs(sweep.loss.own[term].term)]
    if with_teacher and not arm.teachers:
        raise UserError(f"losses: {with_teacher} need teachers; name some in arms.{name}.teachers")
    if len(set(arm.losses)) < len(arm.losses):
        raise UserError(f"losses: expected each once, found {list(arm.losses)}")
    if arm.teachers and not arm.losses:
        raise UserError(f"losses: arm has teachers but no distillation loss; add one of {', '.join(LOSS_TERMS)}")
    return arm.losses


def _check_pairing(name: str, students: tuple[str, ...], teachers: tuple[str, ...]) -> None:
    """Check the arm's pairings, each student with each teacher, against the arm's name."""
    for key, architectures in (("students", students), ("teachers", teachers)):
        for architecture in architectures:
            with prefix_errors(key):
                require_known(architecture)
            if architectures.count(architecture) > 1:
                raise UserError(f"{key}: {architecture!r} is given twice; give each once")
    families = ", ".join(sorted({family(student) for student in students}))
    for student, teacher in product(students, teachers):
        same = family(student) == family(teacher)
        if (name == "homogeneous" and not same) or (name == "heterogeneous" and same):
            raise UserError(
                f"teachers: {teacher} is of family {family(teacher)!r}; a {name} arm needs teachers "
                f"{'outside' if same else 'of'} the students' families ({families})"
            )
    if name == "direct" and teachers:
        raise UserError(f"teachers: the direct arm must have no teacher, found {list(teachers)}")
    if name in ("homogeneous", "heterogeneous", "logit", "feature", "shuffled") and not teachers:
        raise UserError(f"teachers: an arm named {name} needs at least one teacher")


def _pairing_parameters(students: tuple[str, ...], teachers: tuple[str, ...]) -> dict[str, SearchParameter]:
    choices = {"student.architecture": students, "teacher.name": teachers}
    return {key: SearchParameter(categorical=names) for key, names in choices.items() if len(names) > 1}


def _own_parameters(sweep: SweepConfig, arm: ArmConfig, terms: tuple[str, ...]) -> dict[str, SearchParameter]:
    """Return the sweep's search space with the arm's, without the parameters of losses that are off."""
    parameters = {}
    for key, parameter in (dict(sweep.space) | dict(arm.space)).items():
        references.check_searched(key, parameter, sweep)
        when = parameter.when and {current_key(TrainConfig, other): value for other, value in parameter.when.items()}
        parameters[key] = parameter if when == parameter.when else parameter.model_copy(update={"when": when})
    off = tuple(f"loss.{term}." for term in LOSS_TERMS if term not in terms)
    off += tuple(f"loss.own.{term}." for term in sweep.loss.own if term not in terms)
    return {key: parameter for key, parameter in parameters.items() if not key.startswith(off)}
