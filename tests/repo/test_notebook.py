"""examples/quickstart.ipynb: its cells are executed in order, in one namespace as a kernel does, on the tiny model.

The cells are plain Python without magics, so that no kernel is needed here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.installed_packages import PROJECT
from helpers.paths import ROOT

NOTEBOOK: dict[str, Any] = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text(encoding="utf-8"))
CELLS: list[dict[str, Any]] = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(names)) == len(names) > 10
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)


def test_it_installs_this_repository() -> None:
    text = json.dumps(NOTEBOOK)
    address = PROJECT["project"]["urls"]["Repository"]
    assert f'\\"{address}\\"]' in text and f"{address.removeprefix('https://github.com')}/blob/main/examples/" in text


def test_gpu_cells_have_their_own_condition() -> None:
    marked = [cell for cell in CELLS if "gpu" in cell["metadata"].get("tags", [])]
    assert len(marked) == 2
    for cell in marked:
        last = ast.parse("".join(cell["source"])).body[-1]
        assert isinstance(last, ast.If) and ast.unparse(last.test) == "has_gpu" and last.orelse


@pytest.mark.slow
def test_its_cells_run_on_a_cpu(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("data", "recipes", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny-llama").symlink_to(tiny_model("llama"))  # the cell that builds it finds it there
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")  # where Jupyter starts
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for cell in CELLS:
        exec(compile("".join(cell["source"]), cell["id"], "exec"), namespace)
    out = capfd.readouterr().out
    assert out.count("skipped: no GPU") == 2
    assert "outputs/notebook last loss: " in out and "Who is older, Ada Lovelace" in out
    assert (tmp_path / "outputs" / "notebook" / "report.html").is_file()
