"""The code of docs/PYTHON.md runs as it is written, beside the folders of a clone and on a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT

PAGE = (ROOT / "docs" / "PYTHON.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_code_of_the_page(tmp_path: Path, tiny_model: Callable[[str], Path]) -> None:
    assert len(BLOCKS) == 2
    for name in ("data", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-llama").symlink_to(tiny_model("llama"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", "\n".join(BLOCKS)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("full outputs/tiny-full 0.004") and "True" in lines[1]
    assert any(line.startswith("outputs/tiny-full outputs/tiny-full/model ") for line in lines)
    promised = re.search(r"print\(error\)  # (.*)", PAGE)
    assert promised and lines[-1] == promised[1]
    assert (tmp_path / "outputs" / "from-python" / "run.json").is_file()
