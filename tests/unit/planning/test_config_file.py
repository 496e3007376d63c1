"""Where a config.json comes from; the Hub is asked last, and is out of reach here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.planning.config_file import SOURCE, read_config
from qdsft.recipe import Recipe, load_recipe

# The tiny model is made here by a script, and is not on the Hub.
SHIPPED = sorted(path.as_posix() for path in ROOT.glob("recipes/*/*.yaml") if path.parent.name != "tiny")


def recipe_of(model: str) -> Recipe:
    return load_recipe(ROOT / "recipes/llama2/qlora_8gb.yaml", [f"model.name_or_path={model}"])


def test_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "x"}', encoding="utf-8")
    assert read_config(recipe_of(str(tmp_path))) == ({"model_type": "x"}, str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "has no model_type"),
        (b'{"model_type": "x", "quantization_config": [null]}', "quantization_config is not a mapping"),
    ],
)
def test_a_damaged_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/config.json: {message}"):
        read_config(recipe_of(str(tmp_path)))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder with a model"):
        read_config(recipe_of(str(tmp_path / "none")))


def test_the_hubs_cache_and_where_nothing_is(tmp_path: Path) -> None:
    """Run in a separate process, because the Hub's library reads the environment when it is imported."""
    snapshot = tmp_path / "hub" / "models--some--model" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "cached"}), encoding="utf-8")
    (refs := tmp_path / "hub" / "models--some--model" / "refs").mkdir()
    (refs / "main").write_text("abc", encoding="utf-8")
    code = (
        "import sys\nfrom qdsft.planning.config_file import read_config\nfrom qdsft.errors import UserError\n"
        "from qdsft.recipe import load_recipe\n"
        "for name in ('some/model', 'some/other', 'a b/c'):\n"
        "    try: print(read_config(load_recipe(sys.argv[1], [f'model.name_or_path={name}']))[0])\n"
        "    except UserError as error: print(error)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, str(ROOT / "recipes/llama2/qlora_8gb.yaml")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    found, missing, strange, heavy = done.stdout.splitlines()
    assert found == "{'model_type': 'cached'}"
    assert "config.json of some/other is not on this machine, and the Hub does not give it" in missing
    assert "set model.name_or_path to a folder with the file, or connect" in missing
    assert "config.json of a b/c is not on this machine" in strange
    assert heavy == "[]"


@pytest.mark.parametrize("path", SHIPPED)
def test_a_shipped_recipe_needs_no_network(path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _no_network)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(path)
    config, found = read_config(recipe)
    assert Path(found) == recipe.path.parent / "config.json"
    assert re.search(r"\b20\d\d-\d\d-\d\d\b", config[SOURCE])


def test_another_model_does_not_get_the_shipped_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _no_network)
    with pytest.raises(UserError, match=r"config\.json of some/other is not on this machine"):
        read_config(recipe_of("some/other"))


def _no_network(*_: object, **__: object) -> str:
    raise OSError("there is no network")
