from pathlib import Path

import pytest

from supersnn import parts
from supersnn.errors import UserError
from supersnn.parts import is_import_path, one_of
from tests.support.plugins import package


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet8", False), ("torchvision:resnet18", False), ("folder:/a", False), ("a.b:C", True), ("a b:c", True)],
)
def test_import_paths_are_told_from_names(name: str, expected: bool) -> None:
    assert is_import_path(name) is expected


def test_a_name_is_one_of_the_known_or_an_import_path() -> None:
    check = one_of("lif", "plif")
    assert check("lif") == "lif"
    assert check("mypkg.neurons:Mine") == "mypkg.neurons:Mine"
    with pytest.raises(ValueError, match=r"found 'plf' \(did you mean 'plif'\?\)"):
        check("plf")
    with pytest.raises(ValueError, match=r"expected an import path MODULE:ATTRIBUTE"):
        check("my pkg:Mine")


def test_registered_parts_come_first_and_others_are_imported() -> None:
    registry = {"here": 1}
    assert parts.part(registry, "here") == 1
    assert parts.part(registry, "math:pi") == pytest.approx(3.14159, abs=1e-4)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_package.nets:Mine", "no module 'no_such_package'; install its package, or name its folder"),
        ("torchvison:resnet18", "did you mean 'torchvision'"),
        ("math.nothing:pi", "no module 'math.nothing'"),
        ("math:cosinus", r"no attribute 'cosinus' in it"),
        ("math:flor", r"did you mean 'floor'"),
        ("nothing", "expected an import path"),
    ],
)
def test_what_cannot_be_imported_is_one_line(path: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        parts.load(path)
    assert "\n" not in str(error.value)


def test_what_a_module_raises_names_it(tmp_path: Path) -> None:
    module = package(tmp_path, "import nothing_of_this_name")
    with pytest.raises(UserError, match=f"'{module}:Mine' cannot be imported: ModuleNotFoundError.*nothing_of_this"):
        parts.load(f"{module}:Mine")
    module = package(tmp_path, "1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        parts.load(f"{module}:Mine")
    module = package(tmp_path, "raise SystemExit(3)")
    with pytest.raises(UserError, match="cannot be imported: SystemExit: 3"):
        parts.load(f"{module}:Mine")


def test_arguments_are_checked_before_the_call() -> None:
    def made(shape: int, width: int, *, depth: int = 1) -> tuple[int, int, int]:
        return shape, width, depth

    assert parts.call("m:made", made, {"shape": 8, "classes": 4}, {"width": 2}, "arguments") == (8, 2, 1)
    with pytest.raises(UserError, match=r"arguments\.widht: 'm:made' has no argument .* \(did you mean 'width'\?\)"):
        parts.call("m:made", made, {"shape": 8}, {"widht": 2}, "arguments")
    with pytest.raises(UserError, match=r"arguments\.width: 'm:made' requires this argument"):
        parts.call("m:made", made, {"shape": 8}, {}, "arguments")
    with pytest.raises(UserError, match="expected a function of 3 arguments, found one of 2"):
        parts.check_arguments("m:f", lambda a, b: a + b, (), (), "arguments", positional=3)


def test_what_a_part_raises_names_its_line(tmp_path: Path) -> None:
    """The innermost line of the part's package, not that of a library which it calls, nor ours."""
    source = "import json\n\ndef outer():\n    return inner()\n\ndef inner():\n    return json.loads('{')\n"
    module = package(tmp_path, source)
    text = (tmp_path / module.partition(".")[0] / "it.py").read_text().splitlines()
    line = text.index("    return json.loads('{')") + 1
    with pytest.raises(UserError, match=rf"raises JSONDecodeError: .* \(.*it\.py:{line}\)$"):
        parts.call(f"{module}:outer", parts.function(f"{module}:outer"), {}, {}, "arguments")
    broken = package(tmp_path, "\n1 / 0\n")
    with pytest.raises(UserError, match=r"cannot be imported: ZeroDivisionError: .* \(.*it\.py:\d+\)$"):
        parts.load(f"{broken}:outer")
    assert parts.raised_at(ValueError("from nowhere"), ["m:f"]) == ""


def test_what_a_part_raises_names_the_part() -> None:
    def broken() -> None:
        raise ValueError("two\nlines")

    with pytest.raises(UserError, match="'m:broken' raises ValueError: two lines"):
        parts.call("m:broken", broken, {}, {}, "arguments")
