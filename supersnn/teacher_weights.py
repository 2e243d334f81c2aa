"""Weights files of teachers: this project's own, and state dicts of torchvision and timm in a network's form.

A state dict may be under the key `state_dict` or `model` of a checkpoint, and have the prefix ``module.``. Its class
names, where it or the export beside it has some, are compared with the data set's. Torchvision's and timm's keys are
mapped: the layers before the pooling to the body, the classifier to the read-out if its shape is right, else it has to
be fitted. The stem keeps the file's kernel, with the stride that the images' size asks for; of a colour stem for grey
images the weights are summed over the channels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from supersnn import checkpoint
from supersnn.config import DEFAULT_WEIGHTS, TrainConfig
from supersnn.errors import UserError, prefix_errors, shortened
from supersnn.networks.base import ImageShape, Network
from supersnn.networks.build import build, library_of

_NESTED = ("state_dict", "model", "model_state_dict")
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a file, and what it says of them: the split it was trained on, and the names of its classes."""

    origin: str
    tensors: dict[str, Tensor]
    split: str | None = None
    classes: tuple[str, ...] | None = None


def identity_of_default(name: str) -> str:
    """Return what identifies the recommended weights of a third-party network, without downloading them.

    Raises:
        UserError: the library has none.
    """
    library, _, model = name.partition(":")
    if library == "torchvision":
        return str(_torchvision_default(model).url)
    if library == "timm":
        with prefix_errors("teacher.weights"):
            return f"timm {_timm(model).pretrained_cfg.get('architecture')} {_timm(model).pretrained_cfg.get('tag')}"
    raise UserError(
        f"teacher.weights: DEFAULT is for torchvision:NAME and timm:NAME, not for {name!r}; expected a file"
    )


def read_default(name: str) -> Weights:
    """Return the weights that torchvision or timm recommends.

    Raises:
        UserError: there are none, or they cannot be downloaded.
    """
    library, _, model = name.partition(":")
    identity_of_default(name)
    try:
        if library == "torchvision":
            return Weights(DEFAULT_WEIGHTS, dict(_torchvision_default(model).get_state_dict(progress=False)))
        return Weights(DEFAULT_WEIGHTS, dict(_timm(model, pretrained=True).state_dict()))
    except UserError:
        raise
    except Exception as error:  # whatever a download raises
        raise UserError(
            f"teacher.weights: DEFAULT of {name!r} cannot be downloaded: {shortened(str(error), 200)}; expected a file"
        ) from error


def _torchvision_default(model: str) -> Any:
    import torchvision

    try:
        return torchvision.models.get_model_weights(model).DEFAULT
    except (ValueError, AttributeError) as error:
        raise UserError(f"teacher.weights: torchvision has no weights for {model!r}; expected a file") from error


def _timm(model: str, pretrained: bool = False) -> Any:
    try:
        import timm
    except ImportError:
        raise UserError(f"'timm:{model}' requires timm, which is not installed: pip install 'supersnn[timm]'") from None
    return timm.create_model(model, pretrained=pretrained)


