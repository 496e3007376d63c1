"""training.loss_type takes a loss of TRL or a function in a file, which `qdsft check` finds without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.data.checks.check_recipe import check_recipe
from qdsft.errors import UserError
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.custom_loss import CustomLoss, find_custom_loss

DATA = f"data.train={ROOT / 'data/examples/sample_train.jsonl'}"
RECIPE = "model:\n  name_or_path: some/model\ndata:\n  train: x\ntraining:\n  loss_type: {}\n"


def recipe(folder: Path, loss: str) -> Recipe:
    path = folder / "own.yaml"
    path.write_text(RECIPE.format(loss), encoding="utf-8")
    return load_recipe(path, [DATA, "data.eval_fraction=0"])


@pytest.mark.parametrize("name", ["nll", "dft", "chunked_nll"])
def test_the_losses_of_trl_are_accepted(name: str, tmp_path: Path) -> None:
    assert find_custom_loss(recipe(tmp_path, name)) is None


@pytest.mark.parametrize("value", ["nnl", "loss.py", "loss.txt:mine", "loss.py:not a name", "loss.py:"])
def test_anything_else_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"own\.yaml:6: training\.loss_type must be one of nll, dft, chunked_nll or path"
    ):
        recipe(tmp_path, f'"{value}"')


def test_the_file_is_looked_up_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, beside = tmp_path / "here", tmp_path / "recipe"
    for folder in (here, beside):
        folder.mkdir()
        (folder / "loss.py").write_text("def mine(outputs, labels, num_items_in_batch): ...", encoding="utf-8")
    monkeypatch.chdir(here)
    found = recipe(beside, "loss.py:mine")
    assert find_custom_loss(found) == CustomLoss(beside / "loss.py", "mine")
    (beside / "loss.py").unlink()
    assert find_custom_loss(found) == CustomLoss(Path("loss.py"), "mine")


@pytest.mark.parametrize(
    "text",
    ["def mine(): ...", "mine = print", "from os import path as mine", "mine: object = print", "class mine: ..."],
)
def test_any_name_of_the_file_may_be_a_function(text: str, tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text(text, encoding="utf-8")
    assert find_custom_loss(recipe(tmp_path, "loss.py:mine"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"no file loss\.py beside the recipe \(.*\) or at .*; correct the path"),
        (
            "def other(): ...\ndef outer():\n    def mine(): ...",
            "has no function mine at its top level; correct the name",
        ),
        ("def mine(:", "cannot be read as Python: .*; correct the file"),
    ],
)
def test_check_refuses_a_loss_that_does_not_exist(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "loss.py").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        list(check_recipe(recipe(tmp_path, "loss.py:mine")))
    assert str(caught.value).startswith(f"{tmp_path / 'own.yaml'}:6: training.loss_type: ")


def test_check_imports_neither_torch_nor_the_file(tmp_path: Path) -> None:
    (tmp_path / "loss.py").write_text("import torch\nraise SystemExit(9)\ndef mine(): ...", encoding="utf-8")
    path = recipe(tmp_path, "loss.py:mine").path
    code = "import sys; from qdsft.cli.main import main; s = main(sys.argv[1:]); print(s, 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "check", str(path), DATA, "data.eval_fraction=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", timeout=60)
    assert done.stdout.splitlines()[-1] == "0 False" and f"loss: mine in {tmp_path / 'loss.py'}" in done.stdout
