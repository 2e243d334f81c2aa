"""The documentation: its code runs, its links resolve, and its lists name everything that exists."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "benchmarks" / "RESULTS.md"]


def code_blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def indented_yaml(page: Path, first: str) -> dict[str, Any]:
    """Return the indented block of a page that begins with a line."""
    text = page.read_text(encoding="utf-8")
    block = re.search(rf"^    {re.escape(first)}\n(?:    .*\n)*", text, flags=re.MULTILINE)
    assert block is not None
    loaded: dict[str, Any] = yaml.safe_load(block.group())
    return loaded


@pytest.fixture
def demo_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a sweep that is as small as possible, under the demo's name, in a working directory of its own."""
    from typer.testing import CliRunner

    from supersnn_cli import app

    monkeypatch.chdir(tmp_path)
    values = "name=digits search.trials=1 search.scheduler=none verify.seeds=2 train.epochs=1 dataset.images=200"
    values += " teacher.epochs=1 teacher.views=1 arms.heterogeneous.teachers=[vgg8]"
    options = [option for value in values.split() for option in ("--set", value)]
    command = ["sweep", str(ROOT / "configs/digits-short.yaml"), "--local", "--store", "supersnn-store", *options]
    CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.usefixtures("demo_sweep")
def test_python_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = code_blocks(DOCS / "python.md")
    assert len(blocks) == 5
    namespace: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, block {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "torch.Size([2, 4, 10])" in printed
    assert "heterogeneous" in printed
    assert Path("digits.html").stat().st_size > 100_000


def test_module_map_is_current() -> None:
    command = [sys.executable, str(DOCS / "module_map.py"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr


def test_module_map_has_every_module_once() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", (DOCS / "architecture.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    modules = [path for package in ("supersnn", "tune", "analysis", "supersnn_cli") for path in package_files(package)]
    assert sorted(rows) == sorted(modules)


def package_files(package: str) -> Iterator[str]:
    for path in (ROOT / package).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        yield name.removesuffix("__init__.py") if path.name == "__init__.py" else name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_resolve(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r'src="([^"]+)"', text)]
    for target in targets:
        if not target.startswith(("http://", "https://")):
            file, _, heading = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), f"{page.name}: {target}"
            if heading:
                assert heading in anchors(linked), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_sweep_files_in_the_docs_are_valid() -> None:
    from supersnn.config_model import parse
    from supersnn.nested import merge
    from tune.description.arms import resolve
    from tune.description.sweep import SweepConfig

    example = indented_yaml(ROOT / "README.md", "name: digits")
    resolve(parse(SweepConfig, example, "README.md"), "README.md")
    ranges = indented_yaml(DOCS / "sweep-file.md", "space:")
    arms = {"logit": {"teachers": ["resnet8"]}}
    resolve(parse(SweepConfig, merge(merge(example, ranges), {"arms": arms}), "sweep-file.md"), "sweep-file.md")


def test_sweep_file_page_names_every_key() -> None:
    from pydantic import BaseModel

    from tune.description.sweep import ArmConfig, SweepConfig

    def keys(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield field.alias or name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from keys(field.annotation)

    words = set(re.findall(r"\w+", (DOCS / "sweep-file.md").read_text(encoding="utf-8")))
    assert {*keys(SweepConfig), *keys(ArmConfig)} <= words


def test_command_line_page_names_every_command_and_variable() -> None:
    from supersnn_cli.application import COMMANDS, data

    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    commands = [command.__name__.replace("_", "-") for group in COMMANDS.values() for command in group]
    commands += [f"data {command.name}" for command in data.registered_commands]
    for command in commands:
        assert re.search(rf"`supersnn {command}\b", text), command
    sources = [
        path.read_text(encoding="utf-8") for name in ("supersnn", "tune") for path in (ROOT / name).rglob("*.py")
    ]
    variables = {name for source in sources for name in re.findall(r"\bSUPERSNN_[A-Z_]+\b", source)}
    assert variables <= set(re.findall(r"`(SUPERSNN_[A-Z_]+)`", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_name_existing_files_and_targets(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for file in re.findall(r"\b((?:tests|docs|benchmarks|supersnn|supersnn_cli|tune|analysis)/[\w/]+\.\w+)", text):
        assert (ROOT / file).exists() or (ROOT / "benchmarks" / file).exists(), f"{page.name}: {file}"
    for module in re.findall(r"python -m (benchmarks\.\w+)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page.name}: {module}"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, f"{page.name}: make {target}"
