"""Folders and files that belong to another user are refused in one line, and nothing is left in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.corpus.workspace import build_workspace
from helpers.paths import RECIPES, ROOT

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tiny_model: Callable[[str], Path]) -> Iterator[Path]:
    """A workspace of root's that nobody else may change; `secret*` may not even be read."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv")
    above = Path(tempfile.mkdtemp(prefix="qdsft-user-"))
    above.chmod(0o755)
    build_workspace(above / "w", tiny_model("llama"), RECIPES / "tiny" / "chat_template.jinja")
    for path in (above / "w").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.copyfile(above / "w" / "rows.jsonl", above / "w" / "secret.jsonl")
    shutil.copytree(above / "w" / "runs" / "adapter", above / "w" / "secret")
    for path in (above / "w" / "secret.jsonl", above / "w" / "secret" / "run.json"):
        path.chmod(0o600)
    (above / "mine").mkdir()
    shutil.chown(above / "mine", 65534, 65534)
    if run(above / "w", "--version")[0]:
        shutil.rmtree(above)
        pytest.skip("another user cannot read this checkout or its Python")
    yield above / "w"
    shutil.rmtree(above)


def run(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Run a command as another user in `folder`; return its status and what it printed to standard error."""
    mine = str(folder.parent / "mine")
    own = {"HOME": mine, "QDSFT_CACHE": f"{mine}/cache", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **own, "HF_HOME": f"{mine}/hub", **variables}
    command = [*NOBODY, sys.executable, "-m", "qdsft", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("data convert --from jsonl --to qdmr rows.jsonl out.csv", "out.csv: cannot be written: Permission denied"),
        ("data check rows.jsonl --write-clean new/out.jsonl", "new/out.jsonl: cannot be written: Permission denied"),
        ("compare runs/adapter runs/adapter --output page.html", "page.html: cannot be written: Permission denied"),
        ("check recipe.yaml data.train=secret.jsonl", "secret.jsonl: Permission denied"),
        ("data stats secret.jsonl", "secret.jsonl: Permission denied"),
        ("decompose secret a?", "secret/run.json: Permission denied; make it a readable file"),
        ("train recipe.yaml training.output_dir=new", "new: cannot be written: Permission denied"),
        ("evaluate runs/adapter", "runs/adapter: cannot be written: Permission denied"),
    ],
)
def test_a_folder_of_another_user(folder: Path, arguments: str, message: str) -> None:
    before = names(folder)
    status, said = run(folder, *arguments.split())
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and message in errors[0], said
    assert "Traceback" not in said and names(folder) == before


def test_a_run_that_cannot_be_read_does_not_hide_the_others(folder: Path) -> None:
    status, said = run(folder, "runs", ".")
    assert status == 0, said


@pytest.mark.parametrize("variables", [{"QDSFT_CACHE": "runs/cache"}, {"HF_HOME": "runs/hub", "HOME": "/proc"}])
def test_a_cache_of_another_user(folder: Path, variables: dict[str, str]) -> None:
    before = names(folder)
    status, said = run(folder, "inspect", "recipe.yaml", "-n", "1", **variables)
    assert status == (1 if "QDSFT_CACHE" in variables else 0), said
    if status:
        [error] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "runs/cache" in error and "QDSFT_CACHE" in error
    assert "Traceback" not in said and names(folder) == before
