"""Faults of the environment: locale, home, temporary folder, databases, disk, streams, signals, terminal, paths.

What must hold: each command ends with a known exit code and a few lines without a traceback, no password is printed,
and nothing is written outside the store.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.command import Ended, call, variables
from tests.fuzz.damages import SWEEP, Pristine, copy, pristine, settle
from tests.fuzz.damages import prepare as prepare_store
from tests.fuzz.findings import Finding
from tests.support.driver import may_mount

PART = "environment"
SECONDS = 90.0
ROOT = Path(__file__).parents[2]
SECRET = "sesame"


@dataclass(frozen=True)
class Scene:
    """A faulty environment: a name, and the commands in it; a folder with a copy of the store is given."""

    name: str
    play: Callable[[Path, Pristine], Iterator[Ended | Finding]]


def _commands(folder: Path, sound: Pristine) -> dict[str, list[str | Path]]:
    """The commands by name, on the copy of the store."""
    store = folder / "store"
    best = store / "sweeps" / SWEEP / "best" / "overall"
    at: list[str | Path] = ["--store", store]
    return {
        "status": ["status", *at],
        "status --json": ["status", "--json", *at],
        "report": ["report", SWEEP, *at],
        "report --html": ["report", SWEEP, "--html", folder / "report.html", *at],
        "dry run": ["sweep", sound.folder / "sweep.yaml", "--dry-run", "--no-timing", *at],
        "doctor": ["doctor", *at],
        "data list": ["data", "list"],
        "check": ["check", best],
        "predict": ["predict", best, sound.folder / "image.png"],
        "evaluate": ["evaluate", best, "--data", "digits"],
        "export": ["export", SWEEP, "--to", folder / "exported", *at],
        "again": ["sweep", sound.folder / "sweep.yaml", "--local", *at],
        "more": ["sweep", sound.folder / "sweep.yaml", "--local", "--set", "search.trials=3", *at],
        "on Ray": ["sweep", sound.folder / "sweep.yaml", "--set", "search.trials=3", *at],
        "verify": ["verify", SWEEP, "--local", *at],
    }


READING = ("status", "status --json", "report", "dry run", "data list", "check", "predict", "evaluate", "export")


def _inside(
    names: Sequence[str], encoding: str = "utf-8", **values: str
) -> Callable[[Path, Pristine], Iterator[Ended]]:
    """Commands in this process, with some variables."""

    def play(folder: Path, sound: Pristine) -> Iterator[Ended]:
        with variables(**{name: value.replace("FOLDER", str(folder)) for name, value in values.items()}):
            for name in names:
                yield call(_commands(folder, sound)[name], SECONDS, encoding)

    return play


def _run(words: Sequence[str | Path], before: str, after: str, values: Mapping[str, str | None]) -> Ended:
    """Run Python with these words, by a shell with something before and after; a variable that is None is removed."""
    told = [str(word) for word in words]
    chosen = {**os.environ, "PYTHONPATH": str(ROOT), **values}
    line = f'{before} "$@" {after}; exit ${{PIPESTATUS[0]}}'
    command = ["bash", "-c", line, "bash", sys.executable, *told]
    began = time.monotonic()
    kept = {name: value for name, value in chosen.items() if value is not None}
    name = " ".join([*told[2:], after]).strip()
    try:
        done = subprocess.run(
            command, capture_output=True, env=kept, timeout=2 * SECONDS, cwd=ROOT, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        return Ended(name, 1, "", "", SECONDS, TimeoutError(f"more than {2 * SECONDS:g} s"), ())
    out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
    return Ended(name, done.returncode, out, err, time.monotonic() - began, None, ())


def _outside(
    names: Sequence[str], after: str = "", values: Mapping[str, str | None] | None = None
) -> Callable[[Path, Pristine], Iterator[Ended]]:
    """Commands in a process each: for what concerns a process's own streams."""

    def play(folder: Path, sound: Pristine) -> Iterator[Ended]:
        for name in names:
            yield _run(["-m", "supersnn_cli", *_commands(folder, sound)[name]], "", after, values or {})

    return play


