"""`qdsft doctor` on this machine, with planted faults, and against a Hub on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from helpers.installed_packages import install_packages
from helpers.paths import ROOT

from qdsft.cli.main import main
from qdsft.planning.doctor import doctor
from qdsft.planning.doctor.finding import Finding, look_safely
from qdsft.recipe import load_recipe

QLORA = str(ROOT / "recipes/llama2/qlora_8gb.yaml")
TOKEN = "hf_plantedPLANTED0123"
LINES = [
    "python",
    "packages",
    "driver",
    "torch",
    "gpus",
    "bfloat16",
    "bitsandbytes",
    "attention",
    "deepspeed",
    "disk",
    "caches",
    "token",
]


# On this machine


@pytest.mark.slow
def test_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert main(["doctor", QLORA]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [*LINES, "optional", "model"]
    assert {line[13:19].strip() for line in out.splitlines()} == {"ok", "note"}
    assert TOKEN not in out


@pytest.mark.slow
def test_json_is_all_that_stands_on_standard_output(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    environment |= {"OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(tmp_path / "token" / "triton")}
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    command = [sys.executable, "-m", "qdsft", "doctor", "--json"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    report = json.loads(done.stdout)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert list(found) == LINES and "torch" in report["versions"]
    assert found["token"]["status"] == "note"
    assert found["caches"]["status"] == "failed" and "TRITON_CACHE_DIR" in found["caches"]["remedy"]
    assert done.returncode == 1 and "checks failed; each says what to do" in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_one_broken_look_ends_no_other(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> Finding:
        raise ImportError("libcudart.so.13: cannot open shared object file")

    for name in ("torch_build", "four_bit", "deepspeed", "number_format"):
        monkeypatch.setattr(f"qdsft.planning.doctor.machine_checks.{name}", broken)
    assert main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == LINES
    assert out.count("FAILED  ImportError: libcudart.so.13: cannot open shared object file; reinstall") == 4
    assert err == "error: 4 of 12 checks failed; each says what to do\n"


def test_a_broken_recipe_is_one_of_the_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("four_bit", "deepspeed"):
        monkeypatch.setattr(
            f"qdsft.planning.doctor.machine_checks.{name}", lambda *_: Finding("x", "ok", "not looked at")
        )
    findings = list(doctor.examine("nope.yaml", []))
    assert (findings[0].name, findings[0].status) == ("recipe", "failed")
    assert findings[0].found.startswith("nope.yaml: No such file")
    assert len(findings) == 1 + len(LINES)


def test_help_is_light() -> None:
    code = (
        "import sys\nfrom qdsft.cli.main import main\n"
        "try: main(['doctor', '--help'])\n"
        "except SystemExit: print({'torch', 'huggingface_hub'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("set()\n")


# Faults


@pytest.mark.parametrize(
    ("versions", "status", "found", "remedy"),
    [
        ({}, "ok", "all required packages are the tested versions", ""),
        ({"transformers": "4.57.0"}, "failed", "transformers 4.57.0 (required: <5.24,>=5.23.0)", "'transformers<5.24"),
        ({"torch": "2.9.1"}, "failed", "torch 2.9.1 (required: <3,>=2.10)", "run pip install 'torch<3,>=2.10', or"),
        ({"torch": "2.14.1+cu130"}, "note", "not the tested versions: torch 2.14.1+cu130 (tested: 2.13.0)", ""),
        ({"torch": "2.14.1", "trl": "1.17.0"}, "failed", "trl 1.17.0 (required: <1.17,>=1.16.0)", "'trl<1.17"),
        ({"pydantic": None}, "failed", "pydantic not installed (required: <3,>=2.11)", "'pydantic<3,>=2.11'"),
        ({"wandb": "0.1"}, "failed", "wandb 0.1 (required: <1,>=0.25)", "'wandb<1,>=0.25'"),
    ],
)
def test_packages(
    versions: dict[str, str | None], status: str, found: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_packages(monkeypatch, versions)
    finding = doctor.packages()
    assert finding.status == status and found in finding.found and remedy in finding.remedy
    assert "torch" not in finding.remedy or "torch" not in versions or versions["torch"] == "2.9.1"


def test_packages_of_a_copy_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    assert (doctor.packages().status, doctor.packages().remedy) == ("note", "run make setup")


@pytest.mark.parametrize(
    ("override", "status", "found"),
    [
        ("seed=1", "ok", "the recipe requires none"),
        ("training.report_to=tensorboard", "ok", "installed for training.report_to=tensorboard"),
        ("training.report_to=mlflow", "failed", "mlflow requires mlflow, which is not installed; pip install mlflow"),
        ("model.attn_implementation=flash_attention_2", "failed", "requires flash-attn or kernels>=0.18.2,<0.19,"),
    ],
)
def test_optional_packages(override: str, status: str, found: str) -> None:
    finding = look_safely("optional", partial(doctor.optional_packages, load_recipe(QLORA, [override])))
    assert finding.status == status and found in finding.found


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QDSFT_CACHE", str(tmp_path / "not" / "yet"))
    assert doctor.caches().status == "ok" and not (tmp_path / "not").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("QDSFT_CACHE", str(tmp_path / "file" / "cache"))
    finding = doctor.caches()
    assert finding.status == "failed" and finding.remedy == "set QDSFT_CACHE to a folder that you can write"


@pytest.mark.parametrize(("free", "status"), [(2**29, "failed"), (9 * 2**30, "note"), (99 * 2**30, "ok")])
def test_space(free: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert doctor.disk(None).status == status


# The Hub


class Handler(BaseHTTPRequestHandler):
    """Answers with `status`, `code` and `body` of its server, after `delay` seconds."""

    def do_GET(self) -> None:
        hub: Any = self.server
        time.sleep(hub.delay)
        body = json.dumps(hub.body).encode()
        self.send_response(hub.status)
        if hub.code:
            self.send_header("X-Error-Code", hub.code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


Answer = Callable[..., None]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answer]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.block_on_close = True, False

    def answer(status: int = 200, code: str = "", body: Any = None, delay: float = 0) -> None:
        server.status, server.code, server.body, server.delay = status, code, body or {}, delay

    answer()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield answer
    server.shutdown()
    server.server_close()


def model(name: str = "meta-llama/Llama-2-7b-hf") -> Finding:
    recipe = load_recipe(QLORA, [f"model.name_or_path={name}"])
    return look_safely("model", partial(doctor.model_access, recipe))


def test_a_model_that_may_be_read(hub: Answer) -> None:
    assert model() == Finding("model", "ok", "meta-llama/Llama-2-7b-hf may be read; not yet in the cache")


@pytest.mark.parametrize(
    ("status", "code", "found"),
    [(403, "GatedRepo", "is gated, and this token"), (404, "RepoNotFound", "is private, or not on the")],
)
def test_a_model_that_may_not(hub: Answer, status: int, code: str, found: str) -> None:
    hub(status, code, {"error": f"no, {TOKEN}"})
    finding = model()
    assert finding.status == "failed" and found in finding.found and finding.remedy
    assert TOKEN not in str(finding)


def test_models_in_folders(tmp_path: Path) -> None:
    assert model(str(tmp_path)).status == "failed"
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    assert model(str(tmp_path)).found == f"{tmp_path} is a local folder"


def test_a_token(hub: Answer) -> None:
    hub(body={"name": "kim"})
    assert look_safely("token", doctor.token) == Finding("token", "ok", "valid, of Hub user kim")
    hub(401, body={"error": "Invalid credentials"})
    assert look_safely("token", doctor.token).status == "failed"


def test_a_hub_that_does_not_answer_is_a_note_soon(hub: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(delay=5)
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.3)
    started = time.monotonic()
    for finding in (model(), look_safely("token", doctor.token)):
        assert finding.status == "note" and "the Hub cannot be reached (no answer in 0.3 s)" in finding.found
    assert time.monotonic() - started < 4


def test_offline_nothing_is_asked(hub: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(500)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model().found.endswith("the Hub is not asked, since HF_HUB_OFFLINE is set")
    assert doctor.token().found == "found, but not tried, since HF_HUB_OFFLINE is set"


def test_no_token_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert doctor.token().status == "note"
