"""Configuration models: reading, error messages, dotted keys, digests."""

import math
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supersnn.config_model import ConfigModel, Positive, parse, to_yaml, with_values
from supersnn.digests import EXCLUDE_DEFAULT_FROM_DIGEST, digest
from supersnn.errors import UserError
from supersnn.nested import flatten, merge, unflatten
from supersnn.plain_yaml import parse_yaml, read_yaml


class Wheel(ConfigModel):
    size: Positive = 1.0
    spokes: Annotated[int, EXCLUDE_DEFAULT_FROM_DIGEST] = 8


class Cart(ConfigModel):
    name: str
    front: Wheel = Wheel()
    spare: dict[str, Wheel] = {}


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"name": "a", "fornt": {}}, "here: fornt: unknown key (did you mean 'front'?)"),
        ({"name": "a", "front": {"szie": 2}}, "here: front.szie: unknown key (did you mean 'front.size'?)"),
        ({"name": "a", "front": {"x": 2}}, "here: front.x: unknown key; known keys: size, spokes"),
        ({"name": "a", "spare": {"left": {"x": 2}}}, "here: spare.left.x: unknown key; known keys: size, spokes"),
        ({}, "here: name: this key is required"),
        ({"name": "a", "front": {"size": 0}}, "here: front.size: input should be greater than 0, found 0"),
        (
            {"name": "a", "front": {"size": math.nan}},
            "here: front.size: input should be a finite number, found nan",
        ),
    ],
)
def test_a_complaint_is_one_line_that_says_where_and_what(data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError) as error:
        parse(Cart, data, "here")
    assert str(error.value) == complaint


def test_two_mistakes_are_both_told() -> None:
    with pytest.raises(UserError, match=r"^here: name: .*; front\.size: "):
        parse(Cart, {"front": {"size": -1}}, "here")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name: a\nname: b\n", "twice"),
        ("front: {size: 1, size: 2}\n", "twice"),
        ("name: [", "not valid YAML"),
        ("\xff", "not valid YAML"),
        ("- name\n", "expected a mapping of keys, found list"),
        ("", "expected a mapping of keys, found NoneType"),
        ("a: " + "[" * 3000, "nested too deeply"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: &a {b: 1}\nc: {<<: *a, d: 1, d: 2}", "line 2, column 19: key 'd' is given twice"),
        ("space: {5: default}", "space: key 5 is a number; expected text: put it in quotes"),
        ("off: 1", "key False is a truth value"),
        ("a: {<<: 5}", "expected a mapping, or a list of them, under <<"),
        ("a: {? {b: c} : d}", "found unhashable key"),
        ("a: !!int x", "not valid YAML: invalid literal"),
        ("a: !!set {b}", "tag .* is not supported"),
        ("a: !!float ''", "not valid YAML"),
        ("a: " + "9" * 5000, "not valid YAML"),
        ("a: 99999999999999999999", "a: the number has more than 64 bits"),
        ('a: "b\\0"', "control character"),
        ('a: "\\uD800"', "control character"),
        ("a: " + "b" * 70_000, "more than 4,096 characters"),
        ("\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9 if n else ['1'])}]" for n in range(9)]), "too many"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "cart.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"cart.yaml: .*{complaint}") as caught:
        read_yaml(path)
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-2", 0.01),
        ("1E5", 1e5),
        ("-3e2", -300.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("5", 5),
        ("2024-13-45", "2024-13-45"),
        ("2024-01-02", "2024-01-02"),
        ("off", False),
        ("1e", "1e"),
        ("e5", "e5"),
        ("'1e-2'", "1e-2"),
    ],
)
def test_numbers_are_those_of_yaml_1_2_and_dates_are_text(text: str, value: object) -> None:
    read = parse_yaml(f"a: {text}")["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize("name", ["1e-2", "1e5", ".5", "off", "2024-01-02", "null", "0x10", "a b"])
def test_text_that_looks_like_something_else_stays_text(name: str) -> None:
    assert parse_yaml(to_yaml(Cart(name=name)))["name"] == name


def test_merge_keys_insert_a_mapping_that_other_keys_override() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b, z: 3}\nd: {<<: [*b, *a]}"
    assert parse_yaml(text) == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 1, "y": 2},
        "c": {"x": 1, "y": 2, "z": 3},
        "d": {"x": 1, "y": 2},
    }


