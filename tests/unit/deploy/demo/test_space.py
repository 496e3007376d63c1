"""`qdsft demo --export`: the folder of a Space, and the page that it serves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml
from helpers.installed_packages import install_packages
from helpers.ports import free_port
from helpers.tiny_run import make_run
from packaging.requirements import Requirement

pytest.importorskip("gradio", reason="the extra demo is not installed")

import gradio

from qdsft.cli.main import main
from qdsft.deploy.demo.space import export_space, requirements
from qdsft.errors import UserError
from qdsft.tested_versions import pinned_versions

TinyModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def run_dir(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "first 'run'", tiny_model("llama"))


@pytest.fixture(scope="module")
def space(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "my space"
    assert main(["demo", str(run_dir), "--export", str(folder)]) == 0
    return folder


def test_the_folder_is_a_space(space: Path) -> None:
    assert {path.name for path in space.iterdir()} == {"README.md", "app.py", "requirements.txt", "qdsft", "runs"}
    header = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    expected = {"title": "my space", "sdk": "gradio", "sdk_version": gradio.__version__, "app_file": "app.py"}
    assert header == {**expected, "python_version": version}  # a string: YAML reads 3.10 as 3.1
    assert (space / "qdsft" / "LICENSE").is_file() and (space / "qdsft" / "recipes" / "recipe.schema.json").is_file()
    assert not list(space.rglob("__pycache__")) and not list(space.parent.glob(".*"))


@pytest.mark.parametrize("constrained", [False, True])
def test_versions_are_the_tested_ones(constrained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    install_packages(monkeypatch, {"llguidance": "1.9.2"})
    lines = requirements(constrained=constrained).splitlines()
    versions = {one.name: str(one.specifier) for one in map(Requirement, lines)}
    pins = pinned_versions()
    assert versions["torch"] == f"=={pins['torch']}" and versions["huggingface_hub"] == f"=={pins['huggingface-hub']}"
    assert all(re.fullmatch(r"==[\d.]+", version) for version in versions.values()), versions
    assert "pillow" in versions and not {"gradio", "deepspeed"} & versions.keys()
    assert versions.get("llguidance") == ("==1.9.2" if constrained else None)


def test_nothing_of_the_machine_is_in_it(space: Path, run_dir: Path, tiny_model: TinyModel, tmp_path: Path) -> None:
    held_out = make_run(tmp_path / "other", tiny_model("llama"))
    (held_out / "eval.jsonl").write_text('{"question": "secret?"}\n', encoding="utf-8")
    export_space([held_out, run_dir], tmp_path / "two", base=False, constrained=True)
    texts = [
        path.read_text(encoding="utf-8")
        for folder in (space, tmp_path / "two")
        for path in [*folder.glob("*.*"), *folder.glob("runs/*/*.json"), *folder.glob("runs/*/*.md")]
    ]
    assert len(texts) > 20 and not any(str(run_dir.parent) in text or str(tmp_path) in text for text in texts)
    assert {path.name for path in (tmp_path / "two" / "runs").iterdir()} == {"other", run_dir.name}
    assert not list(tmp_path.glob("two/runs/*/eval*"))
    assert "constrained=True" in (tmp_path / "two" / "app.py").read_text(encoding="utf-8")


def test_runs_of_one_name_are_numbered(run_dir: Path, tmp_path: Path) -> None:
    export_space([run_dir, run_dir], tmp_path / "two", base=False, constrained=False)
    assert {path.name for path in (tmp_path / "two" / "runs").iterdir()} == {f"{run_dir.name}-{n}" for n in (1, 2)}


def test_what_a_space_could_not_load_is_refused(tiny_model: TinyModel, run_dir: Path, tmp_path: Path) -> None:
    adapter = make_run(tmp_path / "adapter", tiny_model("llama"), "tiny/full", lora_scale=0.1)
    for runs, base in (([adapter], False), ([run_dir], True), ([run_dir, adapter], False)):
        with pytest.raises(UserError, match="is not on the Hub, where a Space gets it; merge the adapter"):
            export_space(runs, tmp_path / "space", base=base, constrained=False)
    (run_dir / "model" / "chat_template.jinja").rename(tmp_path / "template")
    try:
        with pytest.raises(UserError):
            export_space([run_dir], tmp_path / "space", base=False, constrained=False)
    finally:
        (tmp_path / "template").rename(run_dir / "model" / "chat_template.jinja")
    assert not list(tmp_path.glob("*space*"))


@pytest.mark.slow
def test_the_page_answers(space: Path, tmp_path: Path) -> None:
    """Run as a Space: by the folder's own copy of the package, and reached under another host name."""
    client = pytest.importorskip("gradio_client")
    folder = Path(shutil.copytree(space, tmp_path / "space"))
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1", "SYSTEM": "spaces", "SPACE_ID": "user/name"}
    log = tmp_path / "log"
    with log.open("w", encoding="utf-8") as output:
        command = [sys.executable, str(folder / "app.py")]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        while "open http://" not in log.read_text(encoding="utf-8"):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            time.sleep(0.1)
        asked = Request(f"http://127.0.0.1:{port}/", headers={"Host": "user-name.hf.space"})
        assert urlopen(asked, timeout=30).status == 200
        page = client.Client(f"http://127.0.0.1:{port}", verbose=False)
        answer = page.predict("Who is older, Ada or Bo?", [0], "en", api_name="/answer")
        assert "first &#x27;run&#x27;" in str(answer) and " tokens" in str(answer)
        assert (folder / "qdsft" / "deploy" / "demo" / "__pycache__").is_dir()
    finally:
        process.kill()
        process.wait()
