"""Run the scripts in examples/ and the code of docs/INTEGRATIONS.md beside the real library.

The libraries are in an environment that tests/install_optional.sh makes: some of their pins are not ours.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from helpers.pages import fences
from helpers.paths import ROOT

EXAMPLES = ROOT / "examples"
SITE = os.environ.get("QDSFT_HANDOVER_PACKAGES", "")
"""The folder of their packages, which come before ours."""
OFFLINE = {"HAYSTACK_TELEMETRY_ENABLED": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1"}
STEPS = [
    "  1. Which university did Ada Berg attend? Norwick University",
    "  2. Which university did Bo Lind attend? Halden Institute",
    "  3. When was Norwick University founded? 1820",
    "  4. When was Halden Institute founded? 1907",
    "  5. Is 1820 less than 1907? yes",
]
"""What the examples print of examples/decomposition.json."""


def needs(package: str) -> pytest.MarkDecorator:
    """Skip without a package."""
    there = bool(SITE) and (Path(SITE) / package).is_dir()
    return pytest.mark.skipif(not there, reason=f"QDSFT_HANDOVER_PACKAGES names no folder with {package}")


def run_code(python: str, code: str, folder: Path) -> list[str]:
    """Return the lines that code prints; it finds the library and the examples."""
    environment = {**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join([SITE, str(EXAMPLES), str(ROOT)])}
    command = [python, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def code_of(heading: str) -> str:
    """Return the Python code under a heading of docs/INTEGRATIONS.md."""
    page = ROOT / "docs" / "INTEGRATIONS.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    start = lines.index(f"## {heading}") + 1
    end = next((i for i, line in enumerate(lines, start=1) if i > start and line.startswith("## ")), len(lines))
    (code,) = [fence.text for fence in fences(page) if fence.language == "python" and start < fence.line < end]
    return code
