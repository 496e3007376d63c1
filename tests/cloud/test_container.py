"""The image's description: linted, and its installation steps run for real where asked to. No image is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    if line.strip() and not line.startswith("#")
]
"""(instruction, the rest) of each step."""


def steps(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a path out of the image; `*` stays within a folder, `**/` is any number of them."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] != "#"]
    parts = {r"\*\*/": "(.*/)?", r"\*": "[^/]*"}
    for pattern in map(re.escape, patterns):
        for escaped, meaning in parts.items():
            pattern = pattern.replace(escaped, meaning)
        if re.match(f"{pattern}(/|$)", path):
            return True
    return False


def test_hadolint_finds_nothing() -> None:
    places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=places)
    if hadolint is None:
        pytest.skip("hadolint is not installed; it comes with make setup")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_image_is_pinned() -> None:
    [image] = [line for line in steps("ARG") if line.startswith("CUDA_IMAGE=")]
    assert re.fullmatch(r"CUDA_IMAGE=nvidia/cuda:\d+\.\d+\.\d+-runtime-ubuntu24\.04", image)
    assert steps("FROM") == ["${CUDA_IMAGE}"]
    named = set(re.findall(r"nvidia/cuda:(\d+)\.", DOCKERFILE))
    from qdsft.planning.doctor.machine_checks import PINNED_CUDA

    assert named == {str(PINNED_CUDA)}


def test_it_installs_as_everything_else_does() -> None:
    installing = [line for line in steps("RUN") if "pip" in line or "install.sh" in line]
    assert len(installing) == 2 and all("scripts/install.sh " in line for line in installing)
    assert "scripts/install.sh " in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "scripts/install.sh " in (ROOT / "scripts" / "train_runpod.sh").read_text(encoding="utf-8")


def test_no_root_and_no_secrets() -> None:
    order = [name for name, _ in STEPS]
    assert order.index("USER") < order.index("ENTRYPOINT") < order.index("CMD")
    [user] = steps("USER")
    assert int(user) > 0
    assert not re.search(r"token|secret|password", " ".join(steps("ENV") + steps("ARG")), re.IGNORECASE)


@pytest.mark.parametrize(
    ("path", "kept_out"),
    [
        (".env", True),
        (".git/config", True),
        (".venv/bin/python", True),
        ("data/mine.jsonl", True),
        ("outputs/run/adapter", True),
        ("models/tiny/config.json", True),
        ("qdsft/__pycache__/cli.pyc", True),
        ("data/examples/sample_train.jsonl", False),
        ("recipes/llama2/qlora.yaml", False),
        ("README.md", False),
        ("LICENSE", False),
    ],
)
def test_files_of_the_image(path: str, kept_out: bool) -> None:
    assert ignored(path) == kept_out


def test_copied_files_exist_and_are_not_ignored() -> None:
    for line in steps("COPY"):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() and not ignored(source) for source in sources if source != ".")


def test_compose_and_development_container_use_this_image() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {"qdsft", "cpu"}
    for service in compose["services"].values():
        assert service["build"] == "." and service["environment"] == ["HF_TOKEN"]
    folder = ROOT / ".devcontainer"
    development = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    assert (folder / development["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"
    assert (folder / development["build"]["context"]).resolve() == ROOT
    # Mounted where the image has its own copy, which is what its environment imports.
    assert [development["workspaceFolder"]] == steps("WORKDIR")
    assert f"useradd --create-home --uid {steps('USER')[0]} {development['remoteUser']} " in DOCKERFILE.replace(
        "\\", ""
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    "QDSFT_TEST_IMAGE" not in os.environ, reason="installs 1.6 GB in minutes; QDSFT_TEST_IMAGE=1 runs it"
)
def test_the_installation_steps_end_in_a_working_environment(tmp_path: Path) -> None:
    context, venv = tmp_path / "app", tmp_path / "venv"
    context.mkdir()
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    environment = {**os.environ, "EXTRAS": "deepspeed", "VIRTUAL_ENV": ""}
    environment.pop("PYTHONPATH", None)
    started = time.monotonic()
    for name, rest in STEPS:
        if name == "COPY":
            wanted = listed if rest == ". ." else rest.split()[:-1]
            for path in wanted:
                if not ignored(path) and (ROOT / path).is_file():
                    (context / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / path, context / path)
        elif name == "RUN" and "install.sh" in rest:
            line = re.sub(r"--mount=\S+", "", rest).replace("/opt/venv", str(venv))
            subprocess.run(["bash", "-euc", line], cwd=context, env=environment, check=True)
    print(f"{time.monotonic() - started:.0f} s")
    for command in (["qdsft", "--version"], ["qdsft", "recipe", "recipes/tiny/full.yaml"], ["accelerate", "--help"]):
        program = venv / "bin" / command[0]
        done = subprocess.run([program, *command[1:]], cwd=context, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    where = [str(venv / "bin" / "python"), "-c", "import qdsft; print(qdsft.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout.strip()
    assert found == str(context / "qdsft" / "__init__.py")


def test_users_data_and_keys_stay_out_of_the_image() -> None:
    kept_by_git = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.removeprefix("/") for line in kept_by_git if "*." in line and "egg" not in line]
    of_users = [pattern.replace("*", "mine") for pattern in patterns]
    assert {Path(name).suffix for name in of_users} >= {".csv", ".tsv", ".parquet", ".json", ".jsonl", ".gz", ".tmp"}
    assert [name for name in [*of_users, "id.pem", "keys/a.key", ".env"] if not ignored(name)] == []
    assert not any(ignored(name) for name in ("data/examples/sample_train.json", "data/DATA_FORMAT.md"))
