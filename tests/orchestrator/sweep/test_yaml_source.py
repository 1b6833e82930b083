"""YAML read as in 1.2, with lines."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sweep.yaml_source import Source, YAMLError, parse

finite = st.floats(allow_nan=False, allow_infinity=False)


def value(scalar):
    return parse("x.yaml", f"key: {scalar}\n")[0]["key"]


@given(number=finite, notation=st.sampled_from([repr, "{:e}".format, "{:.17g}".format, "{:+.16E}".format]))
def test_a_finite_float_is_read_back_from_any_notation(number, notation):
    text = notation(number)
    assert value(text) == float(text)
    assert isinstance(value(text), (int, float))


@given(st.integers(-(10**30), 10**30))
def test_a_whole_number_is_read_back_exactly(number):
    assert (value(number), type(value(number))) == (number, int)


@pytest.mark.parametrize(
    ("scalar", "meaning"),
    [
        ("1e12", 1e12),
        ("3.0e12", 3e12),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("5.", 5.0),
        ("+7", 7),
        ("010", 10),  # YAML 1.1: 8
        ("0o10", 8),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(scalar, meaning):
    assert value(scalar) == meaning
    assert type(value(scalar)) is type(meaning)


@pytest.mark.parametrize(
    "word", ["no", "yes", "on", "off", "12:30", "1_000", "2026-11-24", "0b11", "1e", "e5", "nan"]
)
def test_what_yaml_1_1_made_of_these_words_is_forgotten(word):
    assert value(word) == word


@pytest.mark.parametrize("quoted", ["'1e3'", '"1e3"', "|-\n  1e3"])
def test_a_quoted_number_is_a_word(quoted):
    assert value(quoted) == "1e3"


def test_not_a_number_is_read_as_such():
    assert math.isnan(value(".nan"))


def test_every_value_knows_its_line():
    _, source = parse("x.yaml", "a: 1\nb:\n  c: [1,\n      2]\n")
    assert [source.line(where) for where in [("a",), ("b",), ("b", "c"), ("b", "c", 1)]] == [1, 2, 3, 4]


def test_a_place_that_is_not_in_the_file_has_the_line_around_it():
    _, source = parse("x.yaml", "a: 1\nb:\n  c: 2\n")
    assert source.line(("b", "missing", 3)) == 2
    assert Source().line(("b",)) == 1


def test_every_repeated_key_and_tag_is_told_at_once():
    with pytest.raises(YAMLError) as caught:
        parse("x.yaml", "a: 1\na: 2\nb: !mine 3\nc: {d: 1, d: 2}\n")
    assert [line for line, _ in caught.value.complaints] == [2, 3, 4]


def test_an_anchor_may_be_used_where_it_is_short():
    assert parse("x.yaml", "a: &w [1, 2]\nb: *w\n")[0] == {"a": [1, 2], "b": [1, 2]}