def test_a_truth_value_is_no_number() -> None:
    with pytest.raises(UserError, match=r"^x: front\.size: expected a number, found true \(YAML reads yes"):
        parse(Cart, {"name": "a", "front": {"size": True}}, "x")


def test_a_long_complaint_is_shortened() -> None:
    with pytest.raises(UserError) as caught:
        parse(Cart, {f"key{n}": 1 for n in range(1000)} | {"name": [0] * 70_000}, "x")
    assert "and 998 more" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_several_long_complaints_are_counted_and_the_file_is_named_once() -> None:
    with pytest.raises(UserError) as caught:
        parse(Cart, {"name": [0] * 9, **{f"{n}{'a' * 300}": 1 for n in range(2)}}, "sweep.yaml")
    text = str(caught.value)
    assert text.startswith("sweep.yaml: name: ")
    assert text.count("sweep.yaml") == 1
    assert text.endswith("; and 1 more")
    assert len(text) < 450


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_yaml_and_back_is_the_same(tmp_path: Path) -> None:
    cart = Cart(name="off", front=Wheel(size=0.25), spare={"left": Wheel(spokes=3)})
    path = tmp_path / "cart.yaml"
    path.write_text(to_yaml(cart), encoding="utf-8")
    assert parse(Cart, read_yaml(path), "x") == cart
    assert list(read_yaml(path)) == ["name", "front", "spare"]


KEYS = st.text("abc", min_size=1, max_size=3)
NESTED = st.recursive(
    st.dictionaries(KEYS, st.integers() | st.text(), min_size=1),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), min_size=1),
    max_leaves=12,
)


@given(NESTED)
def test_unflatten_is_the_inverse_of_flatten(nested: dict[str, Any]) -> None:
    flat = flatten(nested)
    assert unflatten(flat) == nested
    assert not any(isinstance(value, dict) for value in flat.values())


@pytest.mark.parametrize("flat", [{"a": 1, "a.b": 2}, {"a.b": 1, "a.b.c": 2}])
def test_a_value_is_no_section(flat: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="is a value, not a section"):
        unflatten(flat)


@given(NESTED, NESTED)
def test_merging_lays_one_upon_the_other_and_changes_neither(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = flatten(base), flatten(over)
    merged = merge(base, over)
    assert (flatten(base), flatten(over)) == before
    assert flatten(over).items() <= flatten(merged).items()
    assert merge(merged, over) == merged
    for key in base.keys() - over.keys():
        assert merged[key] == base[key]


def test_values_are_replaced_by_dotted_key_and_checked() -> None:
    cart = Cart(name="a", front=Wheel(spokes=3))
    assert with_values(cart, {"front.size": 2.0}) == Cart(name="a", front=Wheel(size=2.0, spokes=3))
    assert cart.front.size == 1.0
    with pytest.raises(UserError, match=r"values: front\.size"):
        with_values(cart, {"front.size": -2.0})


def test_a_digest_stays_what_it_was() -> None:
    assert digest(Wheel(size=0.5), "part", 3) == GOLDEN
    assert digest(Wheel(size=0.5, spokes=9), "part", 3) != GOLDEN
    assert digest(Wheel(size=0.25), "part", 3) != GOLDEN
    assert digest({"size": 0.5}, "part", 3) == GOLDEN, "a section counts by its values, an unmarked default does not"
    assert digest(Cart(name="a")) == digest({"name": "a", "front": {"size": 1.0}, "spare": {}})


GOLDEN = "a5b335bd15c1cfb1"
"""Of `[{"size":0.5},"part",3]`, as `printf '%s' … | sha256sum` gives it: its first 16 digits."""
