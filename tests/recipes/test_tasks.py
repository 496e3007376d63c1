"""recipes/tasks: other tasks than decomposition, by their prompt section alone. They are trained in test_recipes.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.data.decomposition import Decomposition
from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe

TASKS = sorted(path.stem for path in (ROOT / "recipes" / "tasks").glob("*.yaml"))

RENDERED = [
    ("sentiment", "The box holds one cable and a manual.", "neutral"),
    ("translation", "Into English: 이 가방은 얼마예요?", "How much is this bag?"),
    (
        "named_entities",
        "한빛전자는 대전에 연구소를 세운다.",
        "organisation: 한빛전자\nplace: 대전",
    ),
    ("named_entities", "오늘은 바람이 많이 분다.", "none"),
    (
        "tool_routing",
        "[인물] 인물의 출생, 학력, 가족, 경력\n[웹검색] 그 밖의 모든 것을 찾는 검색 엔진\n"
        "[영화] 영화의 감독, 배우, 개봉일, 상영 시간\nQuestion: ‘항구의 불빛’ 주연 배우는 어느 대학을 나왔나요?",
        "1. [영화] ‘항구의 불빛’의 주연 배우는 누구인가요?\n2. [인물] #1은 어느 대학을 나왔나요?",
    ),
    (
        "dialogue",
        "customer: 와이파이가 자꾸 끊겨요.\nagent: 공유기 불빛이 무슨 색인가요?\ncustomer: 빨간색이에요.\nagent:",
        "회선이 끊긴 상태입니다. 전원을 껐다가 1분 뒤에 켜 주시고, 그래도 빨간색이면 기사님을 보내 드릴게요.",
    ),
]
ROW = {"turns": [{"speaker": "customer", "text": "주차할 수 있나요?"}]}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # recipes name their data from there


def recipe_of(task: str, *overrides: str) -> Recipe:
    return load_recipe(f"recipes/tasks/{task}.yaml", overrides)


def test_each_task_has_its_rows_and_each_file_its_task() -> None:
    assert {"summarisation", "translation", "sentiment", "named_entities", "dialogue", "tool_routing"} <= set(TASKS)
    assert sorted(path.stem for path in Path("data/examples/tasks").glob("*")) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_its_rows_are_english_and_korean_and_some_are_held_out(task: str) -> None:
    examples = list(stream_split(recipe_of(task)))
    assert 15 <= len(examples) <= 30 and "eval" in {side for side, _ in examples}
    assert len({example.question for _, example in examples}) == len(examples)
    korean = [example for _, example in examples if any("가" <= c <= "힣" for c in example.question)]
    assert len(korean) >= 6 and len(examples) - len(korean) >= 6
    for _, example in examples:
        assert example.completion == example.completion.strip() and "{" not in example.completion


@pytest.mark.parametrize(("task", "question", "completion"), RENDERED)
def test_a_row_is_rendered_as_this(task: str, question: str, completion: str) -> None:
    answers = {example.question: example.completion for _, example in stream_split(recipe_of(task))}
    assert answers[question] == completion


def test_each_sub_question_has_a_tool_of_its_row() -> None:
    for _, example in stream_split(recipe_of("tool_routing")):
        row = example.record.row
        assert {item["tool_name"] for item in row["items"]} <= {tool["name"] for tool in row["tools"]}
        steps = tuple(item["sub_question"] for item in row["items"])
        assert Decomposition(steps).is_valid and Decomposition.parse(example.completion).is_valid


def test_a_row_without_a_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "label": "neutral"}\n{"text": "b"}\n', encoding="utf-8")
    with pytest.raises(UserError) as caught:
        list(stream_split(recipe_of("sentiment", f"data.train={path}")))
    assert str(caught.value) == f"{path}:2: prompt.completion: 'label' is undefined; this row has the columns text"


@pytest.mark.slow
def test_such_a_run_is_scored_and_asked_and_refuses_what_is_for_decompositions(
    tiny_model: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qdsft.cli.main import main
    from qdsft.inference.decomposer import Decomposer

    run = tmp_path / "run"
    values = [f"model.name_or_path={tiny_model('qwen3')}", f"training.output_dir={run}", "training.max_steps=2"]
    values.append("evaluation.max_new_tokens=4")
    assert main(["train", "recipes/tasks/dialogue.yaml", *values]) == 0
    assert main(["evaluate", str(run)]) == 0
    tuned = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["tuned"]
    assert tuned.keys() >= {"exact_match", "chrf", "stopped", "loss"} and "sari" not in tuned
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == tuned["samples"] == 3 and all(row["question"].endswith("\nagent:") for row in rows)

    decomposer = Decomposer(run)
    messages = decomposer.run.task.messages(decomposer.run.task.typed_record(json.dumps(ROW)))
    assert messages[-1]["content"] == "customer: 주차할 수 있나요?\nagent:"
    assert decomposer.text(json.dumps(ROW)) == decomposer.run.answer([messages])[0].text
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    assert main(["decompose", str(run), "--input", str(source), "--output", str(tmp_path / "out.jsonl")]) == 0
    answer = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert answer.keys() == {"turns", "output", "stopped"} and answer["turns"] == ROW["turns"]

    capsys.readouterr()
    for command, said in [
        (["decompose", str(run), "주차할 수 있나요?"], "the question: prompt.user: 'str object' has no attribute"),
        (["decompose", str(run), json.dumps(ROW), "--format", "dag"], "--format dag writes decompositions"),
        (["decompose", str(run), json.dumps(ROW), "--constrained"], "--constrained is for decompositions"),
        (["evaluate", str(run), "--constrained"], "--constrained is for decompositions; leave it out"),
        (["evaluate", str(run), "--break-metrics"], "--break-metrics is for decompositions; leave it out"),
    ]:
        assert main(command) == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert said in line
