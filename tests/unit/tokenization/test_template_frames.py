"""A template is filled without rendering it only where that gives its own text."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import _compile_jinja_template

from qdsft.data.prompt import Message
from qdsft.tokenization.chat_template import render_texts
from qdsft.tokenization.template_frames import copies_contents, fill, fits, parts, stand_ins

SHIPPED = sorted((ROOT / "recipes").glob("*/chat_template.jinja"))


def loop(body: str) -> str:
    """A template that does this with every message `m`."""
    return f"{{% for m in messages %}}{body}{{% endfor %}}"


COPYING = {
    "plain": loop("{{ m.role ~ ': ' ~ m.content }}\n"),
    "stripped": loop("{{ m['content'].strip() + eos_token }}"),
    "trimmed, by a name": loop(
        "{% set c = m.content | trim %}{% if loop.first %}{% set c = 'S' + c %}{% endif %}{{ c }}"
    ),
    "by position": "{{ messages[0]['content'] }}-{{ messages[-1].content }}{% if messages | length > 2 %}!{% endif %}",
    "a slice": "{% set rest = messages[1:] if messages[0].role == 'system' else messages %}"
    "{% for m in rest if true %}{% endfor %}"
    * 0
    + "{% if messages and messages[0].role == 'system' %}{% set rest = messages[1:] %}{% set s = messages[0].content %}"
    "{% else %}{% set rest = messages %}{% set s = '' %}{% endif %}"
    "{% for m in rest %}{{ (s + '\n' if loop.first and s else '') + m.content }}{{ loop.index0 }}{% endfor %}",
    "a question that all answer alike": loop("{% if m.content is string and not tools %}{{ m.content }}{% endif %};"),
}
READING = {
    "what is in it": loop("{{ 'x' if '3' in m.content else m.content }}"),
    "compared": loop("{% if m.content == '3' %}three{% else %}{{ m.content }}{% endif %}"),
    "changed": loop("{{ m.content | upper }}"),
    "replaced": loop("{{ m.content.replace('3', 'three') }}"),
    "cut": loop("{{ m.content[:2] }}"),
    "split": loop("{{ m.content.split('3')[-1] }}"),
    "stripped of more": loop("{{ m.content.strip('3') }}"),
    "trimmed of more": loop("{{ m.content | trim('3') }}"),
    "counted": loop("{{ m.content | length }}"),
    "as JSON": "{{ messages | tojson }}",
    "a whole message": loop("{{ m }}"),
    "its values": loop("{{ m.values() | list }}"),
    "by a name": loop("{% set c = m.content %}{% set d = c %}{{ d | length }}"),
    "by a name, later": "{% set c = '' %}" + loop("{{ c | length }}{% set c = m.content %}{{ c | length }}"),
    "by a namespace": "{% set ns = namespace(c='') %}" + loop("{% set ns.c = m.content %}{{ ns.c | length }}"),
    "by a macro": "{% macro f(c) %}{{ c | length }}{% endmacro %}" + loop("{{ f(m.content) }}"),
    "by a block": loop("{% set c %}{{ m.content }}{% endset %}{{ c | length }}"),
    "by a filter block": loop("{% filter upper %}{{ m.content }}{% endfilter %}"),
    "the next message": loop("{{ loop.nextitem.content | length if loop.nextitem is defined else '' }}"),
    "chosen": "{% for m in messages if '3' in m.content %}{{ m.content }}{% endfor %}",
    "sorted": "{% for m in messages | sort(attribute='content') %}{{ m.content }}{% endfor %}",
    "inside of a test": loop("{{ 'x' if (m.content | length) > 9 else 'y' }}"),
    "inside of an answer": loop("{{ [m.content] | first | upper }}"),
    "letters": loop("{% for letter in m.content %}{{ letter }}.{% endfor %}"),
}


def conversations(count: int, seed: int = 0) -> list[list[Message]]:
    chance = random.Random(seed)

    def content() -> str:
        return "".join(chance.choices([*"abc123", " ", "\n", "가", "{{ 3 }}", "{%"], k=chance.randrange(1, 20)))

    shapes = [("system", "user", "assistant"), ("user", "assistant"), ("user",), ("system", "user")]
    return [[{"role": role, "content": content()} for role in shapes[n % 4]] for n in range(count)]


def is_copying(source: str) -> bool:
    return copies_contents(_compile_jinja_template(source).environment, source)


@pytest.fixture
def tokenizer(tiny_model: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny_model("llama"))


def rendered(tokenizer: Any, rows: list[list[Message]], *, prompt: bool) -> list[str]:
    return [tokenizer.apply_chat_template(row, tokenize=False, add_generation_prompt=prompt) for row in rows]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_templates_are_filled_with_what_they_render(path: Path, tokenizer: Any) -> None:
    tokenizer.chat_template = path.read_text(encoding="utf-8")
    assert is_copying(tokenizer.chat_template)
    rows = conversations(400)
    for prompt in (False, True):
        shown = [row for row in rows if prompt == (row[-1]["role"] == "user")]
        assert render_texts(tokenizer, shown, add_generation_prompt=prompt) == rendered(tokenizer, shown, prompt=prompt)


@pytest.mark.parametrize("source", COPYING.values(), ids=COPYING)
def test_other_templates_that_copy(source: str, tokenizer: Any) -> None:
    assert is_copying(source)
    tokenizer.chat_template = source
    rows = conversations(400, seed=1)
    assert render_texts(tokenizer, rows, add_generation_prompt=False) == rendered(tokenizer, rows, prompt=False)


@pytest.mark.parametrize("source", READING.values(), ids=READING)
def test_templates_that_look_into_contents_are_rendered(source: str, tokenizer: Any) -> None:
    assert not is_copying(source)
    tokenizer.chat_template = source
    rows = conversations(40, seed=2)
    assert render_texts(tokenizer, rows, add_generation_prompt=False) == rendered(tokenizer, rows, prompt=False)


def test_parts_are_there_once_and_in_order() -> None:
    first, second = stand_ins(2)
    assert parts(f"a{first}b{second}c", 2) == ["a", "b", "c"]
    assert fill(["a", "b", "c"], ["1", "2"]) == "a1b2c"
    for text in (f"a{second}b{first}c", f"a{first}b", f"a{second}b", f"{first}{second}{first}", "a"):
        assert parts(text, 2) is None


def test_blanks_at_an_end_are_for_the_template() -> None:
    assert fits(["a b", "가"])
    assert not any(fits([text]) for text in ("", " ", " a", "a\n", "\u3000a", "a\x1f"))
