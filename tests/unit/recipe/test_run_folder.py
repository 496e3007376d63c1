"""The run directory is where the user means, and impossible ones are refused before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.manifests import RECIPE

from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VOLUME", str(tmp_path / "volume"))
    monkeypatch.delenv("NOT_SET", raising=False)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def recipe_in(folder: str) -> Recipe:
    return load_recipe("r.yaml", [f"training.output_dir={folder}"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("~/runs/x", "home/runs/x"),
        ("${VOLUME}/x", "volume/x"),
        ("$VOLUME/a b", "volume/a b"),
        ("runs/x", "work/runs/x"),
        ("runs/../x", "work/x"),
        ("../x", "x"),
    ],
)
def test_a_path_is_expanded(tmp_path: Path, given: str, meant: str) -> None:
    assert recipe_in(given).run_dir.resolve() == tmp_path / meant


def test_a_run_directory_has_a_default() -> None:
    assert load_recipe("r.yaml").run_dir == Path("outputs/work-r")
    assert recipe_in("null").run_dir.name in {"null", "work-r"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("''", "is blank"),
        ("'   '", "is blank"),
        (".", "holds other things"),
        ("/", "holds other things"),
        ("..", "holds other things"),
        ("x/../..", "holds other things"),
        ("~", "holds other things"),
        ("~/", "holds other things"),
        ("~nobody_of_that_name/x", "there is no such user"),
        ("runs/${NOT_SET}/x", r"the environment variable \$\{NOT_SET\} is not set"),
        ("$NOT_SET", r"the environment variable \$NOT_SET is not set"),
        ('"a\\nb"', "has a line break"),
        ('"a\\tb"', "has a line break"),
        ("x" * 201, "more than 200 bytes"),
        ("가" * 70, "more than 200 bytes"),
        ("a/" * 2000, "shorten it"),
    ],
)
def test_an_impossible_one_is_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=f"command line: training.output_dir: .*{message}"):
        recipe_in(given)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["r.yaml"]


def test_printed_commands_are_quoted() -> None:
    command = recipe_in("~/my runs/x").resume_command()
    assert command == "qdsft train r.yaml 'training.output_dir=~/my runs/x' --resume"
