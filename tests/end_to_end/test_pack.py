"""A packed sweep: the same trials as unpacked, on Ray and in one process, also where the packing process is killed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.driver import ON_A_CLUSTER, Driver, ray_task

pytestmark = ON_A_CLUSTER


@pytest.fixture
def packed(tiny: Path) -> Path:
    """A sweep whose suggestions depend on nothing but its seed."""
    plain: dict[str, Any] = yaml.safe_load(tiny.read_text(encoding="utf-8"))
    plain |= {
        "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
        "train": {"epochs": 4},
        "search": {"trials": 3, "sampler": "random", "scheduler": "none"},
        "verify": {"seeds": 1},
    }
    tiny.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return tiny


def epochs(driver: Driver) -> dict[tuple[str, int, int], dict[str, float]]:
    """The metrics of every epoch but its time; by arm, trial and epoch."""
    found = {}
    for event in driver.events("epoch"):
        metrics = {name: value for name, value in event["metrics"].items() if name != "time/epoch_s"}
        found[event["arm"], event["trial"], event["epoch"]] = metrics
    return found


def test_packed_trials_are_the_same_also_after_their_process_was_killed(packed: Path, tmp_path: Path) -> None:
    stores = {name: tmp_path / name for name in ("alone", "local", "ray")}
    for store in stores.values():
        store.mkdir()
    alone = Driver(packed, stores["alone"] / "store", "--local")
    alone.finish()
    expected = epochs(alone)
    assert len(expected) == 2 * 3 * 4
    local = Driver(packed, stores["local"] / "store", "--local", "--set", "resources.pack=3")
    local.finish()
    assert epochs(local) == expected
    ray = Driver(packed, stores["ray"] / "store", "--set", "resources.pack=3")
    ray.wait_for_epochs(4)
    holders = [process for process in ray.children() if ray_task(process) == "Holder"]
    assert holders
    for process in holders:
        process.kill()
    ray.finish()
    assert epochs(ray) == expected
    assert not ray.failures()
    assert {event["kind"] for event in ray.events("attempt")} == {"holder"}
