"""Versions and commit of a run, read without running programs of a foreign repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from qdsft.runs.provenance import git_commit, versions


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("x", encoding="utf-8")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x@x")


def make_commit() -> None:
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "r.yaml"], check=True)
    subprocess.run(["git", "commit", "-q", "-m", "x", "--no-gpg-sign"], check=True)


def test_versions_name_what_is_installed() -> None:
    found = versions()
    assert "pydantic" not in found
    assert all(isinstance(version, str) and version for version in found.values())


def test_the_commit_of_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_commit() is None
    subprocess.run(["git", "init", "-q"], check=True)
    assert git_commit() is None  # no commit yet
    make_commit()
    commit = git_commit()
    assert commit is not None and len(commit) == 40
    Path("r.yaml").write_text("changed", encoding="utf-8")
    assert git_commit() == f"{commit}-dirty"
    monkeypatch.setenv("PATH", "/nowhere")
    assert git_commit() is None


def test_programs_of_a_foreign_repository_are_not_run() -> None:
    make_commit()
    for place in ("monitor.sh", ".git/hooks/post-index-change"):
        Path(place).parent.mkdir(exist_ok=True)
        Path(place).write_text("#!/bin/sh\ntouch planted\n", encoding="utf-8")
        Path(place).chmod(0o755)
    subprocess.run(["git", "config", "core.fsmonitor", str(Path("monitor.sh").absolute())], check=True)
    Path("r.yaml").touch()  # the index is stale, which calls the hook
    found = git_commit()
    assert found is not None and found.endswith("-dirty") and not Path("planted").exists()
    subprocess.run(["git", "status", "--porcelain"], check=True, capture_output=True)
    assert Path("planted").exists()  # plain git runs them
