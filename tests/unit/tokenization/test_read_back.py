"""A template or tokenizer that changes the answer is refused while rows are prepared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.preparation import prepare_recipe, tiny_recipe

from qdsft.errors import UserError
from qdsft.recipe import Recipe
from qdsft.tokenization.prepared import describe_data

TinyModel = Callable[[str], Path]
ROW = {"question": "Did A outlive B?", "sub_questions": ["When did A die?", "When did B die?", "Is #1 after #2?"]}
ANSWER = "{{ message['content'] }}"
THINKING = "<think>\n\n</think>\n\n"


def template(answer: str) -> str:
    """ChatML with `answer` in the assistant's turn."""
    return (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['role'] == 'assistant' %}" + answer + "{% else %}{{ message['content'] }}{% endif %}"
        "<|im_end|>{% if not loop.last or message['role'] != 'assistant' %}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


@pytest.fixture
def recipe_with(tmp_path: Path, tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    monkeypatch.setenv("QDSFT_CACHE", str(tmp_path / "cache"))

    def make(answer: str, *rows: dict[str, Any], overrides: tuple[str, ...] = ()) -> Recipe:
        (tmp_path / "t.jinja").write_text(template(answer), encoding="utf-8")
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows or (ROW,))
        (tmp_path / "t.jsonl").write_text(text, encoding="utf-8")
        data = [f"model.chat_template={tmp_path / 't.jinja'}", f"data.train={tmp_path / 't.jsonl'}", "data.eval=null"]
        return tiny_recipe("recipes/qwen3_4b/qlora_8gb.yaml", tiny_model, *data, "data.eval_fraction=0", *overrides)

    return make


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER,
        "{{ message['content'] | trim }}",
        "\n" + ANSWER + "\n",
        "{% if false %}" + THINKING + "{% endif %}" + ANSWER,
    ],
)
def test_a_template_that_writes_the_answer_alone_is_accepted(recipe_with: Callable[..., Recipe], answer: str) -> None:
    assert prepare_recipe(recipe_with(answer)).facts.data.train_rows == 1


@pytest.mark.parametrize(
    "answer",
    [
        THINKING + ANSWER,
        "Answer:\n" + ANSWER,
        ANSWER + "\nDone.",
        "{{ message['content'] | replace('\\n', ' ') }}",
        "{{ message['content'].split('\\n')[0] }}",
        "{{ message['content'] | replace('1.', '-') }}",
        "{{ message['content'] | upper }}",
        "{{ message['content'] | replace('?', '？') }}",
        "{% if 'after' in message['content'] %}" + THINKING + "{% endif %}" + ANSWER,
    ],
)
def test_a_template_that_changes_the_answer_is_refused(recipe_with: Callable[..., Recipe], answer: str) -> None:
    plain = {"question": "Who, A?", "sub_questions": ["Who is A?", "Where was #1?"]}
    rows = [plain, ROW] if "after" in answer else [ROW]
    with pytest.raises(UserError) as caught:
        prepare_recipe(recipe_with(answer, *rows))
    message = str(caught.value)
    assert f"t.jsonl:{len(rows)}: the answer is trained as " in message
    assert "t.jinja) changes the answer or writes more" in message and "set model.chat_template" in message


def test_free_text_is_compared_as_a_whole(recipe_with: Callable[..., Recipe]) -> None:
    overrides = ("prompt.user={{ question }}", "prompt.completion={{ sub_questions | join(' / ') }}")
    prepare_recipe(recipe_with(ANSWER, overrides=overrides))
    with pytest.raises(UserError, match="does not read back"):
        prepare_recipe(recipe_with(THINKING + ANSWER, overrides=overrides))


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85"])
def test_a_step_with_another_line_break_is_one_step(recipe_with: Callable[..., Recipe], character: str) -> None:
    row = {"question": "Who, A or B?", "sub_questions": [f"Who{character}is A?", "Where was #1?"]}
    assert prepare_recipe(recipe_with(ANSWER, row)).facts.data.train_rows == 1


def test_the_findings_of_data_check_are_described(recipe_with: Callable[..., Recipe]) -> None:
    recipe = recipe_with(ANSWER, ROW, ROW, {**ROW, "question": "Q?", "sub_questions": ["One step?"]})
    for _ in range(2):  # prepared, and from the cache
        lines = list(describe_data(prepare_recipe(recipe), recipe))
        assert lines[0].startswith(
            "data check: 2 warnings (1 question repeated, 1 one step only); list them with: qdsft"
        )
        assert lines[2].startswith("evaluation: no row is held out (3 rows, data.eval_fraction 0), so there is nothing")


def test_an_unusable_row_is_refused_after_the_findings(
    recipe_with: Callable[..., Recipe], capsys: pytest.CaptureFixture[str]
) -> None:
    numbered = {**ROW, "sub_questions": [f"{n}. {step}" for n, step in enumerate(ROW["sub_questions"], start=1)]}
    with pytest.raises(UserError, match=r"t\.jsonl:1: sub_questions: the steps begin with their own numbers"):
        prepare_recipe(recipe_with(ANSWER, numbered, numbered, ROW))
    assert "data check: 2 errors (2 numbered steps)" in capsys.readouterr().err