def _together(
    names: Sequence[str], before: str = "", values: Mapping[str, str | None] | None = None
) -> Callable[[Path, Pristine], Iterator[Finding]]:
    """Commands one after another in one process, which begins after a shell's line."""

    def play(folder: Path, sound: Pristine) -> Iterator[Finding]:
        given = {
            name: value.replace("FOLDER", str(folder)) if value else value for name, value in (values or {}).items()
        }
        words: list[str | Path] = ["-m", "tests.fuzz.environment", folder, sound.folder, *names]
        ended = _run(words, before.replace("FOLDER", str(folder)), "", given)
        try:
            for finding in json.loads(ended.out.splitlines()[-1]):
                yield Finding(**finding)
        except (ValueError, IndexError):
            told = " ".join(f"{ended.code} {ended.error or ended.err[-300:]}".split())
            yield Finding(PART, "the process died", " ".join(names), before or str(values), told)

    return play


def _mounted(names: Sequence[str], mount: str) -> Callable[[Path, Pristine], Iterator[Finding]]:
    """Commands in a mount namespace of their own, after a shell's line that mounts something."""
    return _together(names, f"unshare -m bash -c '{mount} && exec \"$@\"' bash")


def _database(variable: str, value: str) -> Scene:
    names = ("doctor", "status", "again", "more") if variable == "SUPERSNN_OPTUNA_STORAGE" else ("doctor", "more")
    return Scene(f"{variable}={value}", _inside(names, **{variable: value}))


def _interrupted(after: float) -> Scene:
    def play(folder: Path, sound: Pristine) -> Iterator[Ended]:
        words = [str(word) for word in _commands(folder, sound)["more"]]
        command = [sys.executable, "-m", "supersnn_cli", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        began = time.monotonic()
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True
        )
        time.sleep(after)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=SECONDS)
        told = " ".join(words)
        yield Ended(told, running.returncode, out.decode(), err.decode(), time.monotonic() - began, None, ())

    return Scene(f"SIGINT after {after:g} s", play)


def _named_store(name: str) -> Scene:
    """The store in a folder of this name; its sweep is continued there, and one is begun."""

    def play(folder: Path, sound: Pristine) -> Iterator[Ended | Finding]:
        parent, began = folder / "parent", time.time()
        parent.mkdir()
        store = parent / name
        (folder / "store").rename(store)
        at: list[str | Path] = [f"--store={store}"]
        yield call(["status", *at], SECONDS)
        yield (
            swept := call(["sweep", sound.folder / "sweep.yaml", "--local", "--set", "search.trials=3", *at], SECONDS)
        )
        yield call(["report", SWEEP, *at], SECONDS)
        yield call(["export", SWEEP, f"--to={parent / name}/exported", *at], SECONDS)
        yield call(["check", f"{parent / name}/exported"], SECONDS)
        beside = sorted(path.name for path in parent.iterdir() if path.name != name)
        if beside:
            yield Finding(PART, "written outside the store", "sweep", f"--store {store.name!r}", f"{beside}")
        if max(path.stat().st_mtime for path in store.glob("optuna.db*")) <= began:
            yield Finding(PART, "the store's studies are not used", "sweep", f"--store {store.name!r}", swept.err)

    return Scene(f"store {name!r}", play)


@functools.cache
def scenes() -> tuple[Scene, ...]:
    """Every scene."""
    return (*_locales(), *_folders(), *_databases(), *_disks(), *_streams(), *map(_named_store, STORES))


STORES = (
    "x?y",
    "%41",
    "a#b",
    " sp ace ",
    "q'u\"ote",
    "ünï日",
    "-dash",
    "a;b&c",
    "[x]",
    "~x",
    "$HOME",
    "a\nb",
    "a=b",
    "x" * 200,
)


def _locales() -> Iterator[Scene]:
    for encoding in ("ascii", "latin-1", "cp1252", "utf-16"):
        yield Scene(f"an output in {encoding}", _inside((*READING, "doctor", "again"), encoding))
    yield Scene("an output in ascii of a sweep at work", _inside(("more",), "ascii"))
    plain: dict[str, str | None] = {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": None,
    }
    yield Scene(
        "LC_ALL=C without UTF-8 mode",
        _outside(("status", "report", "dry run", "again"), values=plain),
    )
    yield Scene(
        "PYTHONIOENCODING=ascii", _outside(("status", "report", "dry run"), values={"PYTHONIOENCODING": "ascii"})
    )
    yield Scene("an unknown locale", _outside(("status", "report"), values={"LC_ALL": "xx_YY.UTF-8", "LANG": "xx"}))
    for columns in ("20", "0", "1", "-5", "x"):
        yield Scene(f"COLUMNS={columns}", _inside(("status", "report", "dry run", "again", "doctor"), COLUMNS=columns))
    yield Scene("a sweep at work with COLUMNS=20", _inside(("more",), COLUMNS="20"))
    yield Scene("TERM=dumb", _inside(("status", "report"), TERM="dumb"))
    yield Scene("TERM is empty, no colours", _inside(("status", "report"), TERM="", NO_COLOR="1"))
    yield Scene("colours forced", _inside(("status", "report"), FORCE_COLOR="1", TTY_COMPATIBLE="1"))


