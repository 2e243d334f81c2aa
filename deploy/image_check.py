"""Run the Dockerfile's steps without a container engine, check the image, and print its size.

Each stage gets a fresh root file system made by debootstrap, each RUN a chroot. Then the image's command is started as
the image's user: its help, and a training on digits. The size is printed by layer and by package.

Needs Linux, root and debootstrap. `python deploy/image_check.py --help` lists the options.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

SOURCE = Path(__file__).resolve().parent.parent
PACKAGES = "python3,python3-venv,ca-certificates"
PROGRAMS = ("usr/bin", "bin")
NEEDED = ("gcc", "rsync")
"""Programs that the image must have: Triton's C compiler for GPUs, and what Ray's cluster launcher copies with."""
TRIAL = """\
dataset: {name: digits, images: 400, augment: {crop: 1}}
student: {architecture: resnet8}
train: {epochs: 1}
"""


@dataclass
class Stage:
    """A stage of the build: root file system, environment, arguments, user, working folder, commands, and layers.

    A layer is a step with the MB by which it changed the root.
    """

    root: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    folder: str = "/"
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    layers: list[tuple[str, float]] = field(default_factory=list)

    def known(self) -> dict[str, str]:
        """Return the values of `$NAME` references."""
        return {**self.arguments, **self.environment}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each instruction of a Dockerfile with its arguments, without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


class Build:
    """One build of the Dockerfile; `mounts` are host paths that its RUN steps may read under the same path."""

    def __init__(self, work: Path, base: Path, given: Mapping[str, str], mounts: Sequence[Path]) -> None:
        self._work, self._base, self._given, self._mounts = work, base, given, mounts
        self._global: dict[str, str] = {}
        self._named: dict[str, Stage] = {}

    def run(self, dockerfile: Path) -> Stage:
        """Run every step and return the last stage.

        Raises:
            SystemExit: a step fails, or this script does not support it.
        """
        stage = None
        for name, rest in instructions(dockerfile.read_text(encoding="utf-8")):
            print(f"{name} {rest}"[:160], flush=True)
            if name == "FROM":
                stage = self._from(rest)
            elif name == "ARG":
                key, _, default = rest.partition("=")
                arguments = self._global if stage is None else stage.arguments
                arguments[key] = self._given.get(key, default)
            elif stage is None or name not in self._STEPS:
                sys.exit(f"{dockerfile}: {name} is not supported")
            else:
                before = size_of([stage.root]) if name in ("RUN", "COPY") else 0.0
                self._STEPS[name](self, stage, rest)
                if name in ("RUN", "COPY"):
                    stage.layers.append((f"{name} {rest}"[:60], size_of([stage.root]) - before))
        if stage is None:
            sys.exit(f"{dockerfile}: no FROM")
        return stage

    def _from(self, rest: str) -> Stage:
        image, _, name = rest.partition(" AS ")
        print(f"  {Template(image).substitute(self._global)} is replaced by debootstrap's root")
        root = self._work / f"stage{len(self._named)}"
        subprocess.run(["cp", "--archive", "--reflink=auto", str(self._base), str(root)], check=True)
        stage = Stage(root, layers=[("base (debootstrap's)", size_of([root]))])
        self._named[name or "last"] = stage
        return stage

    def _run(self, stage: Stage, rest: str) -> None:
        execute(stage, ["/bin/sh", "-c", rest], self._mounts, {**stage.arguments})

    def _copy(self, stage: Stage, rest: str) -> None:
        words = shlex.split(rest)
        origin = SOURCE
        if words[0].startswith("--from="):
            origin = self._named[words.pop(0).removeprefix("--from=")].root
        *sources, target = words
        into = stage.root / target.lstrip("/")
        if len(sources) > 1 or target.endswith("/"):
            into.mkdir(parents=True, exist_ok=True)
        into.parent.mkdir(parents=True, exist_ok=True)
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=_ignored)
            else:
                shutil.copy2(path, into)

    def _env(self, stage: Stage, rest: str) -> None:
        for pair in shlex.split(rest):
            key, _, value = pair.partition("=")
            stage.environment[key] = Template(value).safe_substitute(stage.known())

    def _user(self, stage: Stage, rest: str) -> None:
        stage.user = rest

    def _workdir(self, stage: Stage, rest: str) -> None:
        stage.folder = rest

    def _entry(self, stage: Stage, rest: str) -> None:
        stage.entry = json.loads(rest)

    def _command(self, stage: Stage, rest: str) -> None:
        stage.command = json.loads(rest)

    def _ignore(self, stage: Stage, rest: str) -> None:
        """Ignore an instruction that changes no file."""

    _STEPS = {
        "RUN": _run,
        "COPY": _copy,
        "ENV": _env,
        "USER": _user,
        "WORKDIR": _workdir,
        "ENTRYPOINT": _entry,
        "CMD": _command,
        "LABEL": _ignore,
        "VOLUME": _ignore,
    }


def execute(
    stage: Stage, command: Sequence[str], mounts: Sequence[Path] = (), more: Mapping[str, str] | None = None
) -> str:
    """Run a command in a stage's root, as its user, in a mount namespace of its own; return its standard output."""
    lines = []
    for path in (Path("/proc"), Path("/dev"), Path("/etc/resolv.conf"), Path("/etc/hosts"), *mounts):
        place = stage.root / str(path).lstrip("/")
        (place if path.is_dir() else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            place.touch()
        lines.append(f"mount --rbind {shlex.quote(str(path))} {shlex.quote(str(place))}")
    inside = f"cd {shlex.quote(stage.folder)} && exec {shlex.join(command)}"
    environment = [f"{key}={value}" for key, value in {**stage.environment, **(more or {})}.items()]
    user = stage.user if ":" in stage.user else f"{stage.user}:{stage.user}"
    chroot = ["chroot", f"--userspec={user}", str(stage.root), "env", "-i", *environment, "/bin/sh", "-c", inside]
    script = " && ".join([*lines, f"exec {shlex.join(chroot)}"])
    done = subprocess.run(["unshare", "--mount", "/bin/sh", "-c", script], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"exit code {done.returncode}: {shlex.join(command)[:300]}\n{done.stdout[-2000:]}")
    return done.stdout


def check(stage: Stage) -> None:
    """Run the image's help and a short training as its user; refuse root, left-over tools, and a missing compiler."""
    if stage.user in ("0", "root"):
        sys.exit("the image runs as root")
    tools = {tool for tool in ("g++", "make", *NEEDED) if any((stage.root / p / tool).exists() for p in PROGRAMS)}
    if (left := tools - set(NEEDED)) or (stage.root / "opt/supersnn/bin/pip").exists():
        sys.exit(f"build tools are left in the image: {sorted(left) or ['pip']}")
    if missing := set(NEEDED) - tools:
        sys.exit(f"the image lacks {', '.join(sorted(missing))}")
    (stage.root / "tmp/empty.c").write_text("#include <stdio.h>\n#include <stdlib.h>\n", encoding="utf-8")
    execute(stage, ["gcc", "-O3", "-shared", "-fPIC", "/tmp/empty.c", "-o", "/tmp/empty.so"])  # as Triton compiles
    if "sweep" not in execute(stage, [*stage.entry, *stage.command]):
        sys.exit("the entry point's help does not name its commands")
    for server in (["ray", "start", "--help"], ["mlflow", "server", "--help"]):  # used by deploy/
        execute(stage, server)
    (stage.root / "tmp/trial.yaml").write_text(TRIAL, encoding="utf-8")
    result = json.loads(execute(stage, [*stage.entry, "train", "/tmp/trial.yaml", "--json"]))
    print(f"trained as user {stage.user}: {result}")


def size_of(paths: Sequence[Path]) -> float:
    """Return the total MB (10^6 bytes) of files and folders, a file with several names counted once."""
    if not paths:
        return 0.0
    command = ["du", "--summarize", "--total", "--apparent-size", "--block-size=1", *map(str, paths)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(listed.stdout.splitlines()[-1].split()[0]) / 1e6


def parts(packages: Path) -> dict[str, float]:
    """Return the MB of each part of a folder of packages: CUDA's libraries, torch, ours, and every other package."""
    of: dict[str, list[Path]] = {}
    for path in packages.iterdir():
        name = re.split(r"[-.]", path.name)[0].lower()
        if name.startswith(("nvidia", "cuda", "triton")):
            name = "CUDA"
        elif name in ("supersnn", "supersnn_cli", "tune", "analysis"):
            name = "supersnn"
        of.setdefault(name.removesuffix("_libs"), []).append(path)
    return {name: size_of(paths) for name, paths in of.items()}


def sizes(stage: Stage, wheel: Path | None = None) -> str:
    """Return the image's size by layer and by package; with a CPU wheel of torch, also the computed size with it.

    The computed size leaves out CUDA's libraries and the installed torch, and adds the wheel's files except the
    headers, which the Dockerfile removes; compiled Python is assumed to be as large as Python's source.
    """
    (packages,) = stage.root.glob("opt/supersnn/lib/python3*/site-packages")
    of, total = parts(packages), sum(size for _, size in stage.layers)
    lines = [f"{total:8.0f} MB total"] + [f"{size:8.1f} MB  {name}" for name, size in stage.layers]
    heaviest = sorted(of.items(), key=lambda part: -part[1])
    lines += ["packages:"] + [f"{size:8.1f} MB  {name}" for name, size in heaviest[:16]]
    lines += [f"{sum(size for _, size in heaviest[16:]):8.1f} MB  {len(heaviest) - 16} others"]
    lines += [f"{size_of(list(packages.rglob('__pycache__'))):8.1f} MB  of it compiled Python"]
    if wheel is not None:
        with zipfile.ZipFile(wheel) as file:
            kept = [entry for entry in file.infolist() if not entry.filename.startswith("torch/include")]
        text = sum(entry.file_size for entry in kept if entry.filename.endswith(".py"))
        cpu = (sum(entry.file_size for entry in kept) + text) / 1e6
        image = total - of.get("CUDA", 0.0) - of["torch"] + cpu
        lines += [f"{image:8.0f} MB total with {wheel.name} ({cpu:.0f} MB): computed"]
    return "\n".join(lines)


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__"} if Path(folder).is_relative_to(SOURCE) else set()


def main() -> None:
    """Build and check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build-arg", action="append", default=[], help="NAME=VALUE, as for docker build")
    parser.add_argument(
        "--mount", action="append", default=[], type=Path, help="a host path that pip needs in the build"
    )
    parser.add_argument(
        "--suite", default="bookworm", help="the Debian release whose python3 replaces the base image's"
    )
    parser.add_argument("--cpu-wheel", type=Path, help="a CPU wheel of torch, to compute the image's size with it")
    parser.add_argument(
        "--work", type=Path, help="an empty folder for the roots, which is kept; by default a temporary one"
    )
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("this needs root and debootstrap (apt-get install debootstrap)")
    work = options.work or Path(tempfile.mkdtemp(prefix="image-check-", dir="/var/tmp"))
    try:
        base = work / "base"
        if not base.exists():
            bootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", options.suite, str(base)]
            subprocess.run(bootstrap, check=True, stdout=subprocess.DEVNULL)
        python = base / "usr/bin/python"
        if not python.exists():
            python.symlink_to("python3")
        given = dict(pair.split("=", 1) for pair in options.build_arg)
        last = Build(work, base, given, options.mount).run(SOURCE / "Dockerfile")
        check(last)
        print(sizes(last, options.cpu_wheel))
    finally:
        if options.work is None:
            shutil.rmtree(work, ignore_errors=True)
    print("all checks passed")


if __name__ == "__main__":
    main()
