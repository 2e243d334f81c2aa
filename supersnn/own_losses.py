"""Loss terms of your own: functions, or modules with parameters that are trained with the student.

A term is called as ``term(student, teacher, labels)``: the student's `Output`, the `TeacherOutputs`, and labels int64
[B]. It returns a scalar. A function gets its arguments in every call; a class is called with them once. Its attribute
`needs` names the outputs of the teacher that it uses, of `NEEDS`; without it, it works in arms without a teacher too.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from supersnn import parts
from supersnn.config import LossConfig, OwnLossConfig
from supersnn.errors import UserError, nearest, prefix_errors
from supersnn.losses import OwnTerm, TeacherOutputs
from supersnn.networks.base import Output

NEEDS = ("logits", "vectors", "features")
"""What a term may need of a teacher: logits [B, K], `vectors[1]` [B, D] (pooled features), features [B, C, H, W]."""


def needs(path: str) -> tuple[str, ...]:
    """Return the teacher outputs that a term says it needs.

    Raises:
        UserError: it cannot be imported, or names something else.
    """
    said = getattr(parts.function(path), "needs", ())
    wanted = (said,) if isinstance(said, str) else tuple(said)
    for one in wanted:
        if one not in NEEDS:
            raise UserError(
                f"{path!r}: needs: expected some of {', '.join(NEEDS)}, found {one!r}{nearest(str(one), NEEDS)}"
            )
    return wanted


def needed_by(loss: LossConfig) -> set[str]:
    """Return the teacher outputs that the terms of a loss need, those with a weight above zero."""
    return {one for name in loss.terms_on() if name in loss.own for one in needs(loss.own[name].term)}


class OwnTerms:
    """The terms of a loss that are on, by name; `modules` are those with parameters."""

    def __init__(self, config: LossConfig, with_teacher: bool) -> None:
        """Import and construct them; weights are drawn from torch's global generator.

        Raises:
            UserError: one cannot be imported or constructed, or needs a teacher that there is not.
        """
        self.modules = nn.ModuleDict()
        self.terms: dict[str, OwnTerm] = {}
        for name, own in config.own.items():
            if own.weight <= 0:
                continue
            with prefix_errors(f"loss.own.{name}"):
                if needs(own.term) and not with_teacher:
                    raise UserError(f"{own.term!r} needs the teacher's {', '.join(needs(own.term))}; set teacher.name")
                called = _constructed(own)
                if isinstance(called, nn.Module):
                    self.modules[name] = called
                self.terms[name] = partial(_checked, own.term, called, needs(own.term))


def _constructed(own: OwnLossConfig) -> Any:
    """Return a term as what is called with the outputs."""
    found, key = parts.function(own.term), "arguments"
    if isinstance(found, type):
        return parts.call(own.term, found, {}, own.arguments, key)
    parts.check_arguments(own.term, found, (), own.arguments, key, positional=3)
    return partial(found, **own.arguments) if own.arguments else found


def _checked(
    path: str, called: Any, wanted: tuple[str, ...], student: Output, teacher: TeacherOutputs, labels: Tensor
) -> Tensor:
    available: Mapping[str, object] = {
        "logits": teacher.logits,
        "vectors": teacher.vectors.get(1),
        "features": teacher.features,
    }
    for one in wanted:
        if available[one] is None:
            raise ValueError(f"{path!r} needs the teacher's {one}, which the teacher source does not return")
    try:
        with parts.raised_by(path):
            value = called(student, teacher, labels)
    except UserError as error:
        if wanted or any(value is not None for value in available.values()):
            raise
        raise UserError(
            f"{error}; it was given no outputs of a teacher: a term that reads some names them in its attribute "
            f"`needs`, as needs = ('logits',)"
        ) from error
    if not isinstance(value, Tensor) or value.dim() != 0:
        found = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"{path!r}: expected a scalar tensor, the mean over the batch, found {found}")
    return value
