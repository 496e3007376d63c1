"""A recipe on other releases of trl, peft and transformers than the tested ones."""

from __future__ import annotations

import inspect
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import RECIPES

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.training import installed_keys
from qdsft.training.installed_keys import CLASSES, check_installed_keys, differences


@pytest.fixture
def other_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: {"trl": "1.16.7", "peft": "0.21.9"}.get(name, real(name)))


def without(cls: type, *, removed: str | None = None, **defaults: Any) -> type:
    """Return a class whose constructor lacks a parameter of `cls`, or has other defaults."""
    parameters = [
        one.replace(default=defaults.get(one.name, one.default))
        for one in inspect.signature(cls).parameters.values()
        if one.name != removed
    ]
    return type("Config", (), {"__signature__": inspect.Signature(parameters)})


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_recipe_differs_from_the_tested_releases(path: Path) -> None:
    recipe = load_recipe(path)
    assert {section: list(differences(recipe, section, cls)) for section, cls in CLASSES.items()} == {
        section: [] for section in CLASSES
    }


@pytest.mark.usefixtures("other_releases")
def test_another_release_with_the_same_keys_is_accepted() -> None:
    check_installed_keys(load_recipe("mistral/qlora_8gb"))


@pytest.mark.usefixtures("other_releases")
def test_keys_of_qdsft_alone_are_accepted() -> None:
    chosen = ["training.eval_strategy=steps", "training.metric_for_best_model=eval_loss"]
    stops = [*chosen, "training.load_best_model_at_end=true", "training.early_stopping_patience=2"]
    check_installed_keys(load_recipe("mistral/qlora_8gb", [*stops, "training.save_strategy=steps"]))


@pytest.mark.usefixtures("other_releases")
@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "training",
            {"removed": "learning_rate"},
            r"learning_rate has to be removed; there is no such key in",
        ),
        (
            "training",
            {"weight_decay": 0.5},
            r"weight_decay must be set, .* its default is not 0\.0 but 0\.5 in",
        ),
        ("lora", {"removed": "r"}, r"lora\.r has to be removed; there is no such key in the installed peft 0\.21\.9"),
    ],
)
def test_a_key_that_differs_is_refused(
    section: str, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = {**CLASSES, section: without(CLASSES[section], **change)}
    monkeypatch.setattr(installed_keys, "CLASSES", planted)
    with pytest.raises(UserError, match=message):
        check_installed_keys(load_recipe("mistral/qlora_8gb"))


def test_the_tested_releases_are_not_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed_keys, "CLASSES", {"training": object})
    check_installed_keys(load_recipe("mistral/qlora_8gb"))
