"""What was pushed answers as it did, downloaded again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.loopback_hub import LoopbackHub
from helpers.paths import ROOT
from helpers.pushing import REPO, make_push_run, reachable_hub
from helpers.tiny_run import GOLDEN

from qdsft.deploy.merge import merge
from qdsft.inference.decomposer import Decomposer, show_answer

TINY = Callable[[str], Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with reachable_hub(monkeypatch, tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="module")
def made(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_push_run(tmp_path_factory.mktemp("runs") / "my-run", tiny_model("qwen3"))


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "my-run"))


LOAD = """
import json, sys
sys.modules["qdsft"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
from peft import PeftModel
repo, base, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(repo)
if base == "-":
    model = AutoModelForCausalLM.from_pretrained(repo)
else:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), repo)
messages = [{"role": "user", "content": question}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=24, do_sample=False)
print(json.dumps(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True).strip()))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adapter", "merged"])
def test_it_comes_back_from_the_hub(
    hub: LoopbackHub, run_dir: Path, tiny_model: TINY, tmp_path: Path, kind: str
) -> None:
    source = run_dir
    if kind == "merged":
        source = tmp_path / "merged"
        merge(run_dir, source, dtype="float32")
    done = start("-m", "qdsft", "push", source, "--repo-id", REPO, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    base = "-" if kind == "merged" else str(tiny_model("qwen3"))
    done = start("-c", LOAD, REPO, base, GOLDEN[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = Decomposer(run_dir).text(GOLDEN[0])
    assert json.loads(done.stdout) == answer
    download = "import sys; from huggingface_hub import snapshot_download as s; s(sys.argv[1], local_dir=sys.argv[2])"
    assert start("-c", download, REPO, tmp_path / "got", cwd=tmp_path).returncode == 0
    if kind == "adapter":  # its base model has no name that others know
        (tmp_path / "qwen3").symlink_to(tiny_model("qwen3"))
    done = start("-m", "qdsft", "decompose", tmp_path / "got", GOLDEN[0], "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == show_answer(Decomposer(run_dir), GOLDEN[0], "json").text


def start(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, arguments)]
    path = {"PYTHONPATH": str(ROOT)} if "-m" in arguments else {}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **path}, timeout=200)
