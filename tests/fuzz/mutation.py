"""Mutations of texts, of nested values, and of files: pure functions of a random generator."""

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

Path = tuple[str | int, ...]

WORDS: tuple[str, ...] = (
    *("yes", "off", "~", "null", "", "0", "-1", "1e-2", "1.5", ".inf", "-.inf", ".nan", "NaN", "1e309", "0x10", "0o17"),
    *(
        "1_000",
        "2024-13-45",
        "2024-12-01",
        "2024-12-01 25:00:00",
        "12:30:45",
        "!!binary aGk=",
        "!!python/name:os.system",
    ),
    *("!!set {a, b}", "!!omap [a: 1]", "!!timestamp 2024-01-01", "!!float x", "!!int 'x'", "!!null x", "!unknown x"),
    *(
        "&a [*a]",
        "&b {x: *b}",
        "*missing",
        "<<: *base",
        "{<<: {a: 1}}",
        "? [a, b]",
        "{[1, 2]: 3}",
        "{5: default}",
        "- - -",
    ),
    *(
        "'",
        '"',
        "[",
        "{",
        "]",
        "}",
        "|",
        ">",
        "%",
        "@",
        "`",
        "#",
        "---",
        "...",
        "[resnet8, resnet8]",
        "{name: x}",
        "[]",
    ),
    *(
        "{}",
        "[[]]",
        "{a: {b: {c: 1}}}",
        "é",
        "日本語",
        "\u202e",
        "🙂",
        "\t",
        "[bold]x[/bold]",
        "[/]",
        "a=b",
        "../../x",
        "/",
    ),
    *("digits", "resnet8", "direct", "default", "x" * 300, "x" * 5000, "[" * 3000, "{a: " * 500, "- " * 2000),
    *("[" + "1, " * 20000 + "1]", "123456789012345678901234567890", "'" + "y" * 70000 + "'", "torchvision:resnet18"),
    *("folder:/nowhere", "folder:", "timm:x", "os:system", "module:attribute"),
)
"""What a text may be replaced by: YAML's special cases, and what users mistype."""

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 7, -1, 1.5, 0.5, 0.0, -0.0, 1e-9, 1e-300, 1e308, 10**30, -(10**30), float("inf")),
    *(
        float("nan"),
        "",
        "x",
        "1",
        "1e-2",
        "1.0",
        "yes",
        "default",
        "off",
        [],
        {},
        [[]],
        [1],
        [1, 2],
        [2, 1],
        [1, 1],
        ["a"],
    ),
    *(
        [None],
        [True, False],
        {"a": 1},
        {"x": {"y": 1}},
        {5: "default"},
        "x" * 300,
        "é" * 50,
        "[x]",
        "a b",
        "a/b",
        "../x",
    ),
    *("resnet8", "resnet14", "vgg8", "wrn16_2", "resnet9", "digits", "accuracy", "synaptic_ops", "relation"),
    *(
        "logit",
        "tpe",
        "grid",
        "random",
        "qmc",
        "cmaes",
        "nsga2",
        "gp",
        "nsga3",
        "hyperband",
        "median",
        "wilcoxon",
        "none",
    ),
    *("compute", "torchvision:resnet18", "folder:/nowhere", "folder:", "bf16", "fp16", "plif", "relu", "adamw", "tdbn"),
    *(
        "train+validation",
        "overall",
        "con",
        ".",
        "-x",
        "2GB",
        "-1GB",
        [0.1, 0.9],
        [0.0, 1.0],
        [1, 1000],
        ["hard", "bogus"],
    ),
    *([64, 16, 1], 10, 12, 16, 30, 64, 100, 1000, 2000, 10**6, 10**9, 255, 256, 4, 5, 8),
)