def _folders() -> Iterator[Scene]:
    yield Scene("no HOME", _together(("doctor", "more"), values={"HOME": None}))
    for home in ("/proc/nowhere", "", "/dev/null"):
        yield Scene(f"HOME={home}", _together(("doctor", "data list", "again"), values={"HOME": home}))
    long = "FOLDER/" + "t" * 98
    for told, folder in (("missing", "/proc/nowhere"), ("a file", "/etc/hostname"), ("empty", "")):
        yield Scene(f"TMPDIR is {told}", _together(("doctor", "more", "export"), values={"TMPDIR": folder}))
    yield Scene("TMPDIR is long", _together(("doctor", "on Ray"), before=f"mkdir -p {long} && TMPDIR={long}"))
    yield Scene("SUPERSNN_STORE is a file", _inside(("data list",), SUPERSNN_STORE="/etc/hostname"))
    yield Scene("SUPERSNN_DATA is a file", _inside(("data list", "again", "evaluate"), SUPERSNN_DATA="/etc/hostname"))

    def store_is(told: str, path: str) -> Scene:
        def play(_folder: Path, sound: Pristine) -> Iterator[Ended]:
            at = ["--store", path]
            yield call(["status", *at], SECONDS)
            yield call(["status", "--json", *at], SECONDS)
            yield call(["report", SWEEP, *at], SECONDS)
            yield call(["doctor", *at], SECONDS)
            yield call(["sweep", sound.folder / "sweep.yaml", "--local", *at], SECONDS)
            yield call(["verify", SWEEP, "--local", *at], SECONDS)
            yield call(["teach", sound.folder / "sweep.yaml", *at], SECONDS)

        return Scene(f"the store is {told}", play)

    yield store_is("a file", "/etc/hostname")
    yield store_is("below a file", "/etc/hostname/store")
    yield store_is("in /proc", "/proc/store")
    yield store_is("a device", "/dev/null")


def _databases() -> Iterator[Scene]:
    for value in (
        *(
            "nonsense",
            "sqlite:////proc/nowhere/x.db",
            "sqlite:///FOLDER",
            "sqlite://",
            "mysql://root:sesame@127.0.0.1:1/x",
            "a b c",
        ),
        *(
            f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/x",
            f"postgresql+psycopg://127.0.0.1:1/x?user=u&password={SECRET}",
        ),
        *(
            f"postgresql://u:{SECRET}@127.0.0.1:1/x",
            f"redis://:{SECRET}@127.0.0.1:1",
            "http://x",
            "sqlite:///FOLDER/other.db",
            "://",
        ),
        f"postgresql+psycopg://u:{SECRET}@[::1",
    ):
        yield _database("SUPERSNN_OPTUNA_STORAGE", value)
    for value in (
        *(
            "nonsense",
            "sqlite:////proc/nowhere/x.db",
            "sqlite:///FOLDER",
            "FOLDER/runs",
            "databricks",
            "ftp://x",
            "a b c",
        ),
        *(
            f"http://u:{SECRET}@127.0.0.1:1",
            f"postgresql+psycopg://u:{SECRET}@127.0.0.1:1/x",
            "http://",
            "https://[::1",
            "://",
        ),
        *(f"http://127.0.0.1:1?token={SECRET}", "file:///dev/null/x", "uc:x", "sqlite:///FOLDER/other.db"),
    ):
        yield _database("MLFLOW_TRACKING_URI", value)
    yield Scene("RAY_ADDRESS is nobody's", _inside(("again",), RAY_ADDRESS="127.0.0.1:1"))
    for shared in ("s3://", "nonsense", "ftp://x/y", "file:///proc/nowhere/x"):
        yield Scene(f"SUPERSNN_SHARED={shared}", _inside(("doctor",), SUPERSNN_SHARED=shared))


