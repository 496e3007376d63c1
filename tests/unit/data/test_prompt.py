"""The wording of prompts: the default to the letter, any columns, and templates that go wrong."""

from __future__ import annotations

import time
from typing import Any

import pytest
from helpers.refusals import refusal

from qdsft.data import prompt
from qdsft.data.prompt import _ENVIRONMENT, _compile
from qdsft.data.record import Record, RowError
from qdsft.data.task import DecompositionTask, FreeTextTask, task_of
from qdsft.errors import UserError, reason
from qdsft.recipe.sections import Prompt

ROW = {"question": "Did A outlive B?", "sub_questions": ["When did A die?", "When did B die?", "Is #1 after #2?"]}


def record(**row: Any) -> Record:
    return Record(row or ROW, "d.jsonl:7")


def user_text(template: str, **row: Any) -> str:
    return task_of(Prompt(user=template)).messages(record(**row))[-1]["content"]


def test_the_default_wording_to_the_letter() -> None:
    task = task_of(Prompt())
    assert isinstance(task, DecompositionTask)
    assert task.columns == ["question"]
    assert task.messages(record()) == [
        {
            "role": "system",
            "content": "Split the question into simpler sub-questions, numbered, one per line. "
            "Write #1, #2, ... for the answer of an earlier sub-question.",
        },
        {"role": "user", "content": "Did A outlive B?"},
    ]
    assert task.completion(record()) == "1. When did A die?\n2. When did B die?\n3. Is #1 after #2?"


def test_korean() -> None:
    row = {
        "question": "세종대왕은 김치를 먹었나요?",
        "sub_questions": ["세종대왕은 언제 살았나요?", "#1은 언제인가요?"],
    }
    task = task_of(Prompt(system="질문을 나누세요.", user="질문: {{ question }}"))
    assert task.messages(record(**row)) == [
        {"role": "system", "content": "질문을 나누세요."},
        {"role": "user", "content": "질문: 세종대왕은 김치를 먹었나요?"},
    ]
    assert task.completion(record(**row)) == "1. 세종대왕은 언제 살았나요?\n2. #1은 언제인가요?"


@pytest.mark.parametrize("system", ["", "  \n", "{% if false %}x{% endif %}"])
def test_an_empty_system_message_is_left_out(system: str) -> None:
    assert task_of(Prompt(system=system)).messages(record()) == [{"role": "user", "content": "Did A outlive B?"}]


def test_any_columns_make_another_task() -> None:
    task = task_of(Prompt(user="Sum up ({{ language }}): {{ text }}", completion="{{ summary | upper }}"))
    assert isinstance(task, FreeTextTask)
    assert task.columns == ["language", "text"]  # what inference needs; the answer is no part of it
    row = record(text="long", language="en", summary="short", unused=1)
    assert task.messages(row) == [{"role": "user", "content": "Sum up (en): long"}]  # no system message
    assert task.completion(row) == "SHORT"


def test_columns_are_those_that_a_prompt_reads() -> None:
    prompt = Prompt(
        system="{% set style = 'short' %}{{ tone }}{{ style }}",
        user="{% for part in parts %}{{ loop.index }} {{ part.text }}{% endfor %}{{ range(3) }}{{ style }}",
    )
    # what one template sets, the other does not have
    assert task_of(prompt).columns == ["parts", "style", "tone"]
    assert task_of(Prompt(system="", user="fixed")).columns == []


def test_text_is_left_as_it_is() -> None:
    assert user_text("{{ question }}\n", question="<a> & 'b' {{ c }}\n") == "<a> & 'b' {{ c }}\n\n"


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            Prompt(user="{{ question"),
            "prompt.user: not valid Jinja: unexpected end of template, expected 'end of print statement'.",
        ),
        (Prompt(system="{% if x %}"), "prompt.system: not valid Jinja: Unexpected end of template."),
        (
            Prompt(user="x", completion="{% nope %}"),
            "prompt.completion: not valid Jinja: Encountered unknown tag 'nope'.",
        ),
        (Prompt(user="{{ question | nope }}"), "prompt.user: not valid Jinja: No filter named 'nope'."),
        (Prompt(user="{{ " + "(" * 5000 + "1"), "prompt.user: not valid Jinja: nested too deeply"),
    ],
)
def test_a_template_that_is_broken(prompt: Prompt, message: str) -> None:
    assert refusal(lambda: task_of(prompt)).startswith(message)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ text }}",
            "d.jsonl:7: prompt.user: 'text' is undefined; this row has the columns question, sub_questions",
        ),
        ("{{ question.text }}", "d.jsonl:7: prompt.user: 'str object' has no attribute 'text'; this row has the col"),
        ("{{ sub_questions[9] }}", "d.jsonl:7: prompt.user: list object has no element 9; this row has the columns qu"),
        ("", "d.jsonl:7: prompt.user comes out empty for this row"),
        (" {{ '' }}\n", "d.jsonl:7: prompt.user comes out empty for this row"),
        ("{{ 1 / 0 }}", "d.jsonl:7: prompt.user cannot be rendered for this row: division by zero"),
        (
            "{{ question + 1 }}",
            'd.jsonl:7: prompt.user cannot be rendered for this row: can only concatenate str (not "int',
        ),
        ("{{ '{a}'.format() }}", "d.jsonl:7: prompt.user cannot be rendered for this row: 'a'"),
        ("{{ '{}{}'.format(1) }}", "d.jsonl:7: prompt.user cannot be rendered for this row: "),
        ("{{ [].pop() }}", "d.jsonl:7: prompt.user cannot be rendered for this row: pop from empty list"),
        ("{{ cycler() }}", "d.jsonl:7: prompt.user cannot be rendered for this row: at least one item has to be"),
        ("{% include 'x' %}", "d.jsonl:7: prompt.user cannot be rendered for this row: no loader for this environm"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "d.jsonl:7: prompt.user cannot be rendered for this row: maximum recursion depth exceeded",
        ),
        ("{{ range(10 ** 9) }}", "d.jsonl:7: prompt.user cannot be rendered for this row: Range too big."),
    ],
)
def test_a_template_that_fails_on_a_row(template: str, message: str) -> None:
    assert refusal(lambda: user_text(template)).startswith(message)


