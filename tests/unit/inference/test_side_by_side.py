"""Several models in memory: runs that share a base model hold it once, and each answers as it does alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.tiny_run import GOLDEN, make_run
from safetensors.torch import load_file, save_file

from qdsft.errors import UserError
from qdsft.inference.loaded_run import LoadedRun, load_prompts, load_run
from qdsft.inference.side_by_side import base_difference, load_beside, load_columns

TINY = Callable[[str], Path]


@pytest.fixture(scope="module")
def runs(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of the same base model, one of another, and a whole model."""
    folder = tmp_path_factory.mktemp("runs")
    found = {
        name: make_run(folder / name, tiny_model(base), "tiny/full", "lora.r=4", lora_scale=0.1)
        for name, base in {"one": "mistral", "two": "mistral", "other": "llama"}.items()
    }
    path = found["two"] / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor.roll(1, 0) for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return {**found, "whole": make_run(folder / "whole", tiny_model("mistral"))}


def text(run: LoadedRun) -> str:
    return run.answer([[{"role": "user", "content": GOLDEN[0]}]])[0].text


def test_each_column_answers_as_its_run_does_alone(runs: dict[str, Path]) -> None:
    alone = {name: text(load_run(path)) for name, path in runs.items()}
    with load_run(runs["one"]).untrained() as base:
        alone["base"] = text(base)
    columns = load_columns(list(runs.values()), base=True)
    assert [column.name for column in columns][:4] == ["one", "two", "other", "whole"]
    for _ in range(2):
        for column, name in zip(columns, [*runs, "base"], strict=True):
            with column.ready() as run:
                assert text(run) == alone[name], name
    shared = [column.run.model is columns[0].run.model for column in columns]
    assert shared == [True, True, False, False, True]


def test_equal_folder_names_are_shown_with_their_paths(runs: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(runs["one"], tmp_path / "one"))
    assert [column.name for column in load_columns([runs["one"], copy])] == [str(runs["one"]), str(copy)]


def test_differences_between_bases_are_named(runs: dict[str, Path], tiny_model: TINY, tmp_path: Path) -> None:
    one = load_prompts(runs["one"])
    assert base_difference(one, load_prompts(runs["two"])) is None
    assert base_difference(one, load_prompts(runs["other"])) == "base model"
    biased = make_run(tmp_path / "biased", tiny_model("mistral"), "tiny/full", "lora.bias=all", lora_scale=0.1)
    assert base_difference(one, load_prompts(biased)) == "set of biases"


def test_an_adapter_that_cannot_share_the_base_is_refused(runs: dict[str, Path]) -> None:
    run = load_run(runs["one"])
    for name, message in (
        ("other", "was trained with another base model than"),
        ("whole", "is a whole model, not an adapter; load it by itself"),
    ):
        with pytest.raises(UserError, match=message):
            load_beside(run, "second", runs[name])
    for taken in ("default", "a.b", ""):
        with pytest.raises(UserError, match="cannot name another adapter"):
            load_beside(run, taken, runs["two"])
    with pytest.raises(UserError, match="is a whole model; only an adapter's base model can take another adapter"):
        load_beside(load_run(runs["whole"]), "second", runs["two"])


def test_an_answer_is_seen_as_it_is_written_and_can_be_ended(tiny_model: TINY, tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "long", tiny_model("llama"), "tiny/full", "evaluation.max_new_tokens=200"))
    messages = [{"role": "user", "content": GOLDEN[0]}]
    seen: list[str] = []
    answer = run.watch(messages, seen.append)
    assert answer == run.answer([messages])[0]
    assert len(seen) == answer.tokens and seen[-1] == answer.text.rstrip("\ufffd")
    assert len(set(seen)) > 20 and max(map(len, seen)) == len(seen[-1])

    def leave(text: str) -> None:
        seen.append(text)
        if len(seen) == 5:
            raise InterruptedError

    seen.clear()
    with pytest.raises(InterruptedError):
        run.watch(messages, leave)
    assert len(seen) == 5
    assert run.answer([messages])[0] == answer


def test_a_whole_model_has_its_base_beside_it(runs: dict[str, Path]) -> None:
    tuned, base = load_columns([runs["whole"]], base=True)
    assert base.run.model is not tuned.run.model and base.is_base and not tuned.is_base