def _disks() -> Iterator[Scene]:
    if may_mount():
        writing: tuple[str, ...] = (
            "status",
            "status --json",
            "report",
            "report --html",
            "doctor",
            "check",
            "predict",
            "evaluate",
        )
        writing += ("export", "again", "more", "verify")
        yield Scene("a read-only store", _mounted(writing, "mount --bind -o ro FOLDER/store FOLDER/store"))
        for size in ("16k", "1m"):
            tiny = f"mkdir -p FOLDER/exported FOLDER/tiny && mount -t tmpfs -o size={size} none FOLDER/exported"
            yield Scene(f"no space for an export, {size}", _mounted(("export",), tiny))
        tiny = "mkdir -p FOLDER/tiny && mount -t tmpfs -o size=64k none FOLDER/tiny"
        yield Scene("TMPDIR is full", _mounted(("more", "export", "check"), f"{tiny} && export TMPDIR=FOLDER/tiny"))
        filled = "cp -a FOLDER/store FOLDER/full && head -c 24m /dev/zero > FOLDER/full/x"
        full = f"mkdir -p FOLDER/full && mount -t tmpfs -o size=24m none FOLDER/full && {filled}"
        full += "; mount --bind FOLDER/full/store FOLDER/store"
        yield Scene("a store on a full disk", _mounted(writing, full))
    for blocks in (1, 20, 100):
        limited = ("report --html", "export", "more", "check")
        yield Scene(f"files of at most {blocks} KiB", _together(limited, before=f"ulimit -f {blocks};"))
    yield Scene("few open files", _together(("status", "report", "more", "export"), before="ulimit -n 40;"))


def _streams() -> Iterator[Scene]:
    for told, after in (
        *(
            ("stdout is closed", ">&-"),
            ("stdin is closed", "<&-"),
            ("stderr is closed", "2>&-"),
            ("stdout is full", ">/dev/full"),
        ),
        *(
            ("stderr is full", "2>/dev/full"),
            ("stdout ends after a line", "| head -1"),
            ("nobody reads stdout", "| true"),
        ),
    ):
        names = ("status", "report", "dry run", "doctor", "again")
        yield Scene(told, _outside(names if "stdout" in told else names[:2], after=after))
    for seconds in (0.05, 0.3, 0.8, 1.5, 2.5, 4.0):
        yield _interrupted(seconds)


def prepare() -> None:
    """Make the store before the processes are forked that share it."""
    prepare_store()


def count() -> int:
    """How many cases there are."""
    return len(scenes())


def check(seed: int, number: int) -> tuple[str, list[Finding]]:
    """Try a scene; return it in words, and what does not hold. The seed changes nothing."""
    del seed
    scene, sound = scenes()[number], pristine()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        copy(sound, folder / "store")
        settle(sound, folder / "store")
        return scene.name, list(try_scene(scene, folder, sound))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_scene(scene: Scene, folder: Path, sound: Pristine) -> Iterator[Finding]:
    """Yield what does not hold in a scene."""
    for ended in scene.play(folder, sound):
        found = [ended] if isinstance(ended, Finding) else _judged(ended, silent="stderr" in scene.name)
        for finding in found:
            yield dataclasses.replace(finding, case=f"{scene.name}: {finding.case}")


def _judged(ended: Ended, silent: bool = False) -> Iterator[Finding]:
    """Yield what does not hold of a command; `silent`: nobody can see its standard error."""
    lines = 40 if ended.command.startswith("doctor") or "ended" in ended.err else 8
    unread = ended.command.endswith(("| head -1", "| true"))
    for finding in ended.faults(PART, "", lines=lines, unread=unread):
        if finding.invariant != "error without a word" or not (silent or ended.command.startswith("doctor")):
            yield dataclasses.replace(finding, case=_bare(finding.case), detail=_bare(finding.detail))
    said = ended.out + ended.err
    for word in ("Exception ignored", SECRET):
        if word in said:
            what = "a password is printed" if word == SECRET else "an exception is ignored aloud"
            at = said.index(word)
            yield Finding(PART, what, ended.command.split()[0], _bare(ended.command), said[max(0, at - 100) : at + 150])


def _bare(text: str) -> str:
    """The text without the temporary folder's name."""
    return re.sub(r"/\S*?/fuzz-[^/\s]*", "TMP", text)


def _main(folder: str, sound: str, *names: str) -> None:
    """Run commands here, and print what does not hold of them as JSON; see `_together`."""
    commands = _commands(Path(folder), Pristine(Path(sound), (), {}, {}, "", ""))
    found = [finding for name in names for finding in _judged(call(commands[name], SECONDS))]
    print(json.dumps([dataclasses.asdict(finding) for finding in found]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
