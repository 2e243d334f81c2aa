"""Damaged files of a store and of an export through every command that reads them.

A small sweep is run once; each case copies its store, damages one file, and runs the commands that could notice. What
must hold: each ends with a known exit code and a few lines without a traceback; a figure that differs from the
undamaged store's is accompanied by a word; no test is opened twice for the same purpose and weights.
"""

import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml
from PIL import Image

from supersnn.digests import digest
from tests.fuzz import mutation
from tests.fuzz.command import Ended, call, lasting_folder
from tests.fuzz.findings import Finding
from tune.tracking.server import uri_for

PART = "damages"
SWEEP = "mini"
SECONDS = 60.0
ROOT = Path(__file__).parents[2]
CONFIG: dict[str, Any] = {
    "name": SWEEP,
    "dataset": {"name": "digits", "images": 200, "augment": {"crop": 1, "views": 1}},
    "student": {"architecture": "resnet8", "time_steps": 1},
    "teacher": {"epochs": 1},
    "train": {"epochs": 2},
    "arms": {"direct": {}, "homogeneous": {"teachers": ["resnet8"]}},
    "space": {"optimizer.lr": "default", "neuron.threshold": {"uniform": [0.3, 1.0]}},
    "search": {"trials": 2, "scheduler": "none"},
    "verify": {"seeds": 2, "top": 2, "rank_seeds": 1},
}
SENSELESS: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        -0.5,
        1.5,
        1e308,
        10**30,
        float("nan"),
        float("inf"),
        "",
        "x",
        "1",
        [],
        [1],
        {},
        {"a": 1},
        "é" * 40,
    ),
    *("../../../etc/passwd", "x" * 5000, 1e-300, [[]]),
)
"""Values that no field of a stored file can sensibly have, or hardly any."""
KINDS = (
    *(
        "empty",
        "half",
        "without the last byte",
        "cut anywhere",
        "a byte flipped",
        "ten bytes flipped",
        "garbage at the end",
    ),
    *("garbage line", "BOM", "Latin-1", "directory", "missing", "swapped", "other content", "older", "dangling link"),
    *("value", "value", "value", "value", "value", "line twice", "line missing", "lines swapped"),
)
IMPORTED = (
    "tune.terminal.launch",
    "tune.terminal.status",
    "tune.execution.local",
    "tune.outcome.export",
    "tune.search.samplers",
    "analysis.report",
    "supersnn.checking",
    "mlflow.store.tracking.sqlalchemy_store",
)
"""The modules that commands import when they run: every process would spend seconds on them."""
_UNSTABLE = re.compile(
    r"(^|\.)(cpu_s|gpu_s|teacher_s|seconds|bank_seconds|slot_hours\w*|gpu_hours\w*|provenance|sha256|metrics_sha256|versions|code)($|\.)"
)
_QUIET = ("nothing left to do",)


@dataclass(frozen=True)
class Pristine:
    """The undamaged store, and what the commands say of it."""

    folder: Path
    files: tuple[str, ...]
    report: Mapping[str, Any]
    exported: Mapping[str, Any]
    evaluated: str
    predicted: str

    @property
    def store(self) -> Path:
        return self.folder / "store"


@functools.cache
def pristine() -> Pristine:
    """Run the small sweep in a process of its own, and the commands on it.

    The folder is removed at this process's end.
    """
    folder = lasting_folder("fuzz-store-")
    (folder / "sweep.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(folder / "image.png")
    store = folder / "store"
    command: list[str | Path] = [sys.executable, "-m", "supersnn_cli", "sweep"]
    command += [folder / "sweep.yaml", "--local", "--store", store]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    for name in ("artifacts", "sweeps/mini/report.html"):  # large, and read by no command here
        path = store / name
        shutil.rmtree(path) if path.is_dir() else path.write_text("report")
    overall = store / "sweeps" / SWEEP / "best" / "overall"
    copied = folder / "copied"
    shutil.copytree(overall, copied)
    files = tuple(sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()))
    exported = _sound(call(["export", SWEEP, "--to", folder / "exported", "--store", store]))
    assert exported.code == 0
    return Pristine(
        folder,
        files,
        json.loads(_sound(call(["report", SWEEP, "--json", "--store", store])).out),
        json.loads((folder / "exported" / "metrics.json").read_text(encoding="utf-8")),
        _sound(call(["evaluate", copied, "--data", "digits", "--json"])).out,
        _sound(call(["predict", copied, folder / "image.png", "--json"])).out,
    )


