"""A template that writes the date writes that of the run, on every day and in every program."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import pytest
from helpers.template_days import DATED, set_day
from helpers.tiny_recipe import recipe_maker
from helpers.tiny_run import make_run
from transformers import AutoTokenizer

from qdsft.errors import UserError
from qdsft.hashing import text_sha256
from qdsft.inference.loaded_run import load_prompts
from qdsft.model.template import has_fixed_date, with_fixed_date, writes_date
from qdsft.runs.manifest import read_manifest, write_manifest
from qdsft.training.resume import template_day
from qdsft.training.run_setup import prepare_run
from qdsft.training.train import train

MONDAY, TUESDAY = date(2026, 3, 2), date(2027, 12, 14)
TEXTS = {
    "as Llama 3.2": "{% if strftime_now is defined %}{% set d = strftime_now('%d %b %Y') %}{% endif %}Today: {{ d }}",
    "as gpt-oss": '{{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n" }}',
    "as SmolLM3": "{% set today = strftime_now('%d %B %Y') %}{% set f = '%A' %}{{ today ~ strftime_now(f) }}",
    "in a macro": "{% macro head(day) %}{{ strftime_now(day) }}{% endmacro %}{{ head('%-d. %-m. %y %H:%M') }}",
    "every code": "{{ strftime_now('%a %A %b %B %d %D %e %F %G %H %I %j %m %M %p %S %T %u %U %V %w %W %y %Y %h %C') }}",
    "blanks at the start": "\n  {% if true %}\n  x{{ strftime_now('%Y%%') }}\n  {% endif %}\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_fixed_date_is_written_as_the_templates_own_function_writes_it(
    text: str, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model("llama"))
    messages = [{"role": "user", "content": "q"}]

    def render(template: str) -> str:
        return str(tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False))

    set_day(monkeypatch, MONDAY)
    wanted = render(text)
    fixed = with_fixed_date(text, MONDAY)
    assert writes_date(text) and has_fixed_date(fixed) and not writes_date(fixed)
    assert render(fixed) == wanted
    set_day(monkeypatch, TUESDAY)
    assert render(text) != wanted, "the test must see the other day"
    assert render(fixed) == wanted and with_fixed_date(fixed, TUESDAY) == fixed


def test_a_template_without_a_date_is_unchanged() -> None:
    text = "\n{% for m in messages %}{{ m.content }}{% endfor %}"
    assert with_fixed_date(text, MONDAY) == text and not writes_date(text) and not has_fixed_date(text)


@pytest.fixture(params=["recipe", "tokenizer"])
def overrides(request: Any, tmp_path: Path, tiny_model: Callable[[str], Path]) -> list[str]:
    """What gives a recipe a template with a date: a file, or the template of its tokenizer."""
    if request.param == "recipe":
        (tmp_path / "dated.jinja").write_text(DATED, encoding="utf-8")
        return [f"model.chat_template={tmp_path / 'dated.jinja'}"]
    own = tmp_path / "base"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model("llama"))
    tokenizer.chat_template = DATED
    for path in tiny_model("llama").iterdir():
        own.mkdir(exist_ok=True)
        (own / path.name).write_bytes(path.read_bytes())
    tokenizer.save_pretrained(own)
    return ["model.chat_template=null", f"model.name_or_path={own}"]


def test_a_run_of_one_day_answers_on_another(
    overrides: list[str], tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_day(monkeypatch, MONDAY)
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), "tiny/full", *overrides)
    set_day(monkeypatch, TUESDAY)
    prompts = load_prompts(run_dir)
    golden = prompts.manifest.golden_prompts[0]
    assert prompts.encode([golden.messages]) == [golden.ids]
    assert "Today: 02 Mar 2026" in prompts.tokenizer.decode(golden.ids)
    theirs: Any = AutoTokenizer.from_pretrained(run_dir / "model")
    assert "02 Mar 2026" in theirs.apply_chat_template(golden.messages, tokenize=False), "as pushed and served"


def test_a_run_from_before_the_date_was_fixed_says_so(
    tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    (run_dir / "model/chat_template.jinja").write_text(DATED, encoding="utf-8")
    write_manifest(run_dir, read_manifest(run_dir).model_copy(update={"template_sha256": text_sha256(DATED)}))
    with pytest.raises(UserError, match=r"run/model: the chat template writes today's date, .* train again"):
        load_prompts(run_dir)


def test_a_run_keeps_its_date_when_it_resumes(
    overrides: list[str], tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_maker(tmp_path, tiny_model)(*overrides, name="tiny/full", architecture="llama")
    set_day(monkeypatch, MONDAY)
    run_dir = train(recipe)
    assert read_manifest(run_dir).template_date == MONDAY
    set_day(monkeypatch, TUESDAY)
    assert train(recipe, resume=True) == run_dir
    assert template_day(run_dir, resume=False) == TUESDAY
    inputs = prepare_run(recipe)
    assert inputs.template_date == TUESDAY and "14 Dec 2027" in inputs.tokenizer.decode(
        inputs.prepared.facts.golden_prompts[0].ids
    )


def test_a_run_without_a_date_records_none(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    recipe = recipe_maker(tmp_path, tiny_model)(name="tiny/full", architecture="llama")
    assert prepare_run(recipe).template_date is None
    assert template_day(tmp_path / "none", resume=True) == datetime.combine(date.today(), time()).date()


def test_an_error_names_the_line_in_the_file_of_a_dated_template(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    path = tmp_path / "dated.jinja"
    path.write_text("{{ strftime_now('%d') }}\n{{ bos_token }}\n{% if %}\n", encoding="utf-8")
    make = recipe_maker(tmp_path, tiny_model)
    recipe = make(f"model.chat_template={path}", name="tiny/full", architecture="llama")
    with pytest.raises(UserError, match=r"the chat template \(.*dated\.jinja\) is not valid Jinja in its line 3: "):
        prepare_run(recipe)
