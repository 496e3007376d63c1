"""`qdsft recipe --new`: a folder of recipes for a model that has none, which passes `check` and trains."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import ROOT
from helpers.untried_models import UNTRIED, make_untried

from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.tokenization import new_recipe as module
from qdsft.tokenization.new_recipe import SOURCE, TEMPLATE, new_recipe

FILES = {"README.md", "config.json", "lora.yaml", "qlora.yaml", "qlora_8gb.yaml"}
TARGETS = {
    "phi3": ["o_proj", "qkv_proj", "gate_up_proj", "down_proj"],
    "olmo2": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "granite": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "starcoder2": ["q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
SAID = {
    "phi3": r"chat template: the model's own\nstop token: <\|im_end\|>",
    "olmo2": r"chat template: chat_template.jinja, a plain one; the model has none\nstop token: <\|eot_id\|>",
    "granite": r"a plain one; training cannot use the model's own: .*System role not supported; .*\nstop token: <",
    "starcoder2": r"chat template: chat_template.jinja, the model's own without thinking\nstop token: <\|im_end\|>",
    "gpt2": r"a plain one; the model has none\nstop token: <\|endoftext",
}
TinyModel = Callable[[str], Path]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the recipes name their data from there


@pytest.mark.parametrize("architecture", UNTRIED)
def test_an_architecture_without_a_recipe(
    architecture: str, tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = make_untried(architecture, tmp_path, tiny_model), tmp_path / "recipes" / "new"
    capsys.readouterr()  # transformers' progress
    assert main(["recipe", "--new", str(model), "--output", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert re.search(SAID[architecture], out), out
    assert err == f"reading the config and tokenizer of {model}\n"
    own = "the model's own\n" in out
    assert {path.name for path in folder.iterdir()} == FILES | (set() if own else {TEMPLATE})
    assert [path.name for path in folder.parent.iterdir()] == ["new"]
    path = folder / "qlora_8gb.yaml"
    assert f"  qdsft check {path}\n  qdsft plan {path} --gpu-memory 8\n  qdsft inspect {path}\n" in out
    recipe = load_recipe(path)
    assert (recipe.lora or {})["target_modules"] == TARGETS[architecture]
    assert recipe.max_length == (512 if architecture == "gpt2" else 1024)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"read from a local folder on \d{4}-\d\d-\d\d", config.pop(SOURCE))
    assert config == json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert main(["check", str(path)]) == 0
    assert "all valid" in capsys.readouterr().out
    assert main(["inspect", str(path), "-n", "1"]) == 0
    assert "<think>" not in capsys.readouterr().out.partition("with loss")[2].partition("</think>")[2]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", UNTRIED)
def test_its_recipe_trains_two_steps(architecture: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    from qdsft.inference.loaded_run import load_run
    from qdsft.training.train import train

    list(new_recipe(str(make_untried(architecture, tmp_path, tiny_model)), tmp_path / "new"))
    overrides = [f"training.output_dir={tmp_path / 'run'}", "training.max_steps=2", "evaluation.max_new_tokens=4"]
    run = load_run(train(load_recipe(tmp_path / "new" / "qlora_8gb.yaml", overrides)))
    assert run.manifest.state == "finished"


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_nothing_is_overwritten(kind: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine", encoding="utf-8")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(UserError, match="exists; delete it or choose another folder with --output"):
        list(new_recipe(str(tiny_model("llama")), target))
    with pytest.raises(UserError, match=r"qwen3_8b exists; use its recipes, such as .*qwen3_8b/qlora_8gb\.yaml, or"):
        list(new_recipe("Qwen/Qwen3-8B", ROOT / "recipes" / "qwen3_8b"))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert not target.is_file() or target.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("ending", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("a bug")])
def test_an_interrupted_writing_leaves_nothing(
    ending: BaseException, tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_text

    def fail(path: Path, *arguments: Any, **options: Any) -> int:
        if path.name == "README.md":
            raise ending
        return write(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises((UserError, KeyboardInterrupt, ValueError)):
        list(new_recipe(str(tiny_model("llama")), tmp_path / "deep" / "new"))
    assert [path.name for path in tmp_path.rglob("*") if path.name != "deep"] == []


@pytest.mark.parametrize(
    ("name", "overrides", "said"),
    [
        ("models/no/such", (), "is not a folder with a model"),
        ("nobody/nothing-at-all", (), "cannot be loaded"),
        ("///", (), "gives no name for a folder; name one with --output"),
        ("user/model", ("training.max_steps=2",), "edit the recipe"),
        ("user/model", ("lora.r=4",), "--new takes model.revision and model.trust_remote_code alone"),
    ],
)
def test_bad_input_is_one_line(
    name: str, overrides: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        list(new_recipe(name, None, overrides))
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Qwen/Qwen3-1.7B", "qwen3_1_7b"),
        ("models/tiny-llama/", "tiny_llama"),
        ("C:\\models\\My Model", "my_model"),
        ("user/한국어-Model", "model"),
    ],
)
def test_the_folder_is_named_after_the_model(name: str, folder: str) -> None:
    assert module._folder_name(name) == folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recipe"], "give a RECIPE, or --new MODEL"),
        (["recipe", "tiny/full", "--output", "x"], "--output belongs to --new"),
        (["recipe", "--new", "m", "--json"], "--json shows a recipe, and --new writes one"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and said in capsys.readouterr().err
