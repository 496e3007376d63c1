"""Where a config.json comes from; the Hub is asked last, and is out of reach here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.planning.memory.config_file import read_config
from qdsft.recipe import Recipe, load_recipe


def recipe_of(model: str) -> Recipe:
    return load_recipe(ROOT / "recipes/llama2/qlora_8gb.yaml", [f"model.name_or_path={model}"])


def test_a_local_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "x"}', encoding="utf-8")
    assert read_config(recipe_of(str(tmp_path))) == ({"model_type": "x"}, str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "cannot be read as JSON"), (b"\xff", "cannot be read as JSON"), (b"[]", "is not a JSON mapping")],
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
        "import sys\nfrom qdsft.planning.memory.config_file import read_config\nfrom qdsft.errors import UserError\n"
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
