"""The image's description: linted, and its installation steps run for real where asked to. No image is built here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
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
@pytest.mark.timeout(3600)
@pytest.mark.skipif("QDSFT_TEST_IMAGE" not in os.environ, reason="QDSFT_TEST_IMAGE=1 builds the image, as root")
def test_the_image_is_built_and_trains_as_another_user(tmp_path: Path) -> None:
    """QDSFT_TEST_IMAGE holds options of buildah, such as mounts, or 1."""
    options = os.environ["QDSFT_TEST_IMAGE"].removeprefix("1").split()
    done = subprocess.run(["tests/cloud/build_image.sh", tmp_path, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "user 10001" in done.stdout


def test_users_data_and_keys_stay_out_of_the_image() -> None:
    kept_by_git = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    patterns = [line.removeprefix("/") for line in kept_by_git if "*." in line and "egg" not in line]
    of_users = [pattern.replace("*", "mine") for pattern in patterns]
    assert {Path(name).suffix for name in of_users} >= {".csv", ".tsv", ".parquet", ".json", ".jsonl", ".gz", ".tmp"}
    assert [name for name in [*of_users, "id.pem", "keys/a.key", ".env"] if not ignored(name)] == []
    assert not any(ignored(name) for name in ("data/examples/sample_train.json", "data/DATA_FORMAT.md"))
