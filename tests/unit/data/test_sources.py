"""Rows of a recipe: from files, or from the Hub; and what identifies them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from qdsft.data.sources import content_id, data_files, file_records, is_hub_id, is_on_hub, read_rows
from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe

ROW = '{"question": "Who?", "sub_questions": ["A?"]}\n'


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.jsonl").write_text(ROW, encoding="utf-8")
    Path("r.yaml").write_text("model: {name_or_path: m}\ndata:\n  train: t.jsonl\n", encoding="utf-8")


def recipe_of(*overrides: str) -> Recipe:
    return load_recipe("r.yaml", overrides)


def test_rows_of_a_file() -> None:
    recipe = recipe_of("data.eval=t.jsonl")
    for key in ("train", "eval"):
        assert [record.source for record in read_rows(recipe, key)] == ["t.jsonl:1"]
    assert data_files(recipe, "train") == [Path("t.jsonl")]
    assert not is_on_hub(recipe)


def test_a_missing_file_is_named_with_the_line_of_the_recipe() -> None:
    Path("t.jsonl").unlink()
    for call in (lambda: list(file_records(recipe_of(), "train")), lambda: content_id(recipe_of(), "train")):
        with pytest.raises(UserError, match=r"^r\.yaml:3: data\.train: there is no file t\.jsonl \(looked at /"):
            call()


def test_the_content_decides_the_id_and_so_does_the_way_it_is_read() -> None:
    first = content_id(recipe_of(), "train")
    Path("other.jsonl").write_text(ROW, encoding="utf-8")
    assert content_id(recipe_of("data.train=other.jsonl"), "train") == first
    Path("other.csv").write_text(ROW, encoding="utf-8")
    assert content_id(recipe_of("data.train=other.csv"), "train") != first
    Path("t.jsonl").write_text(ROW + ROW, encoding="utf-8")
    assert content_id(recipe_of(), "train") != first
    Path("t.jsonl.gz").write_bytes(gzip.compress(ROW.encode()))
    assert str(content_id(recipe_of("data.train=t.jsonl.gz"), "train")).startswith(".jsonl.gz ")
    assert content_id(recipe_of(), "eval") is None


@pytest.mark.parametrize(
    ("name", "on_hub"),
    [
        ("user/name", True),
        ("user/name.v2", True),
        ("user/name.jsonl", False),
        ("user/name.CSV", False),
        ("a/b/c", False),
        ("./name", False),
        ("name", False),
        ("here/data", False),
    ],
)
def test_names_of_hub_datasets(name: str, on_hub: bool) -> None:
    Path("here/data").mkdir(parents=True)
    assert is_hub_id(name) == on_hub
    assert is_on_hub(recipe_of(f"data.eval={name}")) == on_hub


def test_a_hub_dataset_that_cannot_be_loaded_is_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ConnectionError("\nno route\nto host")

    monkeypatch.setattr("datasets.load_dataset", fail)
    with pytest.raises(UserError) as caught:
        list(read_rows(recipe_of("data.train=user/name"), "train"))
    assert str(caught.value) == (
        "command line: data.train: user/name is not a file, and the Hub dataset cannot be loaded: no route"
    )


NAN = float("nan")


@pytest.mark.parametrize(
    "unused", [NAN, [1.0, NAN], {"x": {"y": [float("inf")]}}, [("key", NAN)], [[{"a": float("-inf")}]]]
)
def test_nan_in_any_column_of_a_hub_dataset_is_refused(unused: object, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"question": "a", "sub_questions": ["b"], "unused": value} for value in (1.0, unused)]
    monkeypatch.setattr("datasets.load_dataset", lambda *arguments, **options: rows)
    stream = read_rows(recipe_of("data.train=user/name"), "train")
    assert next(stream).source == "user/name[train]:1"
    with pytest.raises(
        UserError, match=r"^user/name\[train\]:2: the field 'unused' is -?(nan|inf); replace or remove it$"
    ):
        next(stream)
