"""A served run answers as `qdsft decompose` does: asked with a real client, over HTTP. vLLM is given text only."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.certificates import make_certificate
from helpers.paths import ROOT
from helpers.ports import free_port
from helpers.tiny_run import make_run
from transformers import AutoTokenizer

from qdsft.cli.main import main
from qdsft.deploy.serve import make_request, serve, vllm_command
from qdsft.deploy.served_folder import served_name, stage
from qdsft.errors import UserError
from qdsft.inference.decomposer import Decomposer
from qdsft.inference.loaded_run import load_prompts
from qdsft.runs.certificate import write_certificate
from qdsft.tokenization.chat_template import encode_prompts

QUESTIONS = ("Who is older, Ada or Bo?", "서울과 부산 중 어디가 더 큰가요?")

TinyModel = Callable[[str], Path]


@contextmanager
def served(run_dir: Path, *arguments: str) -> Iterator[str]:
    """The address of `qdsft serve RUN_DIR`, in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "qdsft", "serve", str(run_dir), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, process.communicate()[1]
                time.sleep(0.25)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def stop_early(run_dir: Path, question: str) -> str:
    """Let the model end an answer in its middle, and what it was saved with say otherwise.

    Returns the answer to `question` that `qdsft decompose` then gives.
    """
    run = Decomposer(run_dir).run
    torch.manual_seed(0)
    head = run.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight))  # of its own: a tied one repeats a single token
    run.model.config.tie_word_embeddings = False
    prompt = torch.tensor(run.encode([make_request(run_dir, question)["messages"]]))
    token, stop = (
        int(run.model.generate(prompt, max_new_tokens=12, do_sample=False)[0, -1]),
        run.manifest.stop_token_ids[-1],
    )
    head.weight.data[[token, stop]] = head.weight.data[[stop, token]]
    run.model.save_pretrained(run_dir / "model")
    own = {"eos_token_id": 1, "do_sample": True, "temperature": 5.0, "repetition_penalty": 3.0}
    (run_dir / "model" / "generation_config.json").write_text(json.dumps(own), encoding="utf-8")
    settings = run_dir / "model" / "tokenizer_config.json"
    content = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps({**content, "clean_up_tokenization_spaces": True}), encoding="utf-8")
    answer = Decomposer(run_dir).run.answer([make_request(run_dir, question)["messages"]])[0]
    assert answer.stopped and answer.text
    return answer.text


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen3", "gpt_neox"])
def test_a_server_answers_as_decompose_does(architecture: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    openai = pytest.importorskip("openai", reason="pip install -e '.[serve]'")
    run_dir = make_run(tmp_path / "my run", tiny_model(architecture))
    early = stop_early(run_dir, QUESTIONS[0])
    expected = [early, Decomposer(run_dir).text(QUESTIONS[1])]
    with served(run_dir) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        for question, text in zip(QUESTIONS, expected, strict=True):
            done = client.chat.completions.create(**make_request(run_dir, question))
            assert done.model.startswith("my-run")
            assert (done.choices[0].message.content or "").strip() == text
            assert done.usage.prompt_tokens == len(
                load_prompts(run_dir).encode([make_request(run_dir, question)["messages"]])[0]
            )
        body = make_request(run_dir, QUESTIONS[0])
        assert client.chat.completions.create(**body).choices[0].finish_reason == "stop"
        # Without a temperature it is greedy, too.
        silent = client.chat.completions.create(**{key: body[key] for key in ("model", "messages", "max_tokens")})
        assert (silent.choices[0].message.content or "").strip() == early
        chunks = client.chat.completions.create(**body, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        # Bytes that make no character, of which random weights write many, are left out of a stream at its end.
        assert streamed.strip().rstrip("\ufffd") == early.rstrip("\ufffd")


def test_staged_files_yield_the_trained_prompts(tiny_model: TinyModel, tmp_path: Path) -> None:
    run = load_prompts(make_run(tmp_path / "run", tiny_model("mistral")))
    stage(run, tmp_path / "staged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "staged")
    golden = run.manifest.golden_prompts
    assert encode_prompts(tokenizer, [prompt.messages for prompt in golden]) == [prompt.ids for prompt in golden]
    settings = json.loads((tmp_path / "staged" / "generation_config.json").read_text(encoding="utf-8"))
    assert settings["eos_token_id"] == run.manifest.stop_token_ids
    assert settings["do_sample"] is False and settings["max_new_tokens"] == 24
    assert (tmp_path / "staged" / "model.safetensors").samefile(tmp_path / "run" / "model" / "model.safetensors")


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


def test_a_server_is_started_with_what_stands_behind_the_dashes(
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
    assert error.endswith(f"error: {run_dir}: the server ended with status 3; what it said stands above\n")
    example = error[error.index("-d ") + 3 :].splitlines()[0]
    golden = load_prompts(run_dir).manifest.golden_prompts[0]
    assert json.loads(shlex.split(example)[0])["messages"] == golden.messages


@pytest.mark.slow
def test_a_server_ends_with_us(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen"
    vllm_in(tmp_path / "bin", monkeypatch, f'echo "$$ $2" > {seen}.new; mv {seen}.new {seen}; exec sleep 100')
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    command = [sys.executable, "-m", "qdsft", "serve", str(run_dir), "--engine", "vllm", "--port", str(free_port())]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not seen.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    number, staged = seen.read_text(encoding="utf-8").split()
    assert Path(staged, "config.json").is_file()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1].endswith("interrupted\n") and process.returncode == 130
    assert not Path(staged).parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int(number), 0)


def test_what_cannot_be_served_is_refused(
    tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), lora_scale=0.1)
    options: dict[str, Any] = {"host": "127.0.0.1", "port": free_port()}
    with pytest.raises(UserError, match=r"no place for an adapter; merge it with: qdsft merge .*adapter --output DIR"):
        serve(adapter, engine="transformers", **options)
    vllm_in(tmp_path / "bin", monkeypatch)
    path = adapter / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "use_dora": True}), encoding="utf-8")
    with pytest.raises(UserError, match="no adapter with use_dora; merge it with: qdsft merge"):
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


def test_what_is_missing_is_named(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_run(tmp_path / "whole", tiny_model("llama"))
    monkeypatch.setattr("qdsft.deploy.serve.NEEDED", ("openai_of_nobody", "json"))
    with pytest.raises(UserError, match=r"needs openai_of_nobody; install with: pip install -e '\.\[serve\]'"):
        serve(whole, engine="transformers", host="127.0.0.1", port=free_port())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="vllm"):
        serve(whole, engine="vllm", host="127.0.0.1", port=free_port())


def test_a_merge_that_does_not_agree_is_said(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(tmp_path / "run", tiny_model("llama"))
    write_certificate(run_dir / "model", make_certificate(passed=False))
    stage(load_prompts(run_dir), tmp_path / "staged")
    assert "does not agree with the adapter as it was trained" in capsys.readouterr().err


def test_names_that_stand_for_themselves_in_a_url(tmp_path: Path) -> None:
    assert served_name(tmp_path / "a b@c:d.gguf") == "a-b-c-d.gguf"
