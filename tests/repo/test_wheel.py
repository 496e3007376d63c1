"""What `python -m build` makes: a source archive, and from it a wheel that carries recipes, templates and schema."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from helpers.paths import ROOT

MISSING = [name for name in ("build", "hatchling") if importlib.util.find_spec(name) is None]


def run(*command: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed, and a test downloads nothing")
def test_it_installs_and_finds_its_recipes(tmp_path: Path) -> None:
    made, site, empty = tmp_path / "dist", tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(ROOT), folder=empty)
    (source,) = made.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"README.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "scripts/run_sft.py", "docs/PLAN.md"}
    assert wanted | {"data/examples/sample_train.jsonl", "tests/repo/test_wheel.py", "benchmarks/step.py"} <= names
    assert not {name for name in names if name.startswith(("outputs/", "models/", "data/synthetic", ".venv/"))}

    (wheel,) = made.glob("*.whl")
    for package in (wheel, source):
        check_installed(package, site / package.suffix, empty)


def check_installed(package: Path, site: Path, empty: Path) -> None:
    """Install the package into a separate folder, and use it from an empty folder."""
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    run(sys.executable, "-m", *install, str(package), folder=empty)
    packaged = {path.relative_to(site / "qdsft").as_posix() for path in (site / "qdsft" / "recipes").rglob("*.*")}
    assert packaged == {path.relative_to(ROOT).as_posix() for path in (ROOT / "recipes").rglob("*.*")}
    assert (site / "qdsft" / "requirements.txt").read_bytes() == (ROOT / "requirements.txt").read_bytes()
    assert (site / "qdsft" / "accelerate_configs" / "zero2.yaml").is_file()
    assert (site / "qdsft" / "data" / "synth" / "world.txt").is_file()
    assert {"recipes/recipe.schema.json", "recipes/mistral/chat_template.jinja"} <= packaged
    templates = Path("qdsft/scoring/report/templates")
    assert {path.name for path in (site / templates).iterdir()} == {path.name for path in (ROOT / templates).iterdir()}
    command = str(site / "bin" / "qdsft")
    assert "COMMAND" in run(command, "--help", folder=empty, PYTHONPATH=str(site))
    shown = run(command, "recipe", "mistral/qlora_8gb", folder=empty, PYTHONPATH=str(site))
    assert str(site / "qdsft" / "recipes" / "mistral" / "qlora_8gb.yaml") in shown and str(ROOT) not in shown
    rows = ROOT / "data" / "examples" / "sample_train.jsonl"
    checked = run(command, "check", "mistral/qlora_8gb", f"data.train={rows}", folder=empty, PYTHONPATH=str(site))
    assert f"chat template: {site / 'qdsft' / 'recipes' / 'mistral' / 'chat_template.jinja'}" in checked
    # The example rows are not installed.
    done = subprocess.run(
        [command, "check", "mistral/qlora_8gb"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert done.stderr.endswith("give another with data.train=FILE, or a Hub dataset as user/name\n")
