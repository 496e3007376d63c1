"""The command line of a server, and what is refused before it starts. vLLM itself is not run."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.ports import free_port
from helpers.tiny_run import make_run

from qdsft.cli.main import main
from qdsft.deploy.serve import make_request, serve, vllm_command
from qdsft.deploy.served_folder import stage
from qdsft.errors import UserError
from qdsft.inference.loaded_run import load_prompts

TinyModel = Callable[[str], Path]


def test_a_request_carries_the_trained_messages(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"), "tiny/full", "prompt.system=Split: {{ question }}")
    assert main(["serve", str(run_dir), "--request", "  나이는? "]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["messages"] == [
        {"role": "system", "content": "Split: 나이는?"},
        {"role": "user", "content": "나이는?"},
    ]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("run", 0, 24)
    with pytest.raises(UserError, match="special token"):
        make_request(run_dir, "a </s> b")
    assert main(["serve", str(run_dir), "--request", "a \x9b2J\x7f?"]) == 0
    printed = capsys.readouterr().out
    assert not set(printed) & {"\x9b", "\x7f"} and json.loads(printed)["messages"][1]["content"] == "a \x9b2J\x7f?"


def vllm_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "") -> Path:
    """A stand-in for the command, first on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / "vllm"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return path


def pairs(command: list[str]) -> dict[str, Any]:
    """Flag -> value, True where it has none."""
    found: dict[str, Any] = {}
    for i, word in enumerate(command):
        if word.startswith("--"):
            following = command[i + 1] if i + 1 < len(command) else "--"
            found[word] = True if following.startswith("--") else following
    return found


def test_vllm_is_given_the_adapter_on_its_base(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = vllm_in(tmp_path / "bin", monkeypatch)
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama"), lora_scale=0.1))
    staged = tmp_path / "s" / "run"
    command = vllm_command(run, staged, "127.0.0.1", 8001, ["--max-model-len", "4096"])
    assert command[:3] == [str(path), "serve", str(tiny_model("llama"))]
    assert pairs(command) == {
        "--tokenizer": str(staged),
        "--generation-config": str(staged),
        "--override-generation-config": '{"temperature": 0.0}',
        "--chat-template": str(staged / "chat_template.jinja"),
        "--chat-template-content-format": "string",
        "--dtype": "auto",
        "--seed": "0",
        "--enable-lora": True,
        "--max-loras": "1",
        "--max-lora-rank": "8",
        "--lora-modules": f"run={tmp_path / 'run' / 'adapter'}",
        "--host": "127.0.0.1",
        "--port": "8001",
        "--max-model-len": "4096",
    }


def test_vllm_is_given_a_whole_model_by_name(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vllm_in(tmp_path / "bin", monkeypatch)
    run = load_prompts(make_run(tmp_path / "run", tiny_model("llama")))
    command = vllm_command(run, tmp_path / "s" / "run", "0.0.0.0", 8000, [])
    assert command[2] == str(tmp_path / "s" / "run")
    assert pairs(command)["--served-model-name"] == "run" and "--enable-lora" not in command


def test_arguments_after_the_dashes_go_to_the_server(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    script = f'for word in "$@"; do echo "$word"; done > {shlex.quote(str(seen))}\ncp "$2"/* {tmp_path}/copy; exit 3'
    vllm_in(tmp_path / "bin", monkeypatch, script)
    (tmp_path / "copy").mkdir()
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    port = str(free_port())
    status = main(["serve", str(run_dir), "--engine", "vllm", "--port", port, "--", "--api-key", "--port"])
    assert status == 1
    words = seen.read_text(encoding="utf-8").splitlines()
    assert words[-2:] == ["--api-key", "--port"] and words[words.index("--port") + 1] == port
    # What it was pointed at was there, and is no more.
    assert json.loads((tmp_path / "copy" / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"] == [2]
    assert not Path(words[1]).exists()
    error = capsys.readouterr().err
    assert error.endswith(f"error: {run_dir}: the server ended with status 3; its messages are above\n")
    example = error[error.index("-d ") + 3 :].splitlines()[0]
    golden = load_prompts(run_dir).manifest.golden_prompts[0]
    assert json.loads(shlex.split(example)[0])["messages"] == golden.messages


def test_runs_that_cannot_be_served_are_refused(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), lora_scale=0.1)
    options: dict[str, Any] = {"host": "127.0.0.1", "port": free_port()}
    with pytest.raises(UserError, match=r"cannot load an adapter; merge it with: qdsft merge .*adapter --output DIR"):
        serve(adapter, engine="transformers", **options)
    vllm_in(tmp_path / "bin", monkeypatch)
    path = adapter / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "use_dora": True}), encoding="utf-8")
    with pytest.raises(UserError, match="does not support adapters with use_dora; merge it with: qdsft merge"):
        serve(adapter, engine="vllm", **options)

    whole = make_run(tmp_path / "whole", tiny_model("llama"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(
            UserError, match=r"nothing can listen there \(Address already in use\); give another --port"
        ):
            serve(whole, engine="vllm", host="127.0.0.1", port=taken.getsockname()[1])
    template = whole / "model" / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(UserError, match="not the template that this run was trained with"):
        serve(whole, engine="vllm", **options)


def test_the_missing_part_is_named(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_run(tmp_path / "whole", tiny_model("llama"))
    monkeypatch.setattr("qdsft.deploy.serve.NEEDED", ("openai_of_nobody", "json"))
    with pytest.raises(UserError, match=r"requires openai_of_nobody; install with: pip install -e '\S+\[serve\]'"):
        serve(whole, engine="transformers", host="127.0.0.1", port=free_port())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="vllm"):
        serve(whole, engine="vllm", host="127.0.0.1", port=free_port())


def test_an_open_server_has_a_token(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = tmp_path / "seen"
    script = f'echo "$VLLM_API_KEY|$QDSFT_SERVE_TOKEN|$QDSFT_SERVE_HOSTS|$PYTHONSAFEPATH|$*" > {seen}'
    vllm_in(tmp_path / "bin", monkeypatch, script)
    run_dir = str(make_run(tmp_path / "run", tiny_model("llama")))

    def served(*options: str) -> list[str]:
        assert main(["serve", run_dir, "--engine", "vllm", "--port", str(free_port()), *options]) == 0
        return seen.read_text(encoding="utf-8").strip().split("|")

    key, token, hosts, safe, words = served("--host", "0.0.0.0")
    said = capsys.readouterr().err
    assert len(token) == 32 and key == token and hosts == "*" and safe == "1" and token not in words
    assert f"Authorization: Bearer {token}" in said
    assert served("--host", "0.0.0.0")[1] != token
    assert served()[:3] == ["", "", "127.0.0.1,localhost,::1,[::1],127.0.0.1"]
    monkeypatch.setenv("QDSFT_SERVE_TOKEN", "chosen")
    assert served()[:2] == served("--host", "0.0.0.0")[:2] == ["chosen", "chosen"]
    monkeypatch.setenv("QDSFT_SERVE_TOKEN", "two words")
    assert main(["serve", run_dir, "--engine", "vllm", "--port", str(free_port())]) == 1


def test_python_files_of_a_run_do_not_reach_the_folder_of_the_server(tiny_model: TinyModel, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    (run_dir / "model" / "__init__.py").touch()
    run = load_prompts(run_dir)
    stage(run, tmp_path / "staged")
    assert not list((tmp_path / "staged").glob("*.py")) and (tmp_path / "staged" / "config.json").exists()
