"""YAML as recipes read it: numbers are numbers, nothing is guessed or dropped, every refusal names its line."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.refusals import refusal

from qdsft.errors import UserError
from qdsft.recipe.load import build_recipe
from qdsft.recipe.strict_yaml import CORRECT, load


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-4", 0.0002),
        ("1e-4", 0.0001),
        ("-1.5E+3", -1500.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("0", 0),
        ("-7", -7),
        ("+5", 5),
        ("1_000", 1000),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("0x10", "0x10"),
        ("0o17", "0o17"),
        ("12:30:45", "12:30:45"),
        ("2024-01-31", "2024-01-31"),
        ("1__0", "1__0"),
        ("1.2.3", "1.2.3"),
        ("'2e-4'", "2e-4"),
        ('"true"', "true"),
        ("'null'", "null"),
        ("[1, 2e-4, yes, '3']", [1, 0.0002, "yes", "3"]),
        ("{a: 1, b: [x, {c: null}]}", {"a": 1, "b": ["x", {"c": None}]}),
        ("9" * 99, int("9" * 99)),
        ("9" * 5000, "9" * 5000),
        ("질문을 나누세요", "질문을 나누세요"),
    ],
)
def test_a_value_is_what_it_looks_like(text: str, value: Any) -> None:
    found = load(text, "command line")[0]
    assert found == value
    assert type(found) is type(value)
    assert load(f"key: {text}", "r.yaml")[0] == {"key": value}


def test_block_text_is_text_whatever_it_holds() -> None:
    assert load("a: |\n  12\nb: >-\n  true\n", "r.yaml")[0] == {"a": "12\n", "b": "true"}


def test_every_key_has_its_line() -> None:
    text = "# a comment\nmodel:\n  name_or_path: x\n\ntraining:\n  warmup_steps: 3\n  kwargs: {a: 1,\n    b: 2}\n"
    assert load(text, "r.yaml")[1] == {
        ("model",): 2,
        ("model", "name_or_path"): 3,
        ("training",): 5,
        ("training", "warmup_steps"): 6,
        ("training", "kwargs"): 7,
        ("training", "kwargs", "a"): 7,
        ("training", "kwargs", "b"): 8,
    }


def test_positions_in_a_list_are_not_part_of_a_path() -> None:
    assert load("a:\n- b: 1\n- b: 2\n  c: 3\n", "r.yaml") == ({"a": [{"b": 1}, {"b": 2, "c": 3}]}, {("a",): 1})


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment\n", "---\n", "\ufeff"])
def test_nothing_is_none(text: str) -> None:
    assert load(text, "r.yaml") == (None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 1\n", "r.yaml:3: a is given twice (first on line 1)"),
        ("a:\n  b: 1\n  c: 2\n\n  b: 1\n", "r.yaml:5: a.b is given twice (first on line 2)"),
        ("a:\n  b:\n    c: 1\n    c: 1\n", "r.yaml:4: a.b.c is given twice (first on line 3)"),
        ("a:\n- b: 1\n  b: 2\n", "r.yaml:3: a.b is given twice (first on line 2)"),
        ("a: 1\n'a': 2\n", "r.yaml:2: a is given twice (first on line 1)"),
        ("a: {b: 1, b: 2}", "r.yaml:1: a.b is given twice (first on line 1)"),
        ("a: &x 1\nb: *x\n", "r.yaml:2: not valid YAML: aliases (*name) are not supported; write the value out"),
        ("a:\n  <<: *x\n", "r.yaml:2: not valid YAML: aliases (*name) are not supported; write the value out"),
        ("a: !!str 12", "r.yaml:1: not valid YAML: the tag !!str has no meaning in a recipe; remove it"),
        ("a: ! 12", "r.yaml:1: not valid YAML: the tag ! has no meaning in a recipe; remove it"),
        ("!!int 1: x", "r.yaml:1: not valid YAML: the tag !!int has no meaning in a recipe; remove it"),
        ("a:\n- !mine x", "r.yaml:2: not valid YAML: the tag !mine has no meaning in a recipe; remove it"),
        ("a: !!set {b}", "r.yaml:1: not valid YAML: the tag !!set has no meaning in a recipe; remove it"),
        (
            "a: !!python/object/apply:os.system [id]",
            "r.yaml:1: not valid YAML: the tag !!python/object/apply:os.system has no meaning in a recipe; remove it",
        ),
        ("a:\n  b: .inf", "r.yaml:2: .inf is not a finite number"),
        ("a: -.INF", "r.yaml:1: -.INF is not a finite number"),
        ("a: [1, .NaN]", "r.yaml:1: .NaN is not a finite number"),
        ("a: 1e999", "r.yaml:1: 1e999 is not a finite number"),
        ("? [x]\n: 1", "r.yaml:1: a key must be plain text"),
        ("a: 1\n? {x: 1}\n: 1", "r.yaml:2: a key must be plain text"),
        ("a: {{ question }}", "r.yaml:1: a key must be plain text"),
        ("a: b: c", "r.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: 1\nb:\n\t- c", "r.yaml:3: not valid YAML: found character '\\t' that cannot start any token"),
        ("a: [1,\n2", "r.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 'x", "r.yaml:1: not valid YAML: found unexpected end of stream"),
        ("a: @x", "r.yaml:1: not valid YAML: found character '@' that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: not valid YAML: found another document"),
        ("a: 1\nb: \0", "r.yaml:2: not valid YAML: the character U+0000 is not allowed; remove it"),
        ("a: \ud800", "r.yaml:1: not valid YAML: the character U+D800 is not allowed; remove it"),
        ('a: 1\nb: "\\ud800"', "r.yaml:2: not valid YAML: the character U+D800 is not allowed in text; remove it"),
        ('"\\udfff": 1', "r.yaml:1: not valid YAML: the character U+DFFF is not allowed in text; remove it"),
        ('a: "x\\0y"', "r.yaml:1: not valid YAML: the character U+0000 is not allowed in text; remove it"),
        ('a: 1\nb: "\\U00110000"', "r.yaml:2: not valid YAML: chr() arg not in range(0x110000)"),
        ('a: "\\UFFFFFFFF"', "r.yaml:1: not valid YAML: Python int too large to convert to C int"),
        ("a: " + "[" * 10_000, "r.yaml: nested too deeply to be a recipe"),
        ("{a: " * 10_000, "r.yaml: nested too deeply to be a recipe"),
    ],
)
def test_refused_yaml_and_its_line(text: str, message: str) -> None:
    said = refusal(lambda: load(text, "r.yaml"))
    assert said.removesuffix(CORRECT).removesuffix("; give a recipe") == message
    assert ";" in said or "not valid YAML" not in said


def test_a_huge_directive_is_a_user_error() -> None:
    assert refusal(lambda: load("%YAML 1." + "1" * 5000 + "\n---\na: 1", "r.yaml")).startswith("r.yaml:1: not valid")


def test_a_value_of_the_command_line_names_its_key() -> None:
    message = refusal(lambda: load(".nan", "command line: training.learning_rate"))
    assert message == "command line: training.learning_rate:1: .nan is not a finite number"


PIECES = [
    *"{}[]:,-?!&*#|>'\"%@`\\ \t\n\r019.e+_~<=",
    *("null", "true", "yes", "2e-4", "1e999", ".inf", "9" * 5000, "\ufeff", "\0", "\x85", "\u2028", "한국어", "😀"),
    *("\\ud800", "\\U00110000", "\\x00", "!!str ", "<<: ", "---\n", "...\n", "\n\n", "- ", "? ", ": ", "lora:\n"),
    *("%YAML 1.1\n", "training.", "  ", "[" * 1500),
]


def mutate(chance: random.Random, text: str) -> str:
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = start + chance.randint(0, 12)
        piece = chance.choice([*PIECES, "", "", text[start:end] * 2])
        text = text[:start] + piece + text[chance.choice([start, end]) :]
    return text


def test_mutations_of_a_real_recipe_load_or_are_refused() -> None:
    source = (ROOT / "recipes" / "llama2" / "qlora.yaml").read_text(encoding="utf-8")
    chance = random.Random(20240131)
    loaded = refused = 0
    for _ in range(200):
        text = mutate(chance, source)
        try:
            data, lines = load(text, "r.yaml")
            if isinstance(data, dict):
                build_recipe(Path("r.yaml"), data, {".".join(key): f"r.yaml:{line}" for key, line in lines.items()})
            loaded += 1
        except UserError as error:
            assert "\n" not in str(error) and "r.yaml" in str(error)
            refused += 1
        except Exception as error:
            raise AssertionError(f"{error!r} for {text!r}") from error
    assert loaded >= 10 and refused >= 50  # the mutations reach both outcomes
