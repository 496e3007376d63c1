"""A served run answers as `qdsft decompose` does: asked with a real client, over HTTP."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from helpers.ports import free_port
from helpers.served_table import build_table
from helpers.tiny_run import make_run

from qdsft.cli import main
from qdsft.data.decomposition import Decomposition
from qdsft.deploy.serve import make_request
from qdsft.inference.decomposer import Decomposer
from qdsft.inference.loaded_run import LoadedRun, load_prompts, load_run
from serving import LOAD, Client, answers_of, ask, ask_all, make_bodies, make_questions, served

QUESTIONS = ("Who is older, Ada or Bo?", "서울과 부산 중 어디가 더 큰가요?")


TinyModel = Callable[[str], Path]


def stop_early(run_dir: Path, question: str) -> str:
    """Let the model end an answer in its middle, and what it was saved with say otherwise.

    Returns the answer to `question` that `qdsft decompose` then gives.
    """
    run = Decomposer(run_dir).run
    torch.manual_seed(0)
    head = run.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(
        torch.randn_like(head.weight)
    )  # a separate matrix: a tied one repeats a single token
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


def status_of(address: str, path: str, body: dict[str, object] | None = None, **headers: str) -> int:
    data = None if body is None else json.dumps(body).encode("utf-8")
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@dataclass(frozen=True)
class Running:
    """A run with random weights, and the address of its server, which answers decomposition requests only."""

    run: LoadedRun
    address: str


@pytest.fixture(scope="module")
def running(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    pytest.importorskip("openai", reason="pip install -e '.[serve]'")
    pytest.importorskip("llguidance", reason="pip install -e '.[constrained]'")
    folder = tmp_path_factory.mktemp("served") / "run"
    run = load_run(make_run(folder, tiny_model("llama"), "tiny/full", "evaluation.max_new_tokens=14"))
    with served(folder, "--only-decompositions") as address:
        yield Running(run, address)


@pytest.mark.slow
def test_no_request_loads_or_unloads_a_model(running: Running, tiny_model: TinyModel, tmp_path: Path) -> None:
    run_dir, address = running.run.run_dir, running.address
    other = str(make_run(tmp_path / "other", tiny_model("llama")) / "model")
    assert status_of(address, "/load_model", {"model": other}) == 404
    assert status_of(address, "/reset", {}) == 404
    assert status_of(address, "/openapi.json") == 404
    assert status_of(address, "/v1/models", None, Host="evil.example") == 403
    body = make_request(run_dir, QUESTIONS[0])
    assert status_of(address, "/v1/chat/completions", body, Host="evil.example") == 403
    assert status_of(address, "/v1/chat/completions", {**body, "model": other}) == 400
    hostile: list[dict[str, Any]] = [
        {"max_tokens": 10**8},
        {"messages": []},
        {"chat_template_kwargs": {"chat_template": "x"}},
    ]
    assert [status_of(address, "/v1/chat/completions", {**body, **change}) for change in hostile] == [400] * 3
    assert status_of(address, "/v1/chat/completions", body) == 200
    assert status_of(address, "/v1/models") == 200


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["qwen3", "gpt_neox"])
def test_a_server_answers_as_decompose_does(
    architecture: str,
    tiny_model: TinyModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
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
        example = runpy.run_path(str(ROOT / "examples" / "openai_client.py"))["main"]
        for words in ([], ["--stream"]):
            asked = [str(run_dir), QUESTIONS[0], "--endpoint", address, *words]
            monkeypatch.setattr(sys, "argv", ["openai_client.py", *asked])
            assert example() == int(not Decomposition.parse(early).is_valid)
            assert capsys.readouterr().out.strip().rstrip("\ufffd") == early.rstrip("\ufffd")


@pytest.mark.slow
def test_served_answers_are_decompositions_on_request(running: Running) -> None:
    # Random weights: without the grammar hardly any answer would be a decomposition.
    run, address, questions = running.run, running.address, make_questions(40)
    expected = answers_of(run, questions, constrained=True)
    bodies = make_bodies(run, questions, constrained=True)
    replies, _ = ask_all(address, bodies, ("plain", "streams"), 8)
    assert [reply.text for reply in replies] == expected
    assert all(Decomposition.parse(text).is_valid for text in expected)
    other = {**bodies[0], "messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "there"}]}
    refused = [other, {**bodies[0], "response_format": {"type": "json_object"}}, {**bodies[0], "max_tokens": 3}]
    assert [ask(address, body, "plain").status for body in refused] == [400] * 3
    silent = {key: value for key, value in bodies[1].items() if key != "max_tokens"}
    assert ask(address, silent, "plain").text == expected[1]


@pytest.mark.slow
def test_slow_and_vanishing_clients_do_not_change_the_answers_of_others(running: Running) -> None:
    run, address, questions = running.run, running.address, make_questions(200)
    # Bytes that make no character, of which random weights write many, end a stream with an error of tokenizers.
    kinds: list[Client] = ["plain" if kind == "streams" else kind for kind in LOAD]
    replies, _ = ask_all(address, make_bodies(run, questions, constrained=False), kinds, 20)
    expected = answers_of(run, questions, constrained=False)
    waited = [(reply, text) for reply, text in zip(replies, expected, strict=True) if reply.text is not None]
    assert len(waited) == 160 and all(reply.status == 200 for reply, _ in waited)
    # transformers shows a special token in the middle of an answer.
    special = run.tokenizer.all_special_tokens
    seen = [(reply.text or "", text) for reply, text in waited]
    plain = [(served, text) for served, text in seen if not any(token in served for token in special)]
    assert len(plain) > 100 and [served for served, _ in plain] == [text for _, text in plain]
    assert sum(Decomposition.parse(text).is_valid for text in expected) < 100


def vllm_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = "") -> Path:
    """A stand-in for the command, first on the PATH."""
    folder.mkdir(exist_ok=True)
    path = folder / "vllm"
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return path


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


@pytest.mark.slow
def test_a_served_run_is_certified_and_other_weights_are_not(
    tiny_model: TinyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai", reason="pip install -e '.[serve]'")
    table = build_table(tmp_path, tiny_model("llama"))
    with served(table.run_dir) as address:
        assert main(["certify", "--endpoint", address, str(table.run_dir), "--json"]) == 0, capsys.readouterr()
        found = json.loads(capsys.readouterr().out)
        other = shutil.copytree(table.run_dir, tmp_path / "other")
        with table.weights(lambda base, _: base):
            table.run.model.save_pretrained(other / "model")
        # The server has other weights than this run.
        assert main(["certify", "--endpoint", address, str(other), "--rows", "4", "--decode"]) == 1
    assert {check["name"]: check["verdict"] for check in found["checks"]} == dict.fromkeys(
        ("prompt ids", "sampling", "greedy answers", "stop", "structural validity", "scores"), "passed"
    )
    out = capsys.readouterr().out
    assert "failed       greedy answers" in out and "does not serve this run" in out
