"""Fetches from an object store that nobody waits for: in a thread, and none lost in an outage."""

import time
from pathlib import Path

import pytest

from supersnn.records.events import TeacherTrained
from tests.support.object_server import proxied
from tune import object_store
from tune.execution.preparations import Prepared
from tune.execution.prepare import received
from tune.fetches import Fetches
from tune.remote_storage import RemoteStorage


def published(address: str, root: Path, name: str) -> None:
    storage = RemoteStorage(address, root)
    (root / name).parent.mkdir(parents=True)
    (root / name).write_text("weights")
    storage.publish(name)


def test_a_teacher_is_received_during_an_outage_without_waiting(
    s3: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.05)
    with proxied(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        published(s3, tmp_path / "node", "teachers/d")
        driver = RemoteStorage(s3, tmp_path / "driver")
        proxy.go_down(1.5)
        began = time.monotonic()
        result = received(Prepared(TeacherTrained(name="vgg8", digest="d", family="vgg"), None), driver)
        assert time.monotonic() - began < 1
        assert result.teacher.digest == "d"
        driver.flush()
        assert proxy.refused > 0
        assert (tmp_path / "driver" / "teachers" / "d").read_text() == "weights"


def test_what_could_not_be_fetched_is_tried_again() -> None:
    failures, got = ["a", "b", "b"], list[str]()

    def fetch(name: str) -> None:
        if name in failures:
            failures.remove(name)
            raise OSError(f"{name}: the server is away")
        got.append(name)

    fetches = Fetches(fetch)
    for name in ("a", "b", "c"):
        fetches.later(name)
    with pytest.raises(OSError, match="b: the server is away"):
        fetches.flush()
    fetches.flush()
    fetches.flush()
    assert got == ["c", "a", "b"]
