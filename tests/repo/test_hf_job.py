"""examples/hf_job.py: its header, and its commands on a tiny model."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from helpers.installed_packages import PROJECT
from helpers.paths import ROOT
from helpers.pushing import REPO, reachable_hub
from packaging.requirements import Requirement

from qdsft.tested_versions import pinned_versions

SCRIPT = ROOT / "examples" / "hf_job.py"
TEXT = SCRIPT.read_text(encoding="utf-8")
# As PEP 723 reads it.
HEADER = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")


def test_its_header_installs_this_repository_with_the_tested_torch() -> None:
    (found,) = HEADER.finditer(TEXT)
    lines = found["content"].splitlines()
    values = tomllib.loads("\n".join(line[2:] if line.startswith("# ") else line[1:] for line in lines))
    assert found["type"] == "script" and values["requires-python"] == PROJECT["project"]["requires-python"]
    required = {one.name: one for one in map(Requirement, values["dependencies"])}
    assert required["qdsft"].url == f"git+{PROJECT['project']['urls']['Repository']}"
    assert str(required["torch"].specifier) == f"=={pinned_versions()['torch']}" and len(required) == 2


@pytest.mark.slow
def test_a_job_trains_evaluates_and_pushes(
    tiny_model: Callable[[str], Path],
    load_script: Callable[[str], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Twice: the second attempt of a finished run does not train again."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    rows, run_dir = ROOT / "data" / "examples" / "sample_train.jsonl", tmp_path / "run"
    overrides = [f"model.name_or_path={tiny_model('llama')}", f"data.train={rows}", "training.max_steps=2"]
    overrides += [f"training.output_dir={run_dir}", "training.report_to=none", "evaluation.max_new_tokens=8"]
    monkeypatch.setattr(sys, "argv", ["hf_job.py", "tiny/full", "--push-to", REPO, *overrides])
    main = load_script("../examples/hf_job").main
    with reachable_hub(monkeypatch, tmp_path / "home") as hub:
        for trains in (True, False):
            assert main() == 0
            said = "".join(capsys.readouterr())
            assert ("finished: " in said) == trains and f"pushed to {hub.url}/{REPO}" in said
        assert {"model.safetensors", "run.json", "README.md"} <= hub.repos[REPO].branches["main"].keys()
        assert (run_dir / "metrics.json").is_file()
        monkeypatch.setattr(sys, "argv", ["hf_job.py", "tiny/full", "training.learning_rte=1", *overrides])
        with pytest.raises(SystemExit, match="1"):
            main()
        assert "did you mean learning_rate" in capsys.readouterr().err