def read(path: Path) -> Weights:
    """Return the weights in a file.

    Raises:
        UserError: it cannot be read, or has no tensors.
    """
    try:
        if path.suffix == ".safetensors":
            tensors, meta = checkpoint.load(path)
            found = checkpoint.student_weights(tensors) or tensors
            return Weights(str(path), found, meta.get("split"), _classes_beside(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"teacher.weights: {path} cannot be read as a safetensors file or a torch state dict: {reason}"
        ) from error
    if not isinstance(loaded, Mapping):
        raise UserError(f"teacher.weights: {path}: expected a state dict, found {type(loaded).__name__}")
    inner = next((loaded[key] for key in _NESTED if isinstance(loaded.get(key), Mapping)), loaded)
    tensors = {str(key).removeprefix("module."): value for key, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"teacher.weights: {path}: expected a state dict, found no tensors among {_list(inner)}")
    return Weights(str(path), tensors, classes=_classes_in(loaded))


def _classes_in(loaded: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the class names that a checkpoint has beside its tensors."""
    indices = loaded.get("class_to_idx")
    if isinstance(indices, Mapping):
        return tuple(sorted(map(str, indices), key=lambda name: int(indices[name])))
    names = loaded.get("classes")
    return tuple(map(str, names)) if isinstance(names, list | tuple) else None


def _classes_beside(path: Path) -> tuple[str, ...] | None:
    """Return the class names of the export folder that a file is in."""
    try:
        return tuple(json.loads((path.parent / "preprocessing.json").read_text(encoding="utf-8"))["classes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def network_with(
    config: TrainConfig, shape: ImageShape, classes: Sequence[str] | int, weights: Weights, fit: str
) -> Network:
    """Return a teacher's network with the weights of a file, on the CPU, in evaluation mode.

    Args:
        config: the teacher's own training.
        shape: of the images.
        classes: of the data set, or their number.
        weights: of the file.
        fit: `teacher.fit`; with ``head`` and ``all`` the read-out may be missing, and keeps its new weights.

    Raises:
        UserError: the weights are those of another network, or of other classes.
    """
    count = classes if isinstance(classes, int) else len(classes)
    with prefix_errors("teacher.name"), torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        network = build(config.student, config.neuron, shape, count, weights.tensors)
    expected = network.state_dict()
    found = _mapped(config.student.architecture, weights.tensors, expected)
    head = {key: value for key, value in expected.items() if key.startswith("readout.")}
    unfit = [key for key in head if key not in found or found[key].shape != expected[key].shape]
    if unfit and fit != "none":
        found |= head
    elif unfit and not [key for key in expected.keys() - head.keys() if key not in found]:
        shown = list(found[unfit[0]].shape) if unfit[0] in found else "none"
        raise UserError(
            f"teacher.weights: {weights.origin}: its head does not fit {count} classes: expected {unfit[0]} "
            f"{list(expected[unfit[0]].shape)}, found {shown}; set teacher.fit: head to train a new one"
        )
    elif not unfit:
        found |= _in_order(weights, classes, {key: found[key] for key in head})
    _require_same(config.student.architecture, weights, found, expected)
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)


def _mapped(name: str, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names of this project's network; those of other heads are left out."""
    library = library_of(name)
    if library is None or not tensors.keys().isdisjoint(expected):
        return dict(tensors)
    prefix = "body." if library == "torchvision" else "body.model."
    children = {key.removeprefix(prefix).partition(".")[0] for key in expected if key.startswith(prefix)}
    found, rest = {}, {}
    for key, tensor in tensors.items():
        if key.partition(".")[0] in children:
            found[prefix + key] = _with_channels(tensor, expected.get(prefix + key))
        else:
            rest[key] = tensor
    matrices = [key for key, tensor in rest.items() if key.endswith(".weight") and tensor.squeeze().dim() == 2]
    if matrices:
        classifier = matrices[-1].removesuffix("weight")
        for part in ("weight", "bias"):
            if classifier + part in rest:
                found[f"readout.{part}"] = rest[classifier + part].squeeze()
    return found


def _with_channels(tensor: Tensor, expected: Tensor | None) -> Tensor:
    """Return the weights of a colour stem as those for grey images."""
    if expected is None or tensor.dim() != 4 or tensor.shape == expected.shape:
        return tensor
    grey = tensor.shape[1] == 3 and expected.shape[1] == 1 and tensor.shape[0] == expected.shape[0]
    return tensor.sum(1, keepdim=True) if grey else tensor


def _in_order(weights: Weights, classes: Sequence[str] | int, head: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a read-out in the order of the data set's classes.

    Raises:
        UserError: the file's classes have other names.
    """
    if weights.classes is None or isinstance(classes, int):
        return dict(head)
    if set(weights.classes) != set(classes) or len(weights.classes) != len(classes):
        raise UserError(
            f"teacher.weights: {weights.origin}: its classes are {_list(weights.classes)}, the data set's are "
            f"{_list(classes)}: expected the same names"
        )
    rows = torch.tensor([weights.classes.index(name) for name in classes])
    return {key: value[rows] for key, value in head.items()}


def _require_same(name: str, weights: Weights, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = [f"{key} {list(expected[key].shape)}" for key in expected if key not in found]
    surplus = [f"{key} {list(found[key].shape)}" for key in found if key not in expected]
    other = [
        f"{key} {list(expected[key].shape)} (found {list(found[key].shape)})"
        for key in expected
        if key in found and found[key].shape != expected[key].shape
    ]
    if not (missing or surplus or other):
        return
    parts = [f"expected {_list(missing + other)}"] if missing or other else []
    parts += [f"found {_list(surplus)}"] if surplus else []
    raise UserError(
        f"teacher.weights: {weights.origin}: the tensors do not match teacher.name {name!r}: {'; '.join(parts)}"
    )


def _list(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = [str(name) for name in list(names)[:_SHOWN]]
    return shortened(", ".join(shown), 300) + (f", … ({len(names)} in all)" if len(names) > _SHOWN else "")