def test_a_completion_that_fails_on_a_row() -> None:
    task = task_of(Prompt(user="x", completion="{{ answer }}"))
    assert refusal(lambda: task.completion(record(answer=" "))) == (
        "d.jsonl:7: prompt.completion comes out empty for this row; fill its columns"
    )
    assert refusal(lambda: task.completion(Record({}, "d.jsonl:7"))) == (
        "d.jsonl:7: prompt.completion: 'answer' is undefined; this row has the columns none"
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ question.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{{ '{0.__class__}'.format(question) }}",
        "{{ question | attr('__class__') }}",
    ],
)
def test_the_sandbox_keeps_templates_from_the_interpreter(template: str) -> None:
    try:
        shown = user_text(template)
    except UserError as error:
        shown = str(error)
        assert "unsafe" in shown or "undefined" in shown or "has no attribute" in shown
    assert "<class" not in shown and "builtins" not in shown


def test_a_template_cannot_change_the_row() -> None:
    row = {"question": "q", "sub_questions": ["a"]}
    task = task_of(Prompt(system="", user="{% set question = 'other' %}{{ question }}"))
    assert task.messages(Record(row, "d:1")) == [{"role": "user", "content": "other"}]
    assert row == {"question": "q", "sub_questions": ["a"]}


@pytest.mark.parametrize(
    "source", ["plain\r\ntext", "{{ x }}", "{{x}}", "{{ x }} ", "a {# b #} c", "{{ x|upper }}", "{{ range }}"]
)
@pytest.mark.parametrize("value", ["text", "", " {{ y }} ", 3, None, ["a"], {"b": 1}])
def test_the_shortcut_equals_jinja(source: str, value: Any) -> None:
    row = {"x": value, "range": value}
    expected = _ENVIRONMENT.from_string(source).render(row)
    assert _compile("user", source)(row) == expected


def test_a_column_that_is_missing_is_still_named() -> None:
    task = task_of(Prompt(user="{{ x }}", completion="c"))
    with pytest.raises(UserError, match=r"prompt\.user: 'x' is undefined; this row has the columns y"):
        task.messages(Record({"y": 1}, "t:1"))


GROWING = "{%% set s = namespace(x=1) %%}{%% for i in range(99) %%}{%% set s.x = %s %%}{%% endfor %%}{{ s.x }}"


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "took over 0.5 seconds"),
        (
            "{% for i in x %}{% for j in x %}{% for k in x %}{% endfor %}{% endfor %}{% endfor %}",
            "took over 0.5 seconds",
        ),
        ("{{ n ** (n ** n) }}", "** makes a number of over 100,000 bits"),
        ("{{ 9 ** (9 ** 9) }}", "** makes a number of over 100,000 bits"),
        (GROWING % "1 * s.x * s.x * 9", "* makes a number of over 100,000 bits"),
        (GROWING.replace("=1", "='a'") % "s.x + s.x", "+ makes over 10,000,000 characters"),
        (GROWING.replace("=1", "=[1]") % "s.x + s.x", "+ makes over 10,000,000 characters"),
        ("{{ 'ab' * 10 ** 9 }}", "* makes over 10,000,000 characters"),
        ("{{ n * ['a'] * 10 ** 9 }}", "* makes over 10,000,000 characters"),
        ("{{ 'a' | center(20000000) }}", "the text has over 10,000,000 characters"),
    ],
)
def test_the_time_and_size_of_a_text_are_bounded(template: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "RENDER_SECONDS", 0.5)
    start = time.monotonic()
    message = refusal(lambda: user_text(template, x=["a"] * 5000, n=9))
    wrong = "prompt.user " if part.startswith("took") else "prompt.user cannot be rendered for this row: "
    assert message.startswith(f"d.jsonl:7: {wrong}{part}")
    assert time.monotonic() - start < 10


def test_a_template_that_takes_too_long_ends_the_command_and_not_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "RENDER_SECONDS", 0.1)
    template = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}{{ y }}"
    with pytest.raises(UserError, match=r"took over 0\.1 seconds for this row; simplify the template") as caught:
        user_text(template, y="a")
    assert not isinstance(caught.value, RowError)


def test_messages_are_short_and_never_empty() -> None:
    names = {f"column {number} {'x' * 1000}": 1 for number in range(1000)}
    message = refusal(lambda: task_of(Prompt(user="{{ y }}")).messages(Record(names, "d:1")))
    assert "'y' is undefined; this row has the columns column 0 xxx" in message and len(message) < 400
    message = refusal(lambda: task_of(Prompt(user="{{ y }}{{ " + "z" * 5000)))
    assert len(message) < 300
    assert reason(MemoryError()) == "MemoryError" and reason(ValueError("\n\n")) == "ValueError"
    assert reason(ValueError("a\nb")) == "a" and len(reason(ValueError("a" * 999))) == 200
