"""The packages of qdsft import one way, the light ones load no torch, and no module is too long."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.source_imports import PACKAGES, SOURCES, imports, package_of

NO_TORCH = {*PACKAGES[: PACKAGES.index("model")], "cli"}
"""Packages whose modules import nothing heavy when they are imported."""
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "bitsandbytes",
    "matplotlib",
    "numpy",
    "scipy",
}
LAZY = {("qdsft.__main__", "qdsft.cli.main")}
"""Imports that run against the order, since they are done when a name is used or a program starts."""
LONGEST_MODULE, LONGEST_FUNCTION = 300, 60
TESTED_FROM = 60
"""Number of lines above which a module has a test file with its name."""


def violations(sources: dict[str, str]) -> list[str]:
    """What in these modules breaks the order."""
    found = []
    for name, source in sources.items():
        order = PACKAGES.index(package_of(name))
        for target, at_top in imports(name, source):
            top = target.partition(".")[0]
            if top == "qdsft":
                back = PACKAGES.index(package_of(target)) > order
                if back and (name, target) not in LAZY:
                    found.append(f"{name} imports {target}, which is above it")
                if package_of(name) == "cli" and at_top and package_of(target) not in {"top", "cli"}:
                    found.append(f"{name} imports {target} before a command needs it")
            elif top in HEAVY and at_top and package_of(name) in NO_TORCH:
                found.append(f"{name} imports {target} when it is imported")
            elif top == "trl" and package_of(name) not in {"tokenization", "training"}:
                found.append(f"{name} imports trl")
    return sorted(set(found))


def circles(sources: dict[str, str]) -> list[str]:
    """Modules that cannot be imported before one another."""
    needs = {
        name: {target for target, at_top in imports(name, source) if at_top and target in sources and target != name}
        for name, source in sources.items()
    }
    while free := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in free:
            del needs[name]
    return sorted(needs)


def test_imports_go_one_way() -> None:
    assert violations(SOURCES) == []


def test_there_are_no_circles() -> None:
    assert circles(SOURCES) == []


@pytest.mark.parametrize(
    ("name", "line", "violation"),
    [
        ("qdsft.files", "from qdsft.recipe import Recipe", "qdsft.files imports qdsft.recipe, which is above it"),
        ("qdsft.recipe.load", "import torch", "qdsft.recipe.load imports torch when it is imported"),
        ("qdsft.recipe.load", "import numpy.linalg", "qdsft.recipe.load imports numpy.linalg when it is imported"),
        (
            "qdsft.data.split",
            "def f():\n    from qdsft.runs import layout",
            "qdsft.data.split imports qdsft.runs.layout, which is above it",
        ),
        (
            "qdsft.metrics.scores",
            "from ..training.train import train",
            "qdsft.metrics.scores imports qdsft.training.train, which is above it",
        ),
        ("qdsft.model.loading", "from trl import SFTConfig", "qdsft.model.loading imports trl"),
        (
            "qdsft.inference.evaluate",
            "from qdsft import training",
            "qdsft.inference.evaluate imports qdsft.training, which is above it",
        ),
        (
            "qdsft.cli.main",
            "from qdsft.training.train import train",
            "qdsft.cli.main imports qdsft.training.train before a command needs it",
        ),
        ("qdsft.cli.main", "import transformers", "qdsft.cli.main imports transformers when it is imported"),
        ("qdsft", "from qdsft.recipe import Recipe", "qdsft imports qdsft.recipe, which is above it"),
    ],
)
def test_a_wrong_import_is_seen(name: str, line: str, violation: str) -> None:
    assert violation in violations({name: f"{SOURCES[name]}\n{line}\n"})


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("qdsft.cli.main", "def f():\n    from qdsft.training.train import train"),
        ("qdsft.cli.main", "if TYPE_CHECKING:\n    from qdsft.training.train import train"),
        ("qdsft.training.train", "import torch"),
        ("qdsft.metrics.scores", "def f():\n    import numpy"),
        ("qdsft.data.split", "import os.path\nimport yaml"),
    ],
)
def test_a_right_import_is_not(name: str, line: str) -> None:
    assert violations({name: f"{SOURCES[name]}\n{line}\n"}) == []


def test_a_circle_is_seen() -> None:
    name = "qdsft.data.synth.world"
    planted = {**SOURCES, name: "from .steps import plan\n" + SOURCES[name]}
    assert {name, "qdsft.data.synth.steps"} <= set(circles(planted))


def test_every_module_is_in_a_package() -> None:
    assert {package_of(name) for name in SOURCES} == set(PACKAGES)
    assert {path.name for path in (ROOT / "qdsft").iterdir() if path.is_dir() and path.name[0] != "_"} == {
        *PACKAGES[1:]
    }


def test_light_packages_load_nothing_heavy() -> None:
    modules = sorted(name for name in SOURCES if package_of(name) in NO_TORCH and name != "qdsft.__main__")
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_no_module_is_a_drawer_or_too_long() -> None:
    assert not {name.rpartition(".")[2] for name in SOURCES} & {"utils", "util", "helpers", "common", "misc"}
    assert {name for name, source in SOURCES.items() if source.count("\n") > LONGEST_MODULE} == set()


def test_no_script_is_too_long() -> None:
    scripts = [path for folder in ("scripts", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    too_long = [path for path in scripts if path.read_text(encoding="utf-8").count("\n") > LONGEST_MODULE]
    assert len(scripts) > 20 and too_long == []


def test_no_function_is_too_long() -> None:
    functions = [
        (f"{name}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for name, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [(where, lines) for where, lines in functions if lines > LONGEST_FUNCTION] == []


def test_no_module_names_a_model() -> None:
    # LlamaIndex is a format, LLaMA-Factory, Ollama and llama.cpp are programs.
    models = r"(?<![ox])llama(?!index|.?cpp|-factory)|mistral|gemma|qwen|alpaca|polyglot|gpt.?neo"
    names = re.compile(models, re.IGNORECASE)
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, source in SOURCES.items()
        for number, line in enumerate(source.splitlines(), start=1)
        if names.search(line)
    ]
    assert found == []


def test_no_test_imports_another() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in (ROOT / "tests").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*(from|import) (\S*\.)?test_\w+", line)
    ]
    assert found == []


def test_each_module_has_its_unit_tests() -> None:
    missing = []
    for path in sorted((ROOT / "qdsft").rglob("*.py")):
        place = path.relative_to(ROOT / "qdsft")
        name = place.parent.name if path.name == "__init__.py" else path.stem
        test = ROOT / "tests" / "unit" / place.parent / f"test_{name}.py"
        if path.read_text(encoding="utf-8").count("\n") > TESTED_FROM and not test.is_file():
            missing.append(test.relative_to(ROOT).as_posix())
    assert missing == []
