"""An empty environment variable counts as unset, also for the libraries that read it themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.environment import remove_empty_variables, variable
from qdsft.planning.doctor import doctor


def test_an_empty_value_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "")
    assert variable("RANK", "0") == "0" and variable("RANK") == ""
    monkeypatch.setenv("RANK", "3")
    assert variable("RANK", "0") == "3"


def test_only_empty_variables_of_libraries_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"HF_HOME": "", "TRITON_CACHE_DIR": "", "HF_HUB_CACHE": "/cache", "CUDA_VISIBLE_DEVICES": "", "OTHER": ""}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert {"HF_HOME", "TRITON_CACHE_DIR"} <= set(remove_empty_variables())
    assert "HF_HOME" not in os.environ and "TRITON_CACHE_DIR" not in os.environ
    assert [os.environ.get(name) for name in ("HF_HUB_CACHE", "CUDA_VISIBLE_DEVICES", "OTHER")] == ["/cache", "", ""]


def test_the_example_followed_literally_downloads_into_the_home_folder(tmp_path: Path) -> None:
    script = f"""
set -a; . {ROOT / ".env.example"}; set +a
env | grep -q '^HF_HOME=$' || exit 1
exec {sys.executable} -c 'import qdsft
from huggingface_hub import constants, get_token
print(constants.HF_HUB_CACHE, constants.HF_HOME, get_token())'
"""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == [f"{tmp_path}/.cache/huggingface/hub", f"{tmp_path}/.cache/huggingface", "None"]


def test_doctor_names_empty_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EMPTY_VARIABLES", ("HF_HOME", "HF_TOKEN"))
    finding = doctor.caches()
    assert finding.status == "note"
    assert "set to an empty value, which counts as unset: HF_HOME, HF_TOKEN; give a value" in str(finding)
