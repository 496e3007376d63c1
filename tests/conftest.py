"""What all tests share: no network, and tiny models that are built once a session."""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from helpers.command_server import CommandServer
from helpers.paths import ROOT
from hypothesis import settings

from qdsft.data.synth import generate_mixed
from qdsft.files import write_new_lines

# Read by huggingface_hub and tokenizers when they are imported, which is after this.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")

# Prepared data of the tests are theirs alone.
os.environ["QDSFT_CACHE"] = tempfile.mkdtemp(prefix="qdsft-tests-")
atexit.register(shutil.rmtree, os.environ["QDSFT_CACHE"], ignore_errors=True)

# A machine under load is no failure.
settings.register_profile("qdsft", deadline=None)
settings.load_profile("qdsft")

LONG = ("test_quickstart.py", "test_crash.py", "test_distributed.py")
"""Files of tests that take minutes: first, so that several processes end at about the same time."""


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name bytes by their number: compressed ones hold the time, and every process must see the same names."""
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests: the long ones first, then as they are written."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def quick_python() -> Iterator[str]:
    """An interpreter that has imported everything already, for processes that tests start."""
    server = CommandServer()
    yield server.python
    server.close()


SCRIPTS = ROOT / "scripts"


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Import a file of scripts/ by its name, without .py."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def synthetic_corpus() -> Path:
    """The data of recipes/tiny, made as its header says, where nobody has done so yet."""
    path = SCRIPTS.parent / "data" / "synthetic.jsonl"
    if not path.exists():
        write_new_lines(
            path, (json.dumps(row, ensure_ascii=False) for row in generate_mixed(["en", "ko"], 10_000, 0, 3))
        )
    return path


@pytest.fixture(scope="session")
def tiny_model(
    load_script: Callable[[str], ModuleType], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Folder of the tiny model of an architecture (llama, mistral, gpt_neox, qwen3, gemma3_text)."""
    root = tmp_path_factory.mktemp("tiny-models")

    def build(architecture: str) -> Path:
        load_script("make_tiny_model").build(architecture, root / architecture)  # nothing to do the second time
        return root / architecture

    return build


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the runs outputs/tiny-full and outputs/tasks-tool_routing, whose weights are random."""
    from helpers.tiny_run import make_run  # imports torch

    outputs, model = tmp_path_factory.mktemp("tiny-run") / "outputs", tiny_model("llama")
    template = f"model.chat_template={ROOT / 'recipes' / 'tiny' / 'chat_template.jinja'}"
    make_run(outputs / "tiny-full", model)
    make_run(outputs / "tasks-tool_routing", model, "tasks/tool_routing", template, lora_scale=0.1)
    return outputs.parent
