import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from supersnn import checkpoint, training_state
from supersnn.augment import normalise
from supersnn.averaging import WeightAverage, share_of_step
from supersnn.config import NetworkConfig, NeuronConfig, TrainConfig
from supersnn.data import Images, TrainingData
from supersnn.epoch_report import EpochReport, Snapshot
from supersnn.errors import UserError
from supersnn.losses import TeacherOutputs
from supersnn.measurement import measure
from supersnn.networks.base import ImageShape
from supersnn.networks.build import build
from supersnn.teacher_outputs import TeacherSource
from supersnn.training import train
from supersnn.views import augmented

Configured = Callable[..., TrainConfig]

MAPS = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__relation__kind": "gram",
    "loss__relation__layers": "last, last-1",
    "loss__relation__schedule": "cosine",
    "loss__relation__queue": 2,
}
TAUGHT = {
    "teacher__name": "resnet8",
    "loss__relation__weight": 1.0,
    "loss__logit__weight": 0.5,
    "loss__feature__weight": 0.1,
}


class Echo:
    """A teacher source that returns the pixels, and records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, int, Tensor]] = []

    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        self.calls.append((position, view, images))
        vectors = images.flatten(1)
        earlier: dict[tuple[str, int | str], Tensor] = {("last-1", "full"): vectors, ("last-1", 1): vectors}
        return TeacherOutputs({1: vectors, 2: vectors}, vectors[:, :4], images.repeat(1, 3, 1, 1), earlier)


def without_time(report: EpochReport) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if name != "time/epoch_s"}


def final(config: TrainConfig, data: TrainingData, teacher_source: TeacherSource | None = None) -> Snapshot:
    snapshots = [report.snapshot() for report in train(config, data, teacher_source)]
    return snapshots[-1]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_training_learns_and_reports_every_epoch(configured: Configured, bars: TrainingData) -> None:
    reports = list(train(configured(train__epochs=6, neuron__width=2.0), bars))
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [report.ended for report in reports] == [None] * 5 + ["finished"]
    names = "train/loss loss/label val/accuracy val/loss spikes/rate ops/synaptic ops/mac energy/nj time/epoch_s"
    names += " ops/effective_ac ops/effective_mac ops/dense"
    for report in reports:
        assert report.metrics.keys() == set(names.split())
        assert all(math.isfinite(value) for value in report.metrics.values())
    assert reports[-1].metrics["val/accuracy"] > 0.6


def test_an_artificial_network_has_no_rate_and_is_never_silent(configured: Configured, bars: TrainingData) -> None:
    *_, last = train(configured(neuron__kind="relu"), bars)
    assert last.ended == "finished"
    assert "spikes/rate" not in last.metrics
    assert last.metrics["ops/synaptic"] == 0


def test_each_term_stands_by_itself_and_weighted(configured: Configured, bars: TrainingData) -> None:
    config = configured(**TAUGHT, train__epochs=1)
    (report,) = train(config, bars, Echo())
    m = report.metrics
    for term, weight in (("relation", 1.0), ("logit", 0.5), ("feature", 0.1)):
        assert m[f"loss/{term}_weighted"] == pytest.approx(weight * m[f"loss/{term}"])
    terms = ("label", "relation_weighted", "logit_weighted", "feature_weighted")
    assert m["train/loss"] == pytest.approx(sum(m[f"loss/{term}"] for term in terms), rel=1e-5)


def test_the_moving_average_is_what_is_evaluated_and_kept(configured: Configured, bars: TrainingData) -> None:
    plain = list(train(configured(), bars))
    averaged = list(train(configured(optimizer__ema=0.9), bars))
    latest = checkpoint.under_prefix("latest.", averaged[-1].snapshot()[0])
    assert same(latest, checkpoint.student_weights(plain[-1].snapshot()[0]))
    assert averaged[-1].metrics["train/loss"] == plain[-1].metrics["train/loss"]
    assert averaged[-1].metrics["val/loss"] != plain[-1].metrics["val/loss"]
    kept = checkpoint.student_weights(averaged[-1].snapshot()[0])
    config = configured()
    network = build(config.student, config.neuron, bars.shape, len(bars.classes))
    network.load_state_dict(kept)
    assert measure(network, bars.validation, bars).metrics("val")["val/loss"] == averaged[-1].metrics["val/loss"]


def test_the_average_weighs_later_steps_more() -> None:
    network = build(NetworkConfig(architecture="resnet8"), NeuronConfig(), ImageShape(1, 8), 4)
    average, bias = WeightAverage(network), network.get_parameter("readout.bias")
    expected = bias.detach().double().clone()
    for step in range(20):
        with torch.no_grad():
            bias.normal_()
        average.update(network, share_of_step(0.5, step))
        share = min(0.5, (step + 1) / (step + 10))
        expected = share * expected + (1 - share) * bias.detach().double()
    torch.testing.assert_close(average.network.get_parameter("readout.bias").double(), expected, rtol=1e-5, atol=1e-6)


def test_a_falling_weight_is_recorded_as_it_was_used(configured: Configured, bars: TrainingData) -> None:
    reports = list(train(configured(**MAPS), bars, Echo()))
    shares = [r.metrics["loss/relation_weighted"] / r.metrics["loss/relation"] for r in reports]
    assert 1 > shares[0] > 0.75 > shares[1] > 0.25 > shares[2] > 0
    for report in reports:
        m = report.metrics
        assert m["train/loss"] == pytest.approx(m["loss/label"] + m["loss/relation_weighted"], rel=1e-5)


def test_a_layer_that_the_student_lacks_is_named(configured: Configured, bars: TrainingData) -> None:
    config = configured(**{**MAPS, "loss__relation__layers": "last-5"})
    with pytest.raises(UserError, match=r"loss\.relation\.layers: the student has 3 stages"):
        next(train(config, bars, Echo()))


def test_the_seed_decides_the_bits_and_nothing_else_does(configured: Configured, bars: TrainingData) -> None:
    torch.manual_seed(1)
    first, _ = final(configured(), bars)
    torch.manual_seed(2)
    again, _ = final(configured(), bars)
    other, _ = final(configured(seed=1), bars)
    assert same(first, again)
    assert not same(first, other)


def test_torchs_own_generator_is_left_alone(configured: Configured, bars: TrainingData) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for _ in train(configured(train__epochs=1), bars):
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_teacher_changes_neither_the_first_weights_nor_the_order(configured: Configured, bars: TrainingData) -> None:
    still = {"train__epochs": 1, "optimizer__lr": 1e-12, "optimizer__weight_decay": 0.0}
    alone, _ = final(configured(**still), bars)
    taught, _ = final(configured(**still, **TAUGHT), bars, Echo())
    weights = checkpoint.student_weights(taught)
    for name, value in checkpoint.student_weights(alone).items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optimizer__name": "adamw", "optimizer__lr": 0.01, "optimizer__clip": 1.0},
        {"neuron__kind": "plif", "neuron__reset": "soft"},
        TAUGHT,
        {**TAUGHT, "optimizer__name": "adamw", "neuron__kind": "plif"},
        {**MAPS, "loss__relation__pool": "full", "loss__relation__scale": "relative"},
        {**MAPS, "loss__relation__signal": "currents", "loss__relation__time": "per_step"},
        {"optimizer__ema": 0.9, "dataset__augment__mixup": 0.4},
        {"dataset__augment__views": "off", "train__channels_last": False},
    ],
)
def test_a_resumed_training_goes_on_to_the_same_bits(
    configured: Configured, bars: TrainingData, tmp_path: Path, values: dict[str, Any]
) -> None:
    config = configured(**values)
    whole = []
    for report in train(config, bars, Echo()):
        checkpoint.save(tmp_path / f"{report.epoch}.safetensors", *report.snapshot())
        whole.append(report)
    resumed = list(train(config, bars, Echo(), resume=checkpoint.load(tmp_path / "1.safetensors")))
    assert [r.epoch for r in resumed] == [2, 3]
    for expected, report in zip(whole[1:], resumed, strict=True):
        assert without_time(report) == without_time(expected)
        assert report.ended == expected.ended
    expected_tensors, expected_meta = checkpoint.load(tmp_path / "3.safetensors")
    tensors, meta = resumed[-1].snapshot()
    assert same(tensors, expected_tensors)
    assert meta["history"][0] == expected_meta["history"][0]
    assert len(meta["history"]) == meta["epoch"] == 3


def test_what_has_ended_does_not_go_on(configured: Configured, bars: TrainingData) -> None:
    config = configured(train__epochs=1)
    assert list(train(config, bars, resume=final(config, bars))) == []


def test_a_snapshot_is_of_its_own_epoch(configured: Configured, bars: TrainingData) -> None:
    reports = train(configured(), bars)
    first = next(reports)
    tensors, _ = first.snapshot()
    kept = {name: tensor.clone() for name, tensor in tensors.items()}
    next(reports)
    assert same(tensors, kept)
    with pytest.raises(RuntimeError, match="has continued"):
        first.snapshot()


def test_callers_mistakes_are_refused_before_anything_runs(configured: Configured, bars: TrainingData) -> None:
    with pytest.raises(ValueError, match="teacher_source"):
        train(configured(**TAUGHT), bars)
    with pytest.raises(UserError, match=r"^student\.architecture: 'vgg9' is unknown"):
        next(train(configured(student__architecture="vgg9"), bars))
    with pytest.raises(UserError, match=r"train\.precision: 'bf16'.*expected 'fp32'"):
        train(configured(train__precision="bf16"), bars)
    snapshot = final(configured(train__epochs=1), bars)
    with pytest.raises(ValueError, match="another configuration"):
        train(configured(train__epochs=2), bars, resume=snapshot)


def test_each_epoch_shows_whole_batches_of_different_images(configured: Configured, bars: TrainingData) -> None:
    teacher_source = Echo()
    list(train(configured(**TAUGHT), bars, teacher_source))
    calls = teacher_source.calls[1:]  # the first one is for the number of channels
    assert [len(position) for position, _, _ in calls] == [16] * (3 * (72 // 16))
    epochs = torch.stack([position for position, _, _ in calls]).view(3, -1)
    assert all(len(epoch.unique()) == 64 for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


def test_a_training_of_less_than_a_batch_has_one_batch(configured: Configured, bars: TrainingData) -> None:
    teacher_source = Echo()
    list(train(configured(**TAUGHT, train__batch_size=100, train__epochs=1), bars, teacher_source))
    assert [len(position) for position, _, _ in teacher_source.calls[1:]] == [72]


@pytest.mark.parametrize(("views", "expected"), [(2, [0, 1, 0]), (1, [0, 0, 0]), ("off", [0, 1, 2])])
def test_views_are_cycled_and_the_teacher_gets_the_students_images(
    configured: Configured, bars: TrainingData, views: int | str, expected: list[int]
) -> None:
    teacher_source = Echo()
    config = configured(**TAUGHT, dataset__augment__views=views, seed=5)
    list(train(config, bars, teacher_source))
    assert [view for _, view, _ in teacher_source.calls[1::4]] == expected
    for position, view, images in teacher_source.calls[1:]:
        seen = augmented(bars.train, position, view, config)
        assert torch.equal(images, normalise(seen, bars.mean, bars.std))
        assert torch.equal(seen, bars.train.pixels[position]) == (views == 1)


def test_views_do_not_depend_on_the_seed(configured: Configured, bars: TrainingData) -> None:
    rows = torch.arange(5)
    one, other = (augmented(bars.train, rows, 1, configured(seed=seed)) for seed in (0, 1))
    assert torch.equal(one, other)
    cut = configured(dataset__split_seed=1)
    assert not torch.equal(one, augmented(bars.train, rows, 1, cut))


class Broken(Echo):
    def __call__(self, position: Tensor, view: int, images: Tensor) -> TeacherOutputs:
        outputs = super().__call__(position, view, images)
        assert outputs.logits is not None
        return TeacherOutputs(outputs.vectors, outputs.logits * float("nan"), outputs.features)


def test_a_loss_that_is_not_finite_ends_the_training(configured: Configured, bars: TrainingData) -> None:
    (report,) = train(configured(**TAUGHT), bars, Broken())
    assert report.ended == "failed:nan"
    assert all(math.isfinite(value) for value in report.metrics.values())
    assert report.snapshot()[1]["ended"] == "failed:nan"


def test_weights_that_are_not_finite_end_the_training(configured: Configured, bars: TrainingData) -> None:
    few = Images(bars.train.pixels[:16], bars.train.labels[:16], bars.train.index[:16])
    data = TrainingData(few, bars.validation, bars.shape, bars.classes, bars.mean, bars.std, "f")
    (report,) = train(configured(optimizer__lr=1e38, optimizer__warmup=0.0, neuron__kind="relu"), data)
    assert report.ended == "failed:nan"
    assert "val/loss" not in report.metrics


def test_a_silent_student_ends_the_training(configured: Configured, bars: TrainingData) -> None:
    (report,) = train(configured(neuron__threshold=1e6), bars)
    assert report.ended == "failed:silent"
    assert report.metrics["spikes/rate"] == 0


def test_a_saturated_student_ends_the_training(
    configured: Configured, bars: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_state, "SATURATED", 0.01)
    (report,) = train(configured(), bars)
    assert report.ended == "failed:saturated"
