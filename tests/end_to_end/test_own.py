"""The example of one's own parts: a sweep of them, exported, and the export used where nothing of it is installed."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.cluster_utils import Cluster
from safetensors.torch import save_file

import supersnn
from supersnn import plugins
from supersnn.config import DatasetConfig
from supersnn.sources.registry import read
from supersnn_cli import exit_code
from tests.support import invariants
from tests.support.cli import invoke
from tests.support.driver import ON_A_CLUSTER
from tests.support.records import events
from tune.description.sweep import load

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own"
SMALL = (
    *("search.trials=1", "verify.seeds=1", "train.epochs=2", "teacher.epochs=1", "dataset.arguments.images=160"),
    "arms.heterogeneous.teachers=[ownparts.nets:PlainTeacher]",
)
NEEDED = ("torch", "safetensors", "pydantic", "PyYAML")
LOADS = """
import sys
from pathlib import Path
from safetensors.torch import load_file
from supersnn import exported
tests = load_file(sys.argv[2])
student = exported.load(Path(sys.argv[1]), trust=len(sys.argv) > 3)
right = student.predict(tests["pixels"]).argmax(1) == tests["labels"]
print(float(right.float().mean()))
"""


def settings(values: tuple[str, ...]) -> list[str]:
    return [part for value in values for part in ("--set", value)]


def sweep(store: Path, *options: str) -> None:
    """Run the example's sweep in a process of its own, as its user does."""
    command = [sys.executable, "-m", "supersnn_cli", "sweep", "sweep.yaml", "--store", str(store), *options]
    paths = os.pathsep.join([str(EXAMPLE.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the small sweep, moved after its end."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SUPERSNN_OPTUNA_STORAGE", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        sweep(folder / "store", "--local", *settings(SMALL))
    return Path(shutil.move(folder / "store", folder / "moved"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what loading an export needs, and nothing else: links to the packages of `NEEDED`."""
    folder = tmp_path_factory.mktemp("bare")
    for distribution in closure(NEEDED):
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "bin", "__pycache__") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder


def closure(names: tuple[str, ...]) -> Iterator[importlib.metadata.Distribution]:
    """Yield distributions and all that they require here."""
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield distribution
        required = [line for line in distribution.requires or () if "extra ==" not in line]
        waiting += [found.group() for line in required if (found := re.match(r"[\w.-]+", line))]


def accuracy(export: Path, images: Path, bare: Path, package: Path, *trust: str) -> subprocess.CompletedProcess[str]:
    """Load an export in a process that finds `bare` and one folder with this project's package only."""
    code = f"import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [{str(bare)!r}]\n{LOADS}"
    environment = {"PYTHONPATH": str(package), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-S", "-P", "-c", code, str(export), str(images), *trust]
    return subprocess.run(
        command, cwd=export.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_images(folder: Path, config: dict[str, Any]) -> Path:
    plugins.activate([str(EXAMPLE / "ownparts")])
    raw = read(DatasetConfig.model_validate(config["dataset"]), "test")
    save_file({"pixels": raw.pixels.contiguous(), "labels": raw.labels}, folder / "test.safetensors")
    return folder / "test.safetensors"


test_images.__test__ = False  # type: ignore[attr-defined]


def assert_loads_elsewhere(export: Path, bare: Path, package: Path, tmp_path: Path) -> None:
    metrics = json.loads((export / "metrics.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((export / "config.yaml").read_text(encoding="utf-8"))
    images = test_images(tmp_path, config)
    refused = accuracy(export, images, bare, package)
    assert "is code of the export's own ('ownparts' is not installed here)" in refused.stderr
    loaded = accuracy(export, images, bare, package, "trust")
    assert loaded.returncode == 0, loaded.stderr
    assert float(loaded.stdout) == pytest.approx(metrics["test_accuracy"], abs=1e-6)


def test_a_sweep_of_own_parts_is_exported_and_used_elsewhere(store: Path, bare: Path, tmp_path: Path) -> None:
    folder = store / "sweeps" / "own"
    (started,) = events(folder / "journal.jsonl", "sweep")
    assert started["plugins"]["ownparts"].startswith("sha256:")
    assert "ownparts" in started["code"]
    trials = {event["arm"]: event for event in events(folder / "journal.jsonl", "start")}
    assert trials["homogeneous"]["student_family"] == trials["homogeneous"]["teacher_family"] == "squeezed"
    assert trials["heterogeneous"]["teacher_family"] == "plain"
    assert trials["heterogeneous"]["pairing"] == "heterogeneous"
    (epoch, *_) = events(folder / "journal.jsonl", "epoch")
    assert "own/agreement" in epoch["metrics"]
    package = tmp_path / "package"
    package.mkdir()
    (package / "supersnn").symlink_to(Path(supersnn.__path__[0]))
    export = folder / "best" / "heterogeneous"
    assert "Own code" in (export / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert_loads_elsewhere(export, bare, package, tmp_path)


def test_commands_ask_before_they_import_from_an_export(store: Path, tmp_path: Path) -> None:
    """In processes of their own: this one may have the example's package already."""
    export = store / "sweeps" / "own" / "best" / "direct"
    image = next(EXAMPLE.parents[1].rglob("docs/images/report.png"))
    command = [sys.executable, "-m", "supersnn_cli"]
    environment = {**os.environ, plugins.VARIABLE: "", "PYTHONPATH": str(EXAMPLE.parents[1])}

    def ran(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *map(str, arguments)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    refused = ran("predict", export, image)
    assert (refused.returncode, "trust it: --trust" in refused.stderr) == (2, True)
    assert ran("check", export, "--trust").returncode == 0
    train = ran("train", export / "config.yaml", "--store", tmp_path / "store")
    assert (train.returncode, "trust it: --trust" in train.stderr) == (2, True)


def test_a_damaged_copy_of_the_code_is_found(store: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    shutil.copytree(store / "sweeps" / "own" / "best" / "direct", export)
    (export / "plugins" / "ownparts" / "nets.py").write_text("import os\n", encoding="utf-8")
    done = invoke("check", export, "--trust")
    assert done.exception is not None
    assert isinstance(done.exception, Exception)
    assert exit_code(done.exception) == 1
    assert "plugins/ownparts/nets.py: not the file that was exported" in str(done.exception)


def test_the_example_is_described_as_its_file_says() -> None:
    described = load(EXAMPLE / "sweep.yaml")
    assert described.plugins == (str(EXAMPLE / "ownparts"),)
    assert set(described.loss.own) == {"soft_labels", "sparse"}


class TestOnACluster:
    """The whole example on two nodes, and the export in a bare environment with this project's wheel."""

    pytestmark = ON_A_CLUSTER

    def test_two_nodes_and_a_wheel(self, cluster: Cluster, bare: Path, tmp_path: Path) -> None:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        sweep(tmp_path / "store", "--address", cluster.address)
        plugins.activate([str(EXAMPLE / "ownparts")])
        invariants.assert_sweep(tmp_path / "store", "own")
        moved = Path(shutil.move(tmp_path / "store", tmp_path / "moved"))
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", str(tmp_path), str(EXAMPLE.parents[1])], check=True, timeout=300)
        (wheel,) = tmp_path.glob("supersnn-*.whl")
        shutil.unpack_archive(wheel, tmp_path / "package", "zip")
        for arm in ("direct", "homogeneous", "heterogeneous"):
            assert_loads_elsewhere(moved / "sweeps" / "own" / "best" / arm, bare, tmp_path / "package", tmp_path)