def prepare() -> None:
    """Make the store, and import what the commands need, before the processes are forked that share both."""
    import torch

    torch.set_num_threads(1)
    for module in IMPORTED:
        importlib.import_module(module)
    pristine()


def _sound(ended: Ended) -> Ended:
    if ended.error is not None:
        raise ended.error
    assert ended.code == 0, (ended.command, ended.err)
    return ended


@dataclass(frozen=True)
class Damage:
    """What is done to one file of the store."""

    file: str
    kind: str
    told: str


def roles(files: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the files by what they are: cases are spread evenly over these."""
    found: dict[str, list[str]] = {}
    for file in files:
        role = re.sub(r"[0-9a-f]{16}|(?<=/)\d+(?=/)", "N", file)
        role = re.sub(r"/(direct|homogeneous|overall)/", "/ARM/", role)
        if not role.endswith((".nir", ".onnx", "MODEL_CARD.md")):
            found.setdefault(role, []).append(file)
    return found


def damage(store: Path, files: tuple[str, ...], random: Random) -> Damage:
    """Damage one file of a store."""
    by_role = roles(files)
    file = random.choice(by_role[random.choice(sorted(by_role))])
    path, kind = store / file, random.choice(KINDS)
    content = path.read_bytes()
    told, new = kind, content
    match kind:
        case "empty":
            new = b""
        case "half":
            new = content[: len(content) // 2]
        case "without the last byte":
            new = content[:-1]
        case "cut anywhere":
            cut = random.randrange(len(content) + 1)
            told, new = f"cut after {cut} of {len(content)} bytes", content[:cut]
        case "a byte flipped" | "ten bytes flipped":
            flipped = bytearray(content)
            for _ in range(1 if kind[0] == "a" else 10):
                if flipped:
                    at = random.randrange(len(flipped))
                    flipped[at] ^= 1 << random.randrange(8)
                    told = f"{kind}, at {at}"
            new = bytes(flipped)
        case "garbage at the end":
            new = content + bytes(random.randrange(256) for _ in range(40))
        case "garbage line" | "line twice" | "line missing" | "lines swapped":
            told, new = _lines(content, kind, random)
        case "BOM":
            new = b"\xef\xbb\xbf" + content
        case "Latin-1":
            at = content.find(b'"') + 1 or content.find(b" ") + 1
            new = content[:at] + b"\xe9" + content[at:]
        case "swapped":
            other = random.choice([one for one in files if one != file and Path(one).name == path.name] or list(files))
            told, equal = f"swapped with {other}", content == (store / other).read_bytes()
            aside = path.with_name(path.name + ".aside")
            path.rename(aside)
            (store / other).rename(path)
            aside.rename(store / other)
            return Damage(file, "none" if equal else kind, f"{file}: {told}")
        case "other content":
            new = random.choice(
                (b"null\n", b"5\n", b"{}\n", b"[]\n", b'"x"\n', b"[[1]]\n", b'{"arms": null}\n', b"\0" * 100, b"a: b\n")
            )
            told = f"content {new[:20]!r}"
        case "value":
            told, new = _value(path.suffix, content, random)
        case "older":
            os.utime(path, (1e9, 1e9))
            return Damage(file, kind, f"{file}: older")
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("/proc/nowhere/at/all")
    elif kind != "missing":
        path.write_bytes(new)
    return Damage(
        file,
        "none" if new == content and kind not in ("directory", "missing", "dangling link") else kind,
        f"{file}: {told}",
    )


def _lines(content: bytes, kind: str, random: Random) -> tuple[str, bytes]:
    lines = content.splitlines(keepends=True) or [b"\n"]
    at = random.randrange(len(lines))
    if kind == "garbage line":
        line = random.choice(
            (b"garbage\n", b"{}\n", b"5\n", b"null\n", b"\xe9\xff\n", b"\0\0\0\n", b'{"event": "x"}\n', b"\n", b"[1]\n")
        )
        return f"{line!r} before line {at + 1}", b"".join([*lines[:at], line, *lines[at:]])
    if kind == "line twice":
        return f"line {at + 1} twice", b"".join(lines[: at + 1] + lines[at:])
    if kind == "line missing":
        return f"line {at + 1} missing", b"".join(lines[:at] + lines[at + 1 :])
    other = random.randrange(len(lines))
    lines[at], lines[other] = lines[other], lines[at]
    return f"lines {at + 1} and {other + 1} swapped", b"".join(lines)


def _value(suffix: str, content: bytes, random: Random) -> tuple[str, bytes]:
    """Replace a value of a structured file by a senseless one; cut any other file."""
    if suffix not in (".json", ".jsonl", ".yaml"):
        cut = random.randrange(len(content) + 1)
        return f"cut after {cut} of {len(content)} bytes", content[:cut]
    lines = content.decode().splitlines() if suffix == ".jsonl" else [content.decode()]
    at = random.randrange(len(lines))
    plain = (yaml.safe_load if suffix == ".yaml" else json.loads)(lines[at])
    path = random.choice(list(mutation.paths(plain)) or [()])
    value = random.choice(SENSELESS)
    name = ".".join(map(str, path))
    if not path:
        changed, told = value, f"everything: {value!r}"
    elif random.random() < 0.2:
        changed, told = mutation.without(plain, path), f"without {name}"
    else:
        changed, told = mutation.replaced(plain, path, value), f"{name}: {str(value)[:40]!r}"
    lines[at] = yaml.safe_dump(changed, sort_keys=False) if suffix == ".yaml" else json.dumps(changed)
    kind = f" ({plain.get('event')})" if isinstance(plain, dict) and "event" in plain else ""
    where = f"line {at + 1}{kind}, " if suffix == ".jsonl" else ""
    return where + told, ("\n".join(lines) + ("\n" if suffix == ".jsonl" else "")).encode()


def check(seed: int, number: int) -> tuple[str, list[Finding]]:
    """Try a damage; return it in words, and what does not hold."""
    sound = pristine()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        store = Path(name) / "store"
        copy(sound, store)
        done = damage(store, sound.files, Random(f"{PART}/{seed}/{number}"))
        settle(sound, store)
        return done.told, list(try_damage(sound, store, done, Random(number)))


def copy(sound: Pristine, store: Path) -> None:
    """Copy the undamaged store; large files that are only ever replaced as a whole are linked."""

    def take(source: str, target: str) -> None:
        large = os.stat(source).st_size > 50_000 and not source.endswith(".db")
        os.link(source, target) if large else shutil.copy2(source, target)

    shutil.copytree(sound.store, store, copy_function=take)


def settle(sound: Pristine, store: Path) -> None:
    """Name the position in MLflow's journal after the copy's address: else MLflow is sent everything again."""
    tracking = store / "sweeps" / SWEEP / "tracking"
    position = tracking / f"{digest(uri_for(sound.store))}.json"
    if os.path.lexists(position):
        position.rename(tracking / f"{digest(uri_for(store))}.json")


def try_damage(sound: Pristine, store: Path, done: Damage, random: Random) -> Iterator[Finding]:
    """Run the commands on a damaged store; yield what does not hold."""
    folder = store / "sweeps" / SWEEP
    at: list[str | Path] = ["--store", store]
    before = _openings(store)
    judge = functools.partial(_judged, done)
    if "/best/" in done.file:
        yield from _export_commands(sound, store, done)
    yield from judge(call(["status", *at], SECONDS))
    yield from judge(call(["status", "--json", *at], SECONDS))
    if random.random() < 0.2:
        yield from judge(call(["report", SWEEP, *at], SECONDS))
    reported = call(["report", SWEEP, "--json", *at], SECONDS)
    yield from judge(reported)
    yield from _same_report(sound, done, reported)
    exported = call(["export", SWEEP, "--to", store.parent / "exported", *at], SECONDS)
    yield from judge(exported)
    if exported.error is None and exported.code == 0:
        figures = json.loads((store.parent / "exported" / "metrics.json").read_text(encoding="utf-8"))
        if (changed := _changed(sound.exported, figures)) and not _words(exported):
            yield _silent("export", done, changed)
    again = call(["sweep", sound.folder / "sweep.yaml", "--local", *at], SECONDS)
    yield from judge(again)
    if again.error is None and again.code == 0:
        reported = call(["report", SWEEP, "--json", *at], SECONDS)
        yield from judge(reported)
        if not _words(again):
            yield from _same_report(sound, done, reported)
        for arm in ("direct", "homogeneous", "overall") if "best/" not in done.told and random.random() < 0.2 else ():
            checked = call(["check", folder / "best" / arm], SECONDS)
            yield from judge(checked)
            if checked.code:
                what = "an export fails its check after a sweep that ended well"
                yield Finding(PART, what, Path(done.file).name, done.told, checked.err[-300:])
    if random.random() < 0.1:
        yield from judge(call(["verify", SWEEP, "--local", *at], SECONDS))
    if "/best/" not in done.file and random.random() < (0.2 if done.file.startswith(("teachers", "banks")) else 0.04):
        more = ["--set", "search.trials=3"]
        yield from judge(call(["sweep", sound.folder / "sweep.yaml", "--local", *more, *at], SECONDS))
    if done.file.startswith(("teachers", "banks")):
        yield from judge(call(["teach", sound.folder / "sweep.yaml", *at], SECONDS))
    for opening, count in _openings(store).items():
        if opening in _openings(sound.store) and count > max(1, before[opening]):
            yield Finding(PART, "the test was opened again", opening[0], done.told, f"{count} times, {opening}")


def _export_commands(sound: Pristine, store: Path, done: Damage) -> Iterator[Finding]:
    """The commands on an export folder that is damaged."""
    export = store / Path(*Path(done.file).parts[:4])
    harmless = done.kind in ("older", "none") or done.file.endswith("test-ledger.jsonl")
    if done.file.endswith("metrics.json") and not harmless:  # its checksum is that of its values
        harmless = _json(export / "metrics.json") == _json(sound.store / done.file)
    for command in (
        call(["check", export], SECONDS),
        call(["predict", export, sound.folder / "image.png", "--json"], SECONDS),
        call(["evaluate", export, "--data", "digits", "--json"], SECONDS),
    ):
        yield from _judged(done, command)
        if command.error is None and command.code == 0 and not harmless:
            yield Finding(
                PART,
                "a changed export is accepted",
                f"{command.command.split()[0]} {Path(done.file).name}",
                done.told,
                "exit code 0",
            )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path


def _judged(done: Damage, ended: Ended) -> Iterator[Finding]:
    for finding in ended.faults(PART, done.told):
        yield Finding(finding.part, finding.invariant, finding.place, _bare(finding.case), _bare(finding.detail))


def _bare(text: str) -> str:
    """The text without the temporary folder's name."""
    return re.sub(r"/\S*?/fuzz-[^/\s]*", "TMP", text)


def _words(ended: Ended) -> bool:
    """Whether a command said anything on standard error besides that there was nothing to do."""
    return any(line.strip() and not line.startswith(_QUIET) for line in ended.err.splitlines())


def _same_report(sound: Pristine, done: Damage, reported: Ended) -> Iterator[Finding]:
    if reported.error is not None or reported.code or _words(reported):
        return
    try:
        figures = json.loads(reported.out)
    except ValueError:
        yield Finding(PART, "not JSON", "report --json", done.told, reported.out[:200])
        return
    if not figures.get("problems") and (changed := _changed(sound.report, figures)):
        yield _silent("report", done, changed)


def _silent(command: str, done: Damage, changed: str) -> Finding:
    return Finding(
        PART,
        "another figure without a word",
        f"{command}, {Path(done.file).name} {changed.split(':')[0]}",
        done.told,
        changed,
    )


def _changed(before: Any, after: Any) -> str:
    """Return the first figure that is another one now, in words; empty where there is none."""
    old, new = dict(_leaves(before)), dict(_leaves(after))
    for key, value in old.items():
        if not _UNSTABLE.search(key) and isinstance(value, (int, float)) and new.get(key) != value:
            return f"{key}: {value!r} before, {new.get(key)!r} now"
    return ""


def _leaves(data: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else None
    if items is None:
        yield prefix, data
        return
    for key, value in items:
        yield from _leaves(value, f"{prefix}.{key}" if prefix else str(key))


def _openings(store: Path) -> Counter[tuple[str, str]]:
    """How often the test was opened for each purpose and weights, by all ledgers that can be read."""
    found: Counter[tuple[str, str]] = Counter()
    for ledger in store.rglob("test-ledger.jsonl"):
        if not ledger.is_file():
            continue
        for line in ledger.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                if entry["weights"]:
                    found[str(entry["purpose"]), str(entry["weights"])] += 1
            except (ValueError, TypeError, KeyError):
                continue
    return found
