"""What a weight of the relational term means: its gradient at the last map, compared with the label loss's.

    python -m benchmarks.relation_scale --folder DIR

On digits, for a student before and after its first epoch, with teachers of two families: the length of each term's
gradient at a weight of 1, divided by that of the label loss. `tune/description/relation_ranges.py` rests on it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from supersnn.augment import normalise
from supersnn.config import RelationLossConfig, TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.logit_losses import label_loss
from supersnn.networks.build import build
from supersnn.relation_loss import RelationLoss
from supersnn.teacher_outputs import as_teacher_outputs, compute_outputs, output_kinds
from supersnn.teachers import TeacherStore
from supersnn.training import train
from supersnn.views import augmented

BATCH, POOLS = 64, (1, 4)
KINDS: tuple[str, ...] = get_args(RelationLossConfig.model_fields["kind"].annotation)


def config(teacher: str | None, epochs: int = 1) -> TrainConfig:
    """Return a student's training on digits."""
    plain = {
        "dataset": {"name": "digits", "augment": {"crop": 1, "views": 2}},
        "student": {"architecture": "resnet8"},
        "teacher": {"name": teacher, "epochs": 6},
        "loss": {"relation": {"weight": 1.0 if teacher else 0.0}},
        "train": {"epochs": epochs, "batch_size": BATCH},
    }
    return parse(TrainConfig, plain, "relation_scale")


def rows(folder: Path) -> Iterator[tuple[str, str, int, dict[str, float]]]:
    """Yield teacher, state of the student, pooled side, and the ratio of each kind and scale."""
    own = config(None)
    data = training_data(own.dataset)
    torch.manual_seed(0)
    student = build(own.student, own.neuron, data.shape, len(data.classes))
    states = {"new": {name: value.clone() for name, value in student.state_dict().items()}}
    *_, last = train(own, data)
    states["after an epoch"] = {
        name.removeprefix("student."): value
        for name, value in last.snapshot()[0].items()
        if name.startswith("student.")
    }
    position = torch.arange(BATCH)
    images = normalise(augmented(data.train, position, 0, own), data.mean, data.std)
    for name in ("resnet8", "vgg8"):
        teacher = TeacherStore(folder / "teachers").get(config(name), data)
        outputs = as_teacher_outputs(compute_outputs(teacher.network, images, output_kinds(("relation",), POOLS)))
        for state, weights in states.items():
            student.load_state_dict(weights)
            with torch.no_grad():
                features = student(images).features
            maps = features.detach().requires_grad_()
            logits = student.readout(student.pool(maps.flatten(0, 1)).flatten(1)).unflatten(0, (len(maps), -1))
            of_label = _length(label_loss(own.loss.label, logits, data.train.labels[position]), maps)
            for pool in POOLS:
                related = outputs.related("last", pool)
                assert related is not None
                ratios = {}
                for kind in KINDS:
                    for scale in ("raw", "relative"):
                        described = RelationLossConfig.model_validate({"kind": kind, "scale": scale, "pool": pool})
                        term = RelationLoss(described)({"last": maps}, {"last": related})
                        ratios[f"{kind} {scale}"] = _length(term, maps) / of_label
                yield name, state, pool, ratios


def _length(term: Tensor, maps: Tensor) -> float:
    (gradient,) = torch.autograd.grad(term, maps, retain_graph=True)
    return float(gradient.norm())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relation_scale")
    parser.add_argument("--folder", type=Path, required=True, help="where the teachers are kept")
    for teacher, state, pool, ratios in rows(parser.parse_args().folder):
        print(f"{teacher}, student {state}, pool {pool}")
        for scale in ("raw", "relative"):
            print("   ", scale, ", ".join(f"{kind} {ratios[f'{kind} {scale}']:.3g}" for kind in KINDS))


if __name__ == "__main__":
    main()
