"""Every combination of the values that overrides list."""

from __future__ import annotations

import pytest

from qdsft.errors import UserError
from sweeps.grid import LONGEST_NAME, parse_grid, run_name, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-4,2e-4", ("1e-4", "2e-4")),
        ("8", ("8",)),
        ("", ("",)),
        ("[q_proj,v_proj],[q_proj]", ("[q_proj,v_proj]", "[q_proj]")),
        ("[q_proj, v_proj]", ("[q_proj, v_proj]",)),
        ("{a: [1,2], b: 3},null", ("{a: [1,2], b: 3}", "null")),
        ('"a, b",c', ('"a, b"', "c")),
        ("['a]', \"b,c\"],d", ("['a]', \"b,c\"]", "d")),
        ("don't, won't", ("don't", "won't")),
        ("{{ text }},Sum up: {{ text }}", ("{{ text }}", "Sum up: {{ text }}")),
    ],
)
def test_commas_separate_outside_of_brackets_and_quotes(text: str, values: tuple[str, ...]) -> None:
    assert split_values("a.b", text) == values


def test_every_combination_with_what_is_fixed_apart() -> None:
    grid = parse_grid(["a.x=1,2", "training.max_steps=2", "lora.t=[q,v],[q]", "b.note=x=1"])
    assert grid.fixed == ("training.max_steps=2", "b.note=x=1")
    assert grid.points() == [
        {"a.x": "1", "lora.t": "[q,v]"},
        {"a.x": "1", "lora.t": "[q]"},
        {"a.x": "2", "lora.t": "[q,v]"},
        {"a.x": "2", "lora.t": "[q]"},
    ]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "nothing varies; give a key at least two values, such as training.learning_rate=1e-4,2e-4"),
        (["lora.r=8"], "nothing varies"),
        (["lora.r"], "'lora.r' is not an override; write section.key=value,value"),
        (["=1,2"], "'=1,2' is not an override"),
        (["lora.r=8,16", "lora.r=32"], "lora.r is given twice; list its values after one ="),
        (["lora.r=8,"], "lora.r=8,: a value is empty; remove the comma"),
        (["lora.r=8,8"], "lora.r=8,8: a value is given twice; remove one"),
        (["lora.t=[q,v"], "lora.t=[q,v: a bracket does not match; close it"),
        (["lora.t=q],[v"], "a bracket does not match"),
        (['prompt.system="a,b'], "a quotation mark does not match"),
        (["training.output_dir=a,b"], "training.output_dir: the sweep chooses a folder for each run"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_grid(overrides)
    assert said in str(caught.value)


def test_a_folder_is_named_by_its_values_and_no_two_agree() -> None:
    assert run_name({"training.learning_rate": "1e-4", "lora.r": "8"}) == "training.learning_rate=1e-4_lora.r=8"
    odd = [run_name({"prompt.system": text}) for text in ("a/b", "a:b", "a b", "../..", "x" * 500, "x" * 501, "요약")]
    assert len(set(odd)) == len(odd)
    assert all(len(name) <= LONGEST_NAME and not set(name) & set('/\\:*?"<>| ') for name in odd)
