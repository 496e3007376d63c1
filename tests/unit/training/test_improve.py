"""What `qdsft improve` refuses before it samples, and the recipe that it trains again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import manifest_of
from helpers.split_run import make_split_run

from qdsft.data.split import stream_split
from qdsft.errors import UserError
from qdsft.inference.improved_rows import Files
from qdsft.recipe import load_recipe
from qdsft.runs.facts import DataFacts, DeviceFacts
from qdsft.training.improve import again, check_can_train, improve

ROW: dict[str, Any] = {"question": "Who is older?", "sub_questions": ["Who is A?", "How old is #1?"]}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"data": DataFacts(train_rows=2, eval_rows=0)}, "no rows were held out, so nothing can be compared"),
        ({"device": DeviceFacts(processes=4)}, "was trained by 4 processes; add --sample-only"),
    ],
)
def test_a_run_that_cannot_be_trained_again_is_refused_before_sampling(facts: dict[str, Any], message: str) -> None:
    manifest = manifest_of(load_recipe({"model": {"name_or_path": "m"}, "data": {"train": "t.jsonl"}}), **facts)
    with pytest.raises(UserError, match=message):
        check_can_train(Path("run"), manifest, sample_only=False)
    check_can_train(Path("run"), manifest, sample_only=True)


def test_a_launch_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    manifest = manifest_of(load_recipe({"model": {"name_or_path": "m"}, "data": {"train": "t.jsonl"}}))
    with pytest.raises(UserError, match="runs in one process"):
        check_can_train(Path("run"), manifest, sample_only=True)


def test_held_out_rows_without_evidence_are_refused_before_sampling(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    run_dir = make_split_run(tmp_path, tiny_model("llama"), [ROW], [{**ROW, "question": "Who?"}])
    (tmp_path / "corpus.jsonl").write_text('{"id": "0", "text": "x"}\n', encoding="utf-8")
    with pytest.raises(UserError, match="no row has evidence"):
        improve(run_dir, tmp_path / "out", corpus=tmp_path / "corpus.jsonl")
    with pytest.raises(UserError, match="no row is of the synthetic world"):
        improve(run_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "data",
    [
        {"train": "user/hub_data", "train_split": "a", "revision": "b", "eval": "user/other", "eval_split": "test"},
        {"train": "rows.jsonl", "eval_fraction": 0.3, "max_samples": 1, "overlength": "drop"},
        {"train": [{"path": "a.jsonl", "weight": 2.0}, {"path": "b.jsonl"}]},
    ],
    ids=["Hub", "file", "mix"],
)
def test_the_recipe_is_the_same_but_for_its_rows(data: dict[str, Any], tmp_path: Path) -> None:
    training = {"learning_rate": 0.001, "max_length": 512, "output_dir": "before"}
    before = load_recipe({"model": {"name_or_path": "m"}, "data": data, "training": training, "seed": 7})
    files = Files(tmp_path)
    line = '{"question": "%s", "sub_questions": ["Who is A?"]}\n'
    files.train.write_text(line % "Who is 1?" + line % "Who is 2?" + line % "Who is 1?", encoding="utf-8")
    files.held_out.write_text(line % "Who is 3?", encoding="utf-8")
    now = again(before, files)
    assert now.run_dir == files.run and now.data.overlength == before.data.overlength
    apart = {"data", "training"}
    assert now.model_dump(exclude={*apart, "origins"}) == before.model_dump(exclude={*apart, "origins"})
    assert {**now.training, "output_dir": "before"} == before.training
    sides = [(side, example.question[-2]) for side, example in stream_split(now)]
    assert sorted(sides) == [("eval", "3"), ("train", "1"), ("train", "1"), ("train", "2")]
