"""The script for a machine with a GPU, with a Python that only notes what it is asked to run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy" / "gpu_session.sh"
LIMIT = 8
"""Files that a lent machine gives back."""

PYTHON = f"""#!{sys.executable}
import os, sys
from pathlib import Path

arguments = sys.argv[1:]
with open(os.environ["NOTES"], "a") as notes:
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    print("|".join(arguments).replace("\\n", " "), "devices=" + devices, sep="|", file=notes)
if arguments[0] == "-c":
    if "find_spec" in arguments[1]:
        print(os.environ.get("MISSING", ""))
        raise SystemExit
    what = "setup"
else:
    what = arguments[1]
    if what == "pip":
        site = Path(arguments[arguments.index("--target") + 1])
        site.mkdir()
        (site / "carried.py").touch()
    if "--json" in arguments:
        Path(arguments[arguments.index("--json") + 1]).write_text("{{}}")
    if what == "supersnn_cli":
        what = arguments[2]
print("output of", what, "path", os.environ["PYTHONPATH"])
if what == os.environ.get("HANGS"):
    import time
    time.sleep(30)
raise SystemExit(what in os.environ.get("FAILS", "").split())
"""


class Session:
    """Runs the script in a folder of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.notes, self._python = tmp_path / "out", tmp_path / "notes", tmp_path / "python"
        self._python.write_text(PYTHON, encoding="utf-8")
        self._python.chmod(0o755)
        self._scratch = tmp_path / "scratch"
        self._scratch.mkdir()

    def run(self, script: Path = SCRIPT, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PYTHON": str(self._python), "NOTES": str(self.notes), "TMPDIR": str(self._scratch), **environment}
        inherited = {name: value for name, value in os.environ.items() if name not in ("STEPS", "WHEELS", "PYTHONPATH")}
        found = subprocess.run(
            ["bash", script, self.folder],
            env={**inherited, **given},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert list(self._scratch.iterdir()) == []
        return found

    @property
    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def asked(self, what: str) -> list[str]:
        return [line for line in self.notes.read_text(encoding="utf-8").splitlines() if what in line]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def test_all_steps_leave_logs_and_results_that_a_lent_machine_gives_back(session: Session) -> None:
    found = session.run()
    assert found.returncode == 0, found.stderr
    logs = {"setup.log", "check.log", "bench.log", "sweep.log", "exported.log"}
    assert session.files == {*logs, "gpu-check.json", "gpu-bench.json"}
    assert len(session.files) <= LIMIT
    assert "output of tests.gpu" in (session.folder / "check.log").read_text(encoding="utf-8")
    assert f"path {ROOT}\n" in (session.folder / "bench.log").read_text(encoding="utf-8")


def test_the_exported_student_is_checked_on_the_cpu(session: Session) -> None:
    session.run(STEPS="sweep")
    (sweep,), (check,) = session.asked("supersnn_cli|sweep"), session.asked("supersnn_cli|check")
    assert sweep.endswith("devices=all")
    assert check.endswith("devices=")
    store = sweep.split("--store|")[1].split("|")[0]
    assert f"{store}/sweeps/on-a-gpu/best/overall" in check
    assert not store.startswith(str(session.folder))


@pytest.mark.parametrize(
    ("fails", "named"), [("setup", "setup"), ("tests.gpu", "check"), ("benchmarks.gpu", "bench"), ("check", "exported")]
)
def test_a_step_that_fails_is_named_and_the_others_run(session: Session, fails: str, named: str) -> None:
    found = session.run(FAILS=fails)
    assert found.returncode == 1
    assert found.stdout.endswith(f"failed: {named}\n")
    assert len(session.files) == 7


def test_a_step_that_hangs_is_ended(session: Session, tmp_path: Path) -> None:
    short = tmp_path / "deploy" / "gpu_session.sh"
    short.parent.mkdir()
    short.write_text(SCRIPT.read_text(encoding="utf-8").replace("run setup 90", "run setup 2"), encoding="utf-8")
    found = session.run(short, HANGS="setup", STEPS="setup check")
    assert found.returncode == 1
    assert "== setup: ended after 2 s" in found.stdout
    assert "output of setup" in (session.folder / "setup.log").read_text(encoding="utf-8")
    assert "gpu-check.json" in session.files


@pytest.mark.parametrize(("steps", "code"), [("", 0), ("setup sweep", 1)])
def test_a_sweep_without_its_libraries_fails_where_it_was_asked_for(session: Session, steps: str, code: int) -> None:
    found = session.run(STEPS=steps, MISSING="optuna mlflow")
    assert found.returncode == code
    assert "sweep: left out, these are missing: optuna mlflow" in found.stdout
    assert not session.asked("supersnn_cli")


def test_times_are_given_and_an_unknown_step_fails(session: Session) -> None:
    found = session.run(STEPS="check bench nothing", CHECK_MINUTES="3", BENCH_MINUTES="4")
    assert found.returncode == 1
    assert "unknown step nothing" in found.stdout
    assert "|--minutes|3|" in session.asked("tests.gpu")[0]
    assert "|--minutes|4|" in session.asked("benchmarks.gpu")[0]


def test_carried_wheels_are_installed_for_this_session_alone(session: Session, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "one.whl").touch()
    (wheels / "two.whl").touch()
    found = session.run(STEPS="check", WHEELS=str(wheels))
    assert found.returncode == 0, found.stderr
    (asked,) = session.asked("pip|install")
    assert f"{wheels}/one.whl|{wheels}/two.whl" in asked
    assert asked.split("--target|")[1].split("|")[0] in (session.folder / "check.log").read_text(encoding="utf-8")
    assert session.run(STEPS="check", WHEELS=str(wheels), FAILS="pip").returncode == 1
