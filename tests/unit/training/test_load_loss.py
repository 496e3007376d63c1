"""A recipe's own loss is what the run trains with, and a wrong one is an error of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.pages import fences
from helpers.paths import ROOT
from helpers.tiny_recipe import MakeRecipe, recipe_maker
from safetensors.torch import load_file

from qdsft.errors import Interrupted, UserError
from qdsft.recipe import Recipe
from qdsft.training.callbacks import StopRequest
from qdsft.training.load_loss import load_custom_loss
from qdsft.training.train import train

SCALED = """
from pathlib import Path
import torch

def scaled(outputs, labels, num_items_in_batch=None):
    Path(__file__).with_suffix(".calls").open("a").write(f"{tuple(outputs.logits.shape)} {num_items_in_batch}\\n")
    logits, targets = outputs.logits[:, :-1].float(), labels[:, 1:]
    total = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return FACTOR * total / ((targets != -100).sum() if num_items_in_batch is None else num_items_in_batch)
"""
RUN = ("training.max_steps=2", "training.save_strategy=steps", "training.save_steps=1", "training.logging_steps=1")


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


def write(folder: Path, text: str, name: str = "loss.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = load_file(run_dir / "adapter/adapter_model.safetensors")
    return loaded


def losses(recipe: Recipe) -> list[float]:
    import json

    lines = (recipe.run_dir / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


@pytest.mark.slow
def test_two_steps_are_trained_with_it_and_a_resume_ends_with_the_same_weights(
    make_recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, SCALED.replace("FACTOR", "1"))
    stock = make_recipe(*RUN, run="stock")
    train(stock)
    own = make_recipe(*RUN, f"training.loss_type={file}:scaled", run="own")
    whole = weights(train(own))
    assert losses(own) == pytest.approx(losses(stock), rel=1e-3), "the same formula"
    calls = file.with_suffix(".calls").read_text(encoding="utf-8").splitlines()
    assert len(calls) >= 2 and all(call.endswith(")") is False for call in calls)

    cut = make_recipe(*RUN, f"training.loss_type={file}:scaled", run="cut")
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="saved at step 1"):
        patch.setattr(StopRequest, "any_process_was_asked", lambda self, args: True)
        train(cut)
    file.write_text(SCALED.replace("FACTOR", "2"), encoding="utf-8")
    with pytest.raises(UserError, match="the file of the custom loss has changed since the run began"):
        train(cut, resume=True)
    file.write_text(SCALED.replace("FACTOR", "1"), encoding="utf-8")
    resumed = weights(train(cut, resume=True))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)

    write(tmp_path, SCALED.replace("FACTOR", "3"), "tripled.py")
    tripled = make_recipe(*RUN, f"training.loss_type={tmp_path / 'tripled.py'}:scaled", run="tripled")
    train(tripled)
    assert losses(tripled)[0] == pytest.approx(3 * losses(stock)[0], rel=1e-3)


def test_a_loss_of_trl_needs_no_function(make_recipe: MakeRecipe) -> None:
    assert load_custom_loss(make_recipe("training.loss_type=dft")) is None
    assert load_custom_loss(make_recipe()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mine = 3", "mine is not callable; name a function"),
        ("def mine(outputs): ...", r"mine must take \(outputs, labels, num_items_in_batch\): too many positional"),
        ("raise KeyError('x')\ndef mine(): ...", "fails when it is imported: KeyError: 'x'"),
    ],
)
def test_a_wrong_function_is_one_line(text: str, message: str, make_recipe: MakeRecipe, tmp_path: Path) -> None:
    file = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as caught:
        load_custom_loss(make_recipe(f"training.loss_type={file}:mine"))
    assert str(caught.value).startswith(f"command line: training.loss_type: {file}") and "\n" not in str(caught.value)


def test_the_loss_of_the_page_is_a_focal_loss(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    (code,) = [fence.text for fence in fences(ROOT / "docs/CUSTOM_LOSS.md") if fence.language == "python"]
    write(tmp_path, code, "focal.py")
    focal = load_custom_loss(make_recipe(f"training.loss_type={tmp_path / 'focal.py'}:focal_loss"))
    assert focal is not None
    logits = torch.randn(2, 5, 11, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[-100, -100, 3, 4, 5], [-100, 1, 2, -100, -100]])
    chosen = logits[:, :-1].log_softmax(-1).gather(-1, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
    expected = ((1 - chosen.exp()) ** 2 * -chosen)[labels[:, 1:] != -100]
    outputs = type("Outputs", (), {"logits": logits})
    torch.testing.assert_close(focal(outputs, labels), expected.mean())
    torch.testing.assert_close(focal(outputs, labels, num_items_in_batch=10), expected.sum() / 10)
