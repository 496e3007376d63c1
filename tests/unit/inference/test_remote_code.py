"""Code that comes with a model runs only if the command says so, and only if it is the code that was trained with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.hostile_runs import add_code, hostile_run

from qdsft.cli.main import main
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts
from qdsft.inference.vllm_engine import make_request
from qdsft.model.loading import code_hashes
from qdsft.runs.manifest import read_manifest, write_manifest
from qdsft.runs.public import public_manifest

TINY = Callable[[str], Path]
COMMANDS = {
    "decompose": ["Who?"],
    "evaluate": [],
    "merge": ["--output", "merged"],
    "push": ["--repo-id", "a/b"],
    "serve": ["--port", "8765"],
    "serve --request": ["--request", "Who?"],
    "demo": ["--port", "0"],
    "export-gguf": ["--output", "x.gguf"],
}


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that exists after the hostile code has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "the code ran"


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_code_because_run_json_says_so(
    tiny_model: TINY, tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str], command: str, adapter: bool
) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=adapter)
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    manifest["data"]["eval_rows"] = 1
    (run / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    line = '{"row": {"question": "q", "sub_questions": ["a"]}, "messages": [], "completion": "1. a"}\n'
    (run / "eval.jsonl").write_text(line, encoding="utf-8")
    assert main([command.split()[0], str(run), *COMMANDS[command]]) == 1
    assert not marker.exists()
    said = capsys.readouterr().err
    if not (command == "merge" and not adapter):
        assert "--trust-remote-code" in said and "its run.json says" in said


@pytest.mark.parametrize("adapter", [True, False])
def test_consent_needs_the_code_of_the_training(tiny_model: TINY, tmp_path: Path, marker: Path, adapter: bool) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=adapter)
    with pytest.raises(UserError, match=r"run\.json has no hashes of the model's code"):
        load_prompts(run, trust_remote_code=True)
    folder = tmp_path / "base" if adapter else run / "model"
    manifest = read_manifest(run)
    manifest.base_model.code_sha256 = code_hashes(folder)
    write_manifest(run, manifest)
    code = folder / "configuration_strange.py"
    good = code.read_text(encoding="utf-8")
    code.write_text(good + "# changed\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"configuration_strange\.py: is not the file that the run was trained with"):
        load_prompts(run, trust_remote_code=True)
    code.write_text(good, encoding="utf-8")
    (folder / "more.py").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"more\.py: is not the file"):
        load_prompts(run, trust_remote_code=True)
    assert not marker.exists()


def test_consent_to_the_same_code_runs_it(tiny_model: TINY, tmp_path: Path, marker: Path) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=False)
    manifest = read_manifest(run)
    manifest.base_model.code_sha256 = code_hashes(run / "model")
    write_manifest(run, manifest)
    prompts = load_prompts(run, trust_remote_code=True)
    assert marker.exists() and prompts.recipe.model.trust_remote_code
    assert make_request(prompts, []).engine["trust_remote_code"] is True


def test_a_changed_base_is_refused_before_its_code_is_loaded(tiny_model: TINY, tmp_path: Path, marker: Path) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=True)
    manifest = read_manifest(run)
    manifest.base_model.code_sha256 = code_hashes(tmp_path / "base") | {"config.json": "0" * 64}
    write_manifest(run, manifest)
    with pytest.raises(UserError, match=r"config\.json: is not the file that the run was trained with"):
        load_prompts(run, trust_remote_code=True)
    assert not marker.exists()


def test_an_open_server_runs_no_code(tiny_model: TINY, tmp_path: Path, marker: Path) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=False)
    for command in ("serve", "demo"):
        assert main([command, str(run), "--trust-remote-code", "--host", "0.0.0.0", "--port", "8766"]) == 1
    assert main(["demo", str(run), "--trust-remote-code", "--share", "--port", "8766"]) == 1
    assert not marker.exists()


def test_the_flag_is_not_given_away(tiny_model: TINY, tmp_path: Path, marker: Path) -> None:
    run = hostile_run(tmp_path, tiny_model("llama"), marker, adapter=False)
    manifest = read_manifest(run)
    assert manifest.load_recipe().model.trust_remote_code is False
    assert public_manifest(manifest).recipe["model"]["trust_remote_code"] is False


def test_hashes_cover_every_python_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "x.py").write_text("", encoding="utf-8")
    add_code(tmp_path, tmp_path / "marker")
    assert set(code_hashes(tmp_path)) == {
        "config.json",
        "configuration_strange.py",
        "deep/x.py",
        "modeling_strange.py",
    }
