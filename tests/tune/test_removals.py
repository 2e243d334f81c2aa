"""Removals from an object store on a real S3 server: few requests, none in the caller's thread, none lost."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.object_server import Proxy, proxied
from tune import object_store, removals
from tune.object_store import ObjectStore
from tune.remote_storage import RemoteStorage
from tune.removals import Removals

TRIALS = 20


@pytest.fixture
def proxy(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    del s3  # its fixture sets the credentials
    with proxied(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def with_checkpoints(address: str, root: Path, trials: int = TRIALS) -> RemoteStorage:
    """Return a storage with a checkpoint of each of some trials, and the traceback of one."""
    storage = RemoteStorage(address, root)
    for name in [f"s/trials/a/{number}/checkpoint-0" for number in range(trials)] + ["s/trials/a/0/traceback.txt"]:
        (storage.root / name).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / name).write_text(name)
        storage.publish(name)
    return storage


def test_the_checkpoints_of_many_trials_are_removed_by_few_requests(proxy: Proxy, s3: str, tmp_path: Path) -> None:
    storage = with_checkpoints(s3, tmp_path)
    proxy.requests.clear()
    began = time.perf_counter()
    for number in range(TRIALS):
        storage.remove_later(f"s/trials/a/{number}", "checkpoint-*")
    assert time.perf_counter() - began < 5, "the caller has waited for the server"
    assert proxy.requests == []
    storage.flush()
    assert proxy.requests == ["LIST", "DELETE MANY", "DELETE MANY"]
    assert storage.folders("s/trials") == {"a/0"}
    assert not list(tmp_path.rglob("checkpoint-*"))
    storage.flush()


def test_a_checkpoint_is_published_by_three_requests(proxy: Proxy, s3: str, tmp_path: Path) -> None:
    storage = with_checkpoints(s3, tmp_path, 1)
    name = "s/trials/a/0/checkpoint-0"
    (tmp_path / name).write_text("another")
    proxy.requests.clear()
    storage.publish(name)
    assert proxy.requests == ["PUT", "PUT", "DELETE MANY"]


def test_removals_wait_for_the_end_of_an_outage(
    proxy: Proxy, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(removals, "EVERY", 0.1)
    storage = with_checkpoints(s3, tmp_path, 2)
    proxy.go_down(1.5)
    storage.remove_later("s/trials/a/1", "checkpoint-*")
    storage.flush()
    assert proxy.refused > 0
    assert storage.folders("s/trials") == {"a/0"}


def test_what_fails_is_told_and_tried_again_with_the_next_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"file://{tmp_path}/objects"
    with_checkpoints(address, tmp_path / "node", 3)
    objects, names = ObjectStore(address), ObjectStore.names
    late = Removals(objects, every=1000)

    def away(self: ObjectStore, folder: str, recursive: bool = False) -> list[tuple[str, float]]:
        del self, recursive
        raise OSError(f"{folder}: the server is away")

    monkeypatch.setattr(ObjectStore, "names", away)
    late.later("s/trials/a/1", "checkpoint-*")
    with pytest.raises(OSError, match="the server is away"):
        late.flush()
    monkeypatch.setattr(ObjectStore, "names", names)
    late.later("s/trials/a/2", "checkpoint-*")
    late.flush()
    assert {name.rpartition("/")[0] for name, _ in objects.names("s/trials", recursive=True)} == {"s/trials/a/0"}


@pytest.mark.parametrize("boto3", [True, False])
def test_more_objects_than_one_request_deletes(
    proxy: Proxy, s3: str, monkeypatch: pytest.MonkeyPatch, boto3: bool
) -> None:
    """Without boto3 one by one."""
    monkeypatch.setattr(object_store, "DELETED_AT_ONCE", 2)
    if not boto3:
        monkeypatch.setattr(object_store, "_s3_client", lambda _: None)
    objects = ObjectStore(s3)
    names = [f"x/{number}" for number in range(5)]
    for name in names:
        objects.write(name, b"content")
    proxy.requests.clear()
    objects.delete([*names, "x/never-written"])
    assert objects.names("x") == []
    assert proxy.requests.count("DELETE MANY") == (3 if boto3 else 0)


def test_nothing_is_removed_from_files_that_does_not_match(tmp_path: Path) -> None:
    storage = with_checkpoints(f"file://{tmp_path}/objects", tmp_path / "node", 2)
    storage.remove_later("s/trials/a/0", "checkpoint-*")
    storage.flush()
    assert storage.folders("s/trials") == {"a/0", "a/1"}
    assert {path.name.split(".")[0] for path in (tmp_path / "objects/s/trials/a/0").iterdir()} == {"traceback"}
