"""What a sweep will take: hours from timed steps, memory, disk, the sizes of teacher caches."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import inspect, training_data
from supersnn.networks.base import ImageShape
from supersnn.step_time import StepTime, cache_bytes, measure_step
from supersnn.teacher_cache import TeacherCache
from supersnn.teacher_outputs import output_kinds
from supersnn.teachers import TeacherStore
from tests.support.cli import run_json
from tune.description.arms import resolve
from tune.description.duration import EpochTimes, seconds_by_part
from tune.description.searches import planned
from tune.description.sweep import SweepConfig
from tune.execution import measuring
from tune.execution.measuring import TimedTraining, _cost_key, slots_here, trainings
from tune.execution.prepare import preparations
from tune.store import Store
from tune.terminal.forecast import duration, forecast, forecast_table, size

PLAIN: dict[str, Any] = {
    "name": "dear",
    "dataset": {"name": "digits", "images": 200, "augment": {"views": 2}},
    "student": {"architecture": "resnet8", "time_steps": 1},
    "teacher": {"epochs": 5},
    "train": {"epochs": 10, "batch_size": 16},
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"], "losses": ["relation", "feature"]}},
    "space": {"optimizer.lr": "default", "loss.relation.pool": "default"},
    "search": {"trials": 4},
    "verify": {"seeds": 3},
}
TIMES = EpochTimes({"direct": 2.0, "homogeneous": 3.0}, {"resnet8": 4.0}, {"resnet8": 6.0})


def described(**changes: Any) -> SweepConfig:
    return parse(SweepConfig, {**PLAIN, **changes}, "test")


def seconds(slots: int, **changes: Any) -> dict[str, float]:
    sweep = described(**changes)
    return seconds_by_part(sweep, resolve(sweep), TIMES, slots)


def test_the_parts_of_a_sweep_fill_its_slots() -> None:
    assert seconds(1) == {"teachers": 26.0, "search": 200.0, "verification": 150.0, "total": 376.0}
    assert seconds(2) == {"teachers": 26.0, "search": 100.0, "verification": 75.0, "total": 201.0}
    assert seconds(100) == {"teachers": 26.0, "search": 30.0, "verification": 30.0, "total": 86.0}
    assert seconds(1, search={"trials": 4, "seeds_per_trial": 3})["search"] == 600.0
    more = seconds(1, verify={"seeds": 3, "top": 2, "rank_seeds": 5, "train_on": "train+validation"})
    assert (more["ranking"], more["refitted_teachers"]) == (2 * 5 * 50.0, 26.0)


def test_an_epoch_follows_from_a_step_and_an_image() -> None:
    step = StepTime(step_s=0.5, image_s=0.01, batch=64, parameters=1, memory=1, device="cpu")
    assert step.epoch_s(train_images=200, validation_images=100) == pytest.approx(3 * 0.5 + 1.0)
    assert step.epoch_s(train_images=40, validation_images=0) == pytest.approx(0.5)


@pytest.mark.parametrize("views", [2, "off"])
def test_a_step_is_timed_on_noise(views: int | str) -> None:
    sweep = described(dataset={"name": "digits", "augment": {"views": views, "crop": 1}})
    config = resolve(sweep)["homogeneous"].config({"loss.relation.weight": 10.0, "loss.feature.weight": 1.0})
    timed = measure_step(config, ImageShape(1, 8), 10, "cpu", seconds=0.0)
    assert timed.step_s > 0
    assert timed.image_s >= 0
    assert timed.memory > 50e6
    assert (timed.batch, timed.device) == (16, "cpu")
    assert 70_000 < timed.parameters < 90_000


def test_the_size_of_a_teacher_cache(tmp_path: Path) -> None:
    config = parse(
        TrainConfig,
        {
            "dataset": PLAIN["dataset"],
            "student": {"architecture": "resnet8"},
            "teacher": {"name": "vgg8", "epochs": 1},
            "loss": {"relation": {"weight": 1.0}},
        },
        "test",
    )
    data = training_data(config.dataset)
    kinds = output_kinds({"relation", "feature"}, [1, 2])
    teacher = TeacherStore(tmp_path / "teachers").get(config, data)
    cache = TeacherCache.open(tmp_path / "banks", teacher, data, config, kinds)
    headers = 128 * len(kinds) * 2
    assert cache.bytes == cache_bytes(config, data.shape, len(data.classes), kinds, len(data.train)) + headers
    online = parse(TrainConfig, config.model_dump() | {"dataset": {"name": "digits", "augment": {"views": "off"}}}, "t")
    assert cache_bytes(online, data.shape, 10, kinds, 100) == 0


def test_each_kind_of_training_is_timed_once(tmp_path: Path) -> None:
    arms = {
        "direct": {},
        "soft": {"set": {"neuron.reset": "soft", "optimizer.lr": 0.1}},
        "several": {"students": ["resnet8", "vgg8"], "teachers": ["resnet8"]},
    }
    sweep = described(arms=arms, space={"neuron.threshold": "default"})
    resolved = resolve(sweep)
    items = trainings(resolved, preparations(planned(sweep, resolved), Store(tmp_path).storage))
    assert [(item.kind, item.name) for item in items] == [
        ("student", "direct"), ("student", "soft"), ("student", "several"), ("student", "several"),
        ("teacher", "resnet8"),
    ]  # fmt: skip
    keys = [_cost_key(TrainConfig.model_validate(item.config)) for item in items]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_the_slots_of_this_machine() -> None:
    assert slots_here(described(resources={"trials_at_once": 7})) == 7
    assert slots_here(described(resources={"cpus": 100_000})) == 0
    assert slots_here(described()) >= 1


def test_the_forecast_of_a_sweep(tmp_path: Path) -> None:
    sweep = described()
    arms, data = resolve(sweep), {"": inspect(sweep.dataset)}
    found = forecast(sweep, arms, data, Store(tmp_path / "not" / "there"), local=True)
    assert found is not None
    assert found["slots"] == 1
    assert set(found["hours"]) == {"teachers", "search", "verification", "total"}
    timed = found["timed"]["epoch_s"]
    assert found["hours"]["search"] * 3600 == pytest.approx(4 * 10 * (timed["direct"] + timed["homogeneous"]))
    assert found["memory"]["images"] == 200 * 64
    assert found["disk"]["caches"] == sum(found["caches"].values()) > 0
    assert not (tmp_path / "not").exists()
    console = Console(width=120)
    with console.capture() as shown:
        console.print(forecast_table(found))
    assert "1 at once" in shown.get()
    absent = {"": inspect(described(dataset={"name": "cifar10"}).dataset)}
    assert forecast(sweep, arms, absent, Store(tmp_path)) is None


def test_the_disk_that_replicates_take() -> None:
    def disk(**changes: Any) -> dict[str, int]:
        sweep = described(**changes)
        arms, data = resolve(sweep), inspect(sweep.dataset)
        first = {name: search for name, search in planned(sweep, arms).items() if name in arms}
        teachers = preparations(first, Store(Path("nowhere")).storage)
        student, teacher = (StepTime(0.1, 0.1, 16, size, 1, "cpu") for size in (1000, 7000))
        found = measuring.Measured({name: [student] for name in arms}, {"resnet8": teacher}, 2, "cpu")
        return dict(measuring.estimate(sweep, arms, teachers, data, found)["disk"])

    one, three = disk(), disk(replicates=3, vary=["search", "teacher"])
    assert one["final_runs"] == 2 * 3 * 4000
    assert {key: three[key] / one[key] for key in one if key != "total"} == {
        "teachers": 3, "caches": 3, "final_runs": 3, "checkpoints": 1, "exports": 1,
    }  # fmt: skip
    assert disk(replicates=3)["teachers"] == one["teachers"] == 28_000
    assert disk(verify={"seeds": 3, "train_on": "train+validation"})["teachers"] == 2 * one["teachers"]


def test_a_dry_run_has_the_forecast_unless_it_is_not_wanted(tmp_path: Path) -> None:
    file = tmp_path / "dear.yaml"
    file.write_text(str(described().model_dump_json(by_alias=True)), encoding="utf-8")
    found = run_json("sweep", file, "--dry-run", "--store", tmp_path / "store")
    assert found["forecast"]["hours"]["total"] > 0
    assert found["data"]["shape"] == {"channels": 1, "side": 8}
    assert sum(found["data"]["classes"].values()) > 1000
    assert "forecast" not in run_json("sweep", file, "--dry-run", "--no-timing", "--store", tmp_path / "store")


def test_sizes_and_durations_as_text() -> None:
    assert [size(count) for count in (999, 1500, 2.5e6, 3e9, 4e12)] == ["999 bytes", "1.5 kB", "2.5 MB", "3 GB", "4 TB"]
    assert [duration(hours) for hours in (0.01, 0.5, 5.0)] == ["36 s", "30 min", "5.0 h"]


def test_each_data_set_is_timed_and_their_hours_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(items: list[TimedTraining], _shape: ImageShape, _classes: int, _seconds: float) -> list[StepTime]:
        sizes = [item.config["dataset"]["images"] for item in items]
        return [StepTime(size / 1e4, 0.001, batch=16, parameters=1, memory=size, device="cpu") for size in sizes]

    monkeypatch.setattr(measuring, "time_trainings", timed)
    store = Store(tmp_path)

    def found(**changes: Any) -> dict[str, Any]:
        sweep = described(**changes)
        data = {label: inspect(one) for label, one in (sweep.datasets or {"": sweep.dataset}).items()}
        forecasted = forecast(sweep, resolve(sweep), data, store, local=True)
        assert forecasted is not None
        return forecasted

    images = {"many": {"name": "digits", "images": 400}, "few": {"name": "digits", "images": 200}}
    alone = [found(dataset=PLAIN["dataset"] | one) for one in images.values()]
    both = found(datasets=images)
    for part, hours in both["hours"].items():
        assert hours == pytest.approx(sum(one["hours"][part] for one in alone)), part
    assert alone[0]["hours"]["total"] > 3 * alone[1]["hours"]["total"]
    assert both["memory"] == alone[0]["memory"]
    assert set(both["timed"]["epoch_s"]) == {f"{arm} ({label})" for arm in PLAIN["arms"] for label in images}
    assert both["caches"]["resnet8 (many)"] == alone[0]["caches"]["resnet8"]
    forecast_table(both)
