"""The storage in an object store, on a real S3 server or on files: atomic, and the same on all nodes."""

import re
import socket
import subprocess
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
from tune import object_store, remote_storage
from tune.execution.teacher_storage import teacher_at, teacher_source_at
from tune.object_store import ObjectStore
from tune.remote_storage import RemoteStorage
from tune.storage import Storage, scratch, storage_at

Node = Callable[[], RemoteStorage]


@pytest.fixture(params=["s3", "file"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("s3") if request.param == "s3" else f"file://{tmp_path}/objects"


@pytest.fixture
def node(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Each call is another node, with nothing but the address."""
    monkeypatch.setattr(remote_storage, "SETTLED", 1.0)
    numbers = iter(range(100))
    return lambda: RemoteStorage(address, tmp_path / f"node{next(numbers)}")


def put(storage: Storage, name: str, content: str) -> None:
    path = storage.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def objects_of(address: str) -> list[str]:
    return sorted(name for name, _ in ObjectStore(address).names("", recursive=True))


def test_publish_makes_a_file_visible_to_other_nodes(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "trials/a/0/checkpoint", "one")
    assert not there.fetch("trials/a/0/checkpoint").exists()
    here.publish("trials/a/0/checkpoint")
    assert there.fetch("trials/a/0/checkpoint").read_text() == "one"
    put(here, "trials/a/0/checkpoint", "two")
    here.publish("trials/a/0/checkpoint")
    assert there.fetch("trials/a/0/checkpoint").read_text() == "two"
    assert len(objects_of(address)) == 2, "the earlier content was not deleted"


def test_fetch_ignores_content_and_copies_without_a_manifest(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "a", "one")
    here.publish("a")
    there.fetch("a")
    ObjectStore(address).delete(["a.manifest"])
    assert not there.fetch("a").exists()
    assert not here.fetch("a").exists()


def test_fetch_retries_a_torn_download(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = node(), node()
    put(here, "a", "content")
    here.publish("a")
    download, torn = ObjectStore.download, [True]

    def first_torn(self: ObjectStore, name: str, path: Path) -> tuple[str, int]:
        entry = download(self, name, path)
        if torn.pop() if torn else False:
            path.write_text("cont")
            return remote_storage._entry(path)
        return entry

    monkeypatch.setattr(ObjectStore, "download", first_torn)
    assert there.fetch("a").read_text() == "content"
    assert not torn


def test_fetch_refuses_a_damaged_object(node: Node, address: str) -> None:
    here, there = node(), node()
    put(here, "a", "content")
    here.publish("a")
    (content,) = [name for name in objects_of(address) if not name.endswith(".manifest")]
    ObjectStore(address).write(content, b"other")
    with pytest.raises(DamagedFile, match=re.escape(f"{address}/a")):
        there.fetch("a")
    assert not (there.root / "a").exists()


def filled(storage: Storage, name: str, files: dict[str, str]) -> dict[str, str]:
    """Create the missing files of a folder, and read them all: as a teacher is trained where there is none."""
    for file, content in files.items():
        if not (storage.root / name / file).exists():
            put(storage, f"{name}/{file}", content)
    return {path.name: path.read_text() for path in (storage.root / name).iterdir()}


def test_get_or_create_on_several_nodes_at_once_gives_the_same_bytes(node: Node) -> None:
    barrier = threading.Barrier(4)

    def work(number: int) -> dict[str, str]:
        storage = node()

        def make() -> dict[str, str]:
            if not (storage.root / "teachers/x").exists():
                barrier.wait(timeout=30)
            return filled(storage, "teachers/x", {"weights": f"weights {number}", "metrics": f"metrics {number}"})

        return storage.get_or_create("teachers/x", make)

    with ThreadPoolExecutor(4) as nodes:
        results = list(nodes.map(work, range(4)))
    assert results[0] in [{"weights": f"weights {n}", "metrics": f"metrics {n}"} for n in range(4)]
    assert results == [results[0]] * 4
    assert work(4) == results[0], "a later node creates nothing"


def test_get_or_create_adds_files_and_keeps_published_ones(node: Node) -> None:
    here, there = node(), node()
    assert here.get_or_create("banks/x", lambda: filled(here, "banks/x", {"0": "here"})) == {"0": "here"}
    both = {"0": "here", "1": "there"}
    assert there.get_or_create("banks/x", lambda: filled(there, "banks/x", {"0": "there", "1": "there"})) == both
    assert here.get_or_create("banks/x", lambda: filled(here, "banks/x", {})) == both
    (here.root / "banks/x/0").unlink()
    assert here.fetch("banks/x").joinpath("0").read_text() == "here"


def test_hidden_files_are_not_published(node: Node) -> None:
    here, there = node(), node()
    here.get_or_create("banks/x", lambda: filled(here, "banks/x", {".lock": "", "0": "here"}))
    assert [path.name for path in there.fetch("banks/x").iterdir()] == ["0"]


def test_remove_by_pattern_on_all_nodes(node: Node) -> None:
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


def test_read_text_gives_the_current_content(node: Node) -> None:
    here, there = node(), node()
    assert there.read_text("sweeps/s/owner") is None
    for token in ("one", "two"):
        here.write_text("sweeps/s/owner", token)
        assert there.read_text("sweeps/s/owner") == token
        assert (here.root / "sweeps/s/owner").read_text() == token


def test_complaint_is_none_and_leaves_nothing_behind(node: Node, address: str) -> None:
    here = node()
    assert here.complaint("probe/x") is None
    assert objects_of(address) == []
    assert not here.root.exists()


def test_shared_folder(tmp_path: Path) -> None:
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


def test_option_and_address_name_a_storage(tmp_path: Path) -> None:
    remote = RemoteStorage(f"file://{tmp_path}/objects", tmp_path / "node")
    assert str(Storage(tmp_path)) == f"--store {tmp_path}"
    assert str(remote) == f"--shared file://{tmp_path}/objects"


def test_discard_damaged_removes_only_copies(node: Node, tmp_path: Path) -> None:
    folder, remote = Storage(tmp_path / "store"), node()
    put(folder, "a", "only")
    assert not folder.discard_damaged("a")
    assert folder.fetch("a").read_text() == "only"
    put(remote, "a", "copy")
    remote.publish("a")
    assert remote.discard_damaged("a")
    assert not (remote.root / "a").exists()
    assert remote.fetch("a").read_text() == "copy"


def test_ledger_for_is_the_sweeps_own_only_in_a_shared_folder(tmp_path: Path) -> None:
    names = "sweeps/s/test-ledger.jsonl", "sweeps/s/verified/a/0/1000"
    remote = RemoteStorage(f"file://{tmp_path}/objects", tmp_path / "node")
    assert Storage(tmp_path).ledger_for(*names) == "sweeps/s/test-ledger.jsonl"
    assert remote.ledger_for(*names) == "sweeps/s/verified/a/0/1000/test-ledger.jsonl"


def test_require_owner_refuses_the_sweep_of_another_store(node: Node, tmp_path: Path) -> None:
    one, other = node(), node()
    other.require_owner("sweeps/s/owner", set())
    one.write_text("sweeps/s/owner", "token")
    one.require_owner("sweeps/s/owner", {"earlier", "token"})
    with pytest.raises(UserError, match=r"--shared .*: sweeps/s belongs to another store"):
        other.require_owner("sweeps/s/owner", {"mine"})
    Storage(tmp_path / "store").require_owner("sweeps/s/owner", set())


def test_scratch_has_a_folder_per_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPERSNN_SCRATCH", str(tmp_path))
    copies = {scratch("s3://a/b"), scratch("s3://a/c")}
    assert len(copies) == 2
    assert {copy.parent for copy in copies} == {tmp_path}


@pytest.mark.parametrize("wrong", ["s4://bucket/x", "s3://", "file://relative/x"])
def test_invalid_address_is_a_user_error(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--shared.*s3://BUCKET/FOLDER"):
        RemoteStorage(wrong, tmp_path)


def test_complaint_names_a_missing_bucket_and_wrong_credentials(
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
    """Make the server check credentials after so many calls."""
    plain = {"Content-Type": "text/plain"}
    call = urllib.request.Request(f"{server}/moto-api/reset-auth", after.encode(), plain, method="POST")
    urllib.request.urlopen(call, timeout=10).close()


class Flaky:
    """A proxy of the server that drops the first connections."""

    def __init__(self, server: str, failures: int) -> None:
        self._server, self.left = server.removeprefix("http://").split(":"), failures
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.left > 0:
                self.left -= 1
                client.close()
                continue
            server = socket.create_connection((self._server[0], int(self._server[1])))
            for source, sink in ((client, server), (server, client)):
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
        self._listener.close()


@pytest.fixture
def flaky(s3: str, s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flaky]:
    del s3  # its fixture sets the credentials
    proxy = Flaky(s3_server, 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()


def test_requests_are_retried(flaky: Flaky, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.05)
    flaky.left = 9
    storage = RemoteStorage(s3, tmp_path / "a")
    storage.write_text("owner", "token")
    assert flaky.left == 0
    assert RemoteStorage(s3, tmp_path / "b").read_text("owner") == "token"


@pytest.mark.slow
def test_retries_are_limited(flaky: Flaky, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "FIRST_PAUSE", 0.01)
    flaky.left = 10**6
    with pytest.raises(OSError, match="NETWORK_CONNECTION"):
        ObjectStore(s3, patience=0.05).read("owner")


def test_damaged_copies_of_teacher_and_cache_are_fetched_again(tmp_path: Path) -> None:
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
    teacher = teacher_at(storage, config, data, "cpu")
    (weights,) = (tmp_path / "node").rglob("weights.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"torn")
    assert teacher_at(storage, config, data, "cpu").weights_digest == teacher.weights_digest
    assert weights.read_bytes() == content
    position = torch.arange(4)
    teacher_source = teacher_source_at(storage, config, data, "cpu")
    assert teacher_source is not None
    outputs = teacher_source(position, 0, torch.zeros(4, 1, 8, 8))
    for part in (tmp_path / "node" / "banks").rglob("*.npy"):
        part.write_bytes(b"torn")
    recreated = teacher_source_at(storage, config, data, "cpu")
    assert recreated is not None
    assert torch.equal(recreated(position, 0, torch.zeros(4, 1, 8, 8)).vectors[1], outputs.vectors[1])


def test_a_download_that_was_killed_goes_on_and_its_part_of_a_file_is_removed(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = node(), node()
    contents = {f"{number}": f"content {number}" for number in range(3)}
    here.get_or_create("banks/x", lambda: filled(here, "banks/x", contents))
    download, fetched = ObjectStore.download, list[str]()

    killed = [True]

    def killed_at_third(self: ObjectStore, name: str, path: Path) -> tuple[str, int]:
        if len(fetched) == 2 and killed:
            killed.clear()
            gone = subprocess.Popen(["true"])
            gone.wait()
            path.with_name(f"{path.name.rpartition('.')[0]}.{gone.pid}").write_text("cont")
            raise KeyboardInterrupt
        fetched.append(name)
        return download(self, name, path)

    monkeypatch.setattr(ObjectStore, "download", killed_at_third)
    with pytest.raises(KeyboardInterrupt):
        there.fetch("banks/x")
    folder = there.root / "banks/x"
    assert len([path for path in folder.iterdir() if path.name.startswith(".")]) == 1
    again = RemoteStorage(there.address, there.root)
    assert {path.name: path.read_text() for path in again.fetch("banks/x").iterdir()} == contents
    assert len(fetched) == len(set(fetched)) == 3
    assert again._known("banks/x") == here._known("banks/x")