def text(content: str, random: Random) -> tuple[str, bytes]:
    """Return what was done to a text, and the bytes that it is now."""
    lines = content.splitlines(keepends=True)
    at = random.randrange(len(lines))
    line = lines[at]
    match random.randrange(14):
        case 0:
            return f"without line {at + 1}", "".join(lines[:at] + lines[at + 1 :]).encode()
        case 1:
            return f"line {at + 1} twice", "".join(lines[: at + 1] + lines[at:]).encode()
        case 2:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
            return f"lines {at + 1} and {other + 1} swapped", "".join(lines).encode()
        case 3:
            indent = random.choice(("  ", " ", "\t", "    ", "- "))
            return f"line {at + 1} after {indent!r}", "".join([*lines[:at], indent + line, *lines[at + 1 :]]).encode()
        case 4:
            cut = random.randrange(len(content))
            return f"cut after {cut} characters", content[:cut].encode()
        case 5:
            data = bytearray(content.encode())
            for _ in range(random.choice((1, 1, 3, 10))):
                data[random.randrange(len(data))] = random.randrange(256)
            return f"bytes replaced in {_word(bytes(data))}", bytes(data)
        case 6:
            form = random.choice(("utf-8-sig", "utf-16", "latin-1", "utf-32"))
            return f"as {form}", content.replace("digits", "dïgits").encode(form)
        case 7:
            return "with CRLF", content.replace("\n", "\r\n").encode()
        case 8:
            encoded = content.encode()
            where = random.randrange(len(encoded))
            what = random.choice((b"\0", b"\xff", b"\x1b", b"\xc2\x85", b"\r", b"\x7f"))
            return f"{what!r} at byte {where}", encoded[:where] + what + encoded[where:]
        case 9:
            word = random.choice(WORDS)
            return f"{_word(word)} as line {at + 2}", "".join(
                [*lines[: at + 1], word + "\n", *lines[at + 1 :]]
            ).encode()
        case _:
            tokens = _tokens(content)
            begin, end = random.choice(tokens)
            word = random.choice(WORDS)
            told = f"{content[begin:end]!r} at {begin} → {_word(word)}"
            return told, (content[:begin] + word + content[end:]).encode(errors="replace")


def _word(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:40]}… ({len(shown)} characters)"


def _tokens(content: str) -> list[tuple[int, int]]:
    """Where the words and brackets of a text are."""
    return [match.span() for match in re.finditer(r"[\w./+-]+|[\[\]{}:,]", content)] or [(0, len(content))]


def paths(data: Any, prefix: Path = ()) -> Iterator[Path]:
    """Yield the paths of all values in nested data, sections included."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


def value_at(data: Any, path: Path) -> Any:
    """Return the value at a path."""
    for key in path:
        data = data[key]
    return data


def replaced(data: Any, path: Path, value: Any) -> Any:
    """Return a copy of nested data with another value at a path; missing sections are made."""
    result = copy.deepcopy(data)
    here = result
    for key in path[:-1]:
        if isinstance(here, dict) and not isinstance(here.get(key), (dict, list)):
            here[key] = {}
        here = here[key]
    here[path[-1]] = value
    return result


def without(data: Any, path: Path) -> Any:
    """Return a copy of nested data without the value at a path."""
    result = copy.deepcopy(data)
    del value_at(result, path[:-1])[path[-1]]
    return result


def values(data: Any, random: Random, more: Sequence[Callable[[Any, Random], tuple[str, Any]]] = ()) -> tuple[str, Any]:
    """Return what was done to nested data, and the data that it is now.

    Args:
        data: a mapping.
        random: decides.
        more: further mutations, which know what the data mean; two thirds of all are of these.
    """
    if more and random.random() < 0.66:
        return random.choice(more)(data, random)
    path = random.choice(list(paths(data)))
    name = ".".join(map(str, path))
    old = value_at(data, path)
    new: Any
    match random.randrange(8):
        case 0:
            return f"without {name}", without(data, path)
        case 1:
            misspelt = str(path[-1])[:-1] + "z"
            if not isinstance(path[-1], str):
                return "unchanged", data
            return f"{name} as {misspelt}", replaced(without(data, path), (*path[:-1], misspelt), old)
        case 2:
            return f"{name} at the top", replaced(data, (str(path[-1]),), old)
        case 3:
            other = random.choice(list(paths(data)))
            return f"{name} = that of {'.'.join(map(str, other))}", replaced(data, path, value_at(data, other))
        case 4 if isinstance(old, (int, float)):
            new = random.choice((-old, old * 1000, old + 1, old - 1, old / 3, old * 1e6, old * 1e-9, str(old)))
            return f"{name}: {new!r}", replaced(data, path, new)
        case 5 if isinstance(old, list):
            new = random.choice(
                (old + old, old[:1], old[::-1], [*old, random.choice(VALUES)], dict.fromkeys(map(str, old)))
            )
            return f"{name}: {_word(new)}", replaced(data, path, new)
        case _:
            new = random.choice(VALUES)
            return f"{name}: {_word(new)}", replaced(data, path, new)
