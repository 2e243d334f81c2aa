"""What nodes exchange through an object store, a real S3 server or files: whole or not there, and the same for all."""

import re
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from supersnn.config import TrainConfig
from supersnn.config_model import parse
from supersnn.data import training_data
from supersnn.errors import UserError
from supersnn.files import DamagedFile
from tune import object_store
from tune import storage as storages
from tune.execution.teacher_storage import teacher_at, teacher_source_at
from tune.object_store import ObjectStore
from tune.storage import RemoteStorage, Storage, scratch, storage_at

Node = Callable[[], RemoteStorage]


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}/objects"


@pytest.fixture
def node(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Each call is another node, with nothing but the address."""
    monkeypatch.setattr(storages, "SETTLED", 1.0)
    numbers = iter(range(100))
    return lambda: RemoteStorage(address, tmp_path / f"node{next(numbers)}")


def put(storage: Storage, name: str, content: str) -> None:
    path = storage.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def objects_of(address: str) -> list[str]:
    return sorted(name for name, _ in ObjectStore(address).names("", recursive=True))


def test_a_file_is_there_for_others_when_it_is_published_and_not_before(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "trials/a/0/checkpoint", "one")
    assert not there.fetch("trials/a/0/checkpoint").exists()
    here.publish("trials/a/0/checkpoint")
    assert there.fetch("trials/a/0/checkpoint").read_text() == "one"
    put(here, "trials/a/0/checkpoint", "two")
    here.publish("trials/a/0/checkpoint")
    assert there.fetch("trials/a/0/checkpoint").read_text() == "two"
    assert len(objects_of(address)) == 2, "the content of before is still there"


def test_content_without_its_manifest_is_nothing_and_so_is_an_old_copy(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "a", "one")
    here.publish("a")
    there.fetch("a")
    ObjectStore(address).delete("a.manifest")
    assert not there.fetch("a").exists()
    assert not here.fetch("a").exists()


def test_a_torn_download_is_fetched_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = node(), node()
    put(here, "a", "whole")
    here.publish("a")
    whole, torn = ObjectStore.download, [True]

    def first_torn(self: ObjectStore, name: str, path: Path) -> tuple[str, int]:
        found = whole(self, name, path)
        if torn.pop() if torn else False:
            path.write_text("who")
            return storages._entry(path)
        return found

    monkeypatch.setattr(ObjectStore, "download", first_torn)
    assert there.fetch("a").read_text() == "whole"
    assert not torn


def test_what_is_damaged_in_the_store_is_said_and_never_used(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "a", "whole")
    here.publish("a")
    (content,) = [name for name in objects_of(address) if not name.endswith(".manifest")]
    ObjectStore(address).write(content, b"other")
    with pytest.raises(DamagedFile, match=re.escape(f"{address}/a")):
        there.fetch("a")
    assert not (there.root / "a").exists()


def filled(storage: Storage, name: str, files: dict[str, str]) -> dict[str, str]:
    """Fill a folder with what it lacks, and read it all: as a teacher is trained where there is none."""
    for file, content in files.items():
        if not (storage.root / name / file).exists():
            put(storage, f"{name}/{file}", content)
    return {path.name: path.read_text() for path in (storage.root / name).iterdir()}


def test_two_nodes_that_make_the_same_at_once_go_on_with_the_same_bytes(node: Node) -> None:
    together = threading.Barrier(4)

    def work(number: int) -> dict[str, str]:
        storage = node()

        def make() -> dict[str, str]:
            if not (storage.root / "teachers/x").exists():
                together.wait(timeout=30)
            return filled(storage, "teachers/x", {"weights": f"weights {number}", "metrics": f"metrics {number}"})

        return storage.get_or_create("teachers/x", make)

    with ThreadPoolExecutor(4) as nodes:
        results = list(nodes.map(work, range(4)))
    assert results[0] in [{"weights": f"weights {n}", "metrics": f"metrics {n}"} for n in range(4)]
    assert results == [results[0]] * 4
    assert work(4) == results[0], "a node that comes later makes nothing"


def test_a_folder_grows_and_what_is_there_stays(node: Node) -> None:
    here, there = node(), node()
    assert here.get_or_create("banks/x", lambda: filled(here, "banks/x", {"0": "here"})) == {"0": "here"}
    both = {"0": "here", "1": "there"}
    assert there.get_or_create("banks/x", lambda: filled(there, "banks/x", {"0": "there", "1": "there"})) == both
    assert here.get_or_create("banks/x", lambda: filled(here, "banks/x", {})) == both
    (here.root / "banks/x/0").unlink()
    assert here.fetch("banks/x").joinpath("0").read_text() == "here"


def test_hidden_files_stay_on_their_node(node: Node) -> None:
    here, there = node(), node()
    here.get_or_create("banks/x", lambda: filled(here, "banks/x", {".lock": "", "0": "here"}))
    assert [path.name for path in there.fetch("banks/x").iterdir()] == ["0"]


def test_files_are_removed_everywhere_by_their_name(node: Node, address: str) -> None:
    here, driver = node(), node()
    for name in (
        "trials/a/0/checkpoint-0",
        "trials/a/0/checkpoint-1",
        "trials/a/0/traceback.txt",
        "trials/a/1/checkpoint-0",
    ):
        put(here, name, name)
        here.publish(name)
    assert driver.folders("trials") == {"a/0", "a/1"}
    driver.remove("trials/a/0", "checkpoint-*")
    driver.remove("trials/a/1", "checkpoint-*")
    assert driver.folders("trials") == {"a/0"}
    assert not node().fetch("trials/a/0/checkpoint-0").exists()
    assert node().fetch("trials/a/0/traceback.txt").exists()
    here.evict("trials/a")
    assert not (here.root / "trials/a").exists()
    assert here.fetch("trials/a/0/traceback.txt").exists()


def test_texts_are_read_as_they_are_now(node: Node) -> None:
    here, there = node(), node()
    assert there.read_text("sweeps/s/owner") is None
    for token in ("one", "two"):
        here.write_text("sweeps/s/owner", token)
        assert there.read_text("sweeps/s/owner") == token
        assert (here.root / "sweeps/s/owner").read_text() == token


def test_a_place_that_is_fit_has_no_complaint_and_keeps_nothing_of_the_trial(node: Node, address: str) -> None:
    here = node()
    assert here.complaint("probe/x") is None
    assert objects_of(address) == []
    assert not here.root.exists()


def test_a_folder_that_all_see_needs_nothing(tmp_path: Path) -> None:
    storage = storage_at(str(tmp_path))
    put(storage, "trials/a/0/checkpoint-0", "one")
    storage.publish("trials/a/0/checkpoint-0")
    storage.evict("trials/a/0")
    assert storage.fetch("trials/a/0/checkpoint-0").read_text() == "one"
    assert storage.folders("trials") == {"a/0"}
    assert storage.get_or_create("teachers/x", lambda: 3) == 3
    storage.remove("trials/a/0", "checkpoint-*")
    assert [path.name for path in tmp_path.rglob("*")] == ["trials", "a"]
    assert storage.complaint("probe/x") is None


def test_each_address_has_a_copy_of_its_own_in_a_nodes_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path))
    copies = {scratch("s3://a/b"), scratch("s3://a/c")}
    assert len(copies) == 2
    assert {copy.parent for copy in copies} == {tmp_path}


@pytest.mark.parametrize("wrong", ["s4://bucket/x", "s3://", "file://relative/x"])
def test_what_is_no_address_is_the_users_mistake(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--shared.*s3://BUCKET/FOLDER"):
        RemoteStorage(wrong, tmp_path)


def test_a_bucket_that_is_not_there_and_credentials_that_do_not_hold(
    s3: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "NO_SUCH_BUCKET" in str(RemoteStorage("s3://nowhere-at-all/x", tmp_path).complaint("probe/x"))
    _authenticate(s3_server, "0")
    try:
        assert "INVALID_ACCESS_KEY_ID" in str(RemoteStorage(s3, tmp_path).complaint("probe/x"))
    finally:
        _authenticate(s3_server, "inf")
    assert RemoteStorage(s3, tmp_path).complaint("probe/x") is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "connect" in str(RemoteStorage(s3, tmp_path).complaint("probe/x"))


def _authenticate(server: str, after: str) -> None:
    """Have the server ask for true credentials after so many calls."""
    plain = {"Content-Type": "text/plain"}
    call = urllib.request.Request(f"{server}/moto-api/reset-auth", after.encode(), plain, method="POST")
    urllib.request.urlopen(call, timeout=10).close()


class Flaky:
    """A way to the server on which the first connections break."""

    def __init__(self, server: str, failures: int) -> None:
        self._server, self.left = server.removeprefix("http://").split(":"), failures
        self._door = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            if self.left > 0:
                self.left -= 1
                client.close()
                continue
            there = socket.create_connection((self._server[0], int(self._server[1])))
            for source, sink in ((client, there), (there, client)):
                threading.Thread(target=self._pass_on, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, sink: socket.socket) -> None:
        with source, sink:
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
            except OSError:
                return

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def flaky(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    way = Flaky(s3_server, 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", way.endpoint)
    yield way
    way.close()


def test_a_network_that_fails_for_a_while_is_waited_for(
    flaky: Flaky, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.05)
    flaky.left = 9
    storage = RemoteStorage(s3, tmp_path / "a")
    storage.write_text("owner", "token")
    assert flaky.left == 0
    assert RemoteStorage(s3, tmp_path / "b").read_text("owner") == "token"


@pytest.mark.slow
def test_patience_has_an_end(flaky: Flaky, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.01)
    flaky.left = 10**6
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        ObjectStore(s3, attempts=2).read("owner")


def test_a_node_whose_own_copy_is_damaged_takes_a_new_one(tmp_path: Path) -> None:
    plain = {
        "dataset": {"name": "digits", "images": 100, "augment": {"views": 1}},
        "student": {"architecture": "resnet8"},
        "teacher": {"name": "resnet8", "epochs": 1},
        "loss": {"relation": {"weight": 1.0}},
        "train": {"epochs": 1},
    }
    config = parse(TrainConfig, plain, "test")
    data = training_data(config.dataset)
    storage = RemoteStorage(f"file://{tmp_path}/objects", tmp_path / "node")
    whole = teacher_at(storage, config, data, "cpu")
    (weights,) = (tmp_path / "node").rglob("weights.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"torn")
    assert teacher_at(storage, config, data, "cpu").weights_digest == whole.weights_digest
    assert weights.read_bytes() == content
    position = torch.arange(4)
    teacher_source = teacher_source_at(storage, config, data, "cpu")
    assert teacher_source is not None
    said = teacher_source(position, 0, torch.zeros(4, 1, 8, 8))
    for part in (tmp_path / "node" / "banks").rglob("*.npy"):
        part.write_bytes(b"torn")
    again = teacher_source_at(storage, config, data, "cpu")
    assert again is not None
    assert torch.equal(again(position, 0, torch.zeros(4, 1, 8, 8)).vectors[1], said.vectors[1])
