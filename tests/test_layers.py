"""Imports go down only, as CONTRIBUTING.md lays out; read from the sources, and from a process that imports them."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "qdsft"


def module_name(path: Path) -> str:
    """Name below qdsft: `data`, `synth.world`, and for the `__init__` of a subpackage that of the subpackage."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


SOURCES = {module_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}

SUBPACKAGES = {"answers", "demo_page", "metrics", "planning", "report", "scoring", "synth"}
"""Light as a whole."""
LIGHT = {
    *[
        "__init__",
        "__main__",
        "arguments",
        "card",
        "card_metadata",
        "checkpoints",
        "clean",
        "cli",
        "cli_compare",
        "cli_data",
        "cli_data_check",
        "cli_decompose",
        "cli_demo",
        "cli_evaluate",
        "cli_plan",
        "cli_preflight",
        "cli_publish",
        "cli_runs",
        "cli_export",
        "cli_serve",
        "console",
        "data",
        "decomposition",
        "errors",
        "examples",
        "files",
        "formats",
        "gate",
        "json_rows",
        "kept_lines",
        "launch",
        "listening",
        "lengths",
        "lint",
        "problem",
        "prompt",
        "published",
        "question",
        "read_formats",
        "readers",
        "recipe",
        "record",
        "run",
        "runs",
        "schema",
        "sections",
        "self_contained",
        "similar",
        "stats",
        "strict_yaml",
        "write_formats",
        *("cli_doctor", "finding"),
        *("grid", "sweep_results"),
    ],
    *(name for name in SOURCES if name.partition(".")[0] in SUBPACKAGES),
}
BLOCKS = {
    "frames",
    "packing",
    "pieces",
    "rows",
    "interrupt",
    "recipe_trainer",
    "heap",
    "hub",
    "probe",
    "readiness",
    "training_evaluation",
    "model",
    "tokens",
    "trainer",
    "generate",
    "contracts",
    "corpus",
    "inference",
    "plot",
    "seams",
    "encoder",
    "dataset",
    *("attention", "constrained", "engine_vllm", "merging"),
    *("decoding", "processes"),
    "diagnosis",
    *("staging", "gguf_engine", "gguf_file", "modelfile"),
    *("recomputation", "supervised_loss", "sweep"),
    *("answering", "side_by_side"),
    *("agreement", "base_weights", "merge_weights"),
}
STAGES = {
    *("check", "preflight", "inspection", "train", "evaluate", "decompose", "decompose_file"),
    *("demo", "doctor", "export_gguf", "merge", "publish", "serve"),
}
LAYERS = {**dict.fromkeys(LIGHT, 0), **dict.fromkeys(BLOCKS, 1), **dict.fromkeys(STAGES, 2)}

TRL_IS_FOR = {"dataset", "recipe_trainer", "supervised_loss", "trainer"}
LIGHT_PACKAGES = {"yaml", "pydantic", "jinja2", "jsonschema", "pyarrow"}
HEAVY_PACKAGES = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes", "matplotlib"}
INSIDE_FUNCTIONS = {
    "metrics.english_model": {"spacy"},
    "similar": {"datasketch", "numpy"},
    "lengths": {"tokenizers"},
    "metrics.alignment": {"numpy", "scipy"},
    "metrics.intervals": {"numpy"},
    "metrics": {"sacrebleu"},
    "planning.config_file": {"huggingface_hub"},
    "scoring.score_files": {"tqdm"},
    "metrics.ged": {"numpy"},
    "metrics.ged_search": {"numpy", "scipy"},
    "metrics.ged_loops": {"numpy", "scipy"},
    "metrics.break_scores": {"tqdm"},
}
"""Light modules that load a package more, once one of their functions needs it."""
DOORS = {
    "__init__",
    "cli",
    "cli_data",
    "cli_data_check",
    "cli_evaluate",
    "cli_decompose",
    "cli_preflight",
    "cli_compare",
    "cli_plan",
    "cli_doctor",
    "cli_publish",
    "cli_runs",
    "cli_demo",
    "cli_serve",
    "cli_export",
}
"""Light modules whose functions open a stage, once it is asked for."""
LONGEST_MODULE = 300


def imports(source: str, package: str = "qdsft") -> Iterator[tuple[str, bool]]:
    """(module, whether at module level) of every import; qdsft's own as `qdsft.<module>`.

    `package` is the one that the source lies in, from which relative imports start.
    """
    tree = ast.parse(source)
    inside = {node for scope in ast.walk(tree) if isinstance(scope, ast.FunctionDef) for node in ast.walk(scope)}
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level]
            module = ".".join([*above, node.module or ""]).rstrip(".") if node.level else str(node.module)
            names = [f"qdsft.{alias.name}" for alias in node.names] if module == "qdsft" else [module]
        else:
            continue
        for name in names:
            yield name, node not in inside


def package_of(name: str) -> str:
    """The package that a module of SOURCES lies in; a subpackage lies in itself."""
    inside = name if f"{name}." in " ".join(LAYERS) else name.rpartition(".")[0]
    return f"qdsft.{inside}".rstrip(".")


def violations(sources: dict[str, str]) -> list[str]:
    """What in these modules breaks the layers."""
    found = [f"{name} is in no layer" for name in sources if name not in LAYERS]
    for name, source in sources.items():
        layer = LAYERS.get(name, 0)
        for module, at_top in imports(source, package_of(name)):
            top, _, rest = module.partition(".")
            target = (rest if rest in LAYERS else rest.split(".")[0]) if top == "qdsft" else ""
            if target in LAYERS:
                if LAYERS[target] > layer and (at_top or name not in DOORS):
                    found.append(f"{name} imports {target}, which is above it")
                if name in STAGES and target in STAGES:
                    found.append(f"{name} imports {target}, and both are stages")
            elif not at_top and top in INSIDE_FUNCTIONS.get(name, ()):
                continue
            elif top not in sys.stdlib_module_names | LIGHT_PACKAGES | {"qdsft"} and (layer == 0 or name == "check"):
                found.append(f"{name} imports {module} and should be light")
            elif target == "" and top == "trl" and name not in TRL_IS_FOR:
                found.append(f"{name} imports trl, which only {', '.join(sorted(TRL_IS_FOR))} may")
            if name == "check" and LAYERS.get(target) == 1:
                found.append(f"check imports {target} and should be light")
    return sorted(set(found))


def cycles(sources: dict[str, str]) -> list[str]:
    """Modules that cannot be imported before one another."""
    needs = {
        name: {module[6:] for module, at_top in imports(source, package_of(name)) if at_top and module[:6] == "qdsft."}
        & set(sources)
        for name, source in sources.items()
    }
    while free := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in free:
            del needs[name]
    return sorted(needs)


def test_every_import_goes_down() -> None:
    assert violations(SOURCES) == []


def test_there_are_no_circles() -> None:
    assert cycles(SOURCES) == []


@pytest.mark.parametrize(
    ("name", "line", "violation"),
    [
        ("data", "import torch", "data imports torch and should be light"),
        ("run", "from transformers import Trainer", "run imports transformers and should be light"),
        ("files", "def f():\n    import numpy.linalg", "files imports numpy.linalg and should be light"),
        ("examples", "from qdsft.tokens import Row", "examples imports tokens, which is above it"),
        ("recipe", "def f():\n    from qdsft.model import x", "recipe imports model, which is above it"),
        ("metrics", "from qdsft import train", "metrics imports train, which is above it"),
        ("card", "from .evaluate import x", "card imports evaluate, which is above it"),
        ("card", "from . import evaluate", "card imports evaluate, which is above it"),
        ("cli", "import qdsft.train", "cli imports train, which is above it"),
        ("cli", "from qdsft.check import check", "cli imports check, which is above it"),
        ("cli", "import transformers", "cli imports transformers and should be light"),
        ("__init__", "from qdsft.decompose import Decomposer", "__init__ imports decompose, which is above it"),
        ("tokens", "from qdsft.train import train", "tokens imports train, which is above it"),
        ("evaluate", "from qdsft.train import train", "evaluate imports train, and both are stages"),
        ("train", "def f():\n    from qdsft import check", "train imports check, and both are stages"),
        ("check", "from qdsft.model import load_config", "check imports model and should be light"),
        ("check", "import torch", "check imports torch and should be light"),
        (
            "model",
            "from trl import SFTConfig",
            "model imports trl, which only dataset, recipe_trainer, supervised_loss, trainer may",
        ),
        ("similar", "import numpy", "similar imports numpy and should be light"),
        ("lengths", "def f():\n    import numpy", "lengths imports numpy and should be light"),
        ("helpers", "import os", "helpers is in no layer"),
        ("synth.helpers", "import os", "synth.helpers is in no layer"),
        ("synth.world", "import numpy", "synth.world imports numpy and should be light"),
        ("synth.world", "from qdsft.train import train", "synth.world imports train, which is above it"),
        ("synth.world", "from .. import evaluate", "synth.world imports evaluate, which is above it"),
        ("synth", "from ..model import x", "synth imports model, which is above it"),
    ],
)
def test_a_wrong_import_is_seen(name: str, line: str, violation: str) -> None:
    assert violation in violations({name: f"{SOURCES.get(name, '')}\n{line}\n"})


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cli", "def f():\n    from qdsft.train import train"),
        ("cli", "if TYPE_CHECKING:\n    from qdsft.train import train"),
        ("train", "import torch"),
        ("data", "import os.path\nimport yaml"),
    ],
)
def test_a_right_import_is_not(name: str, line: str) -> None:
    assert violations({name: f"{SOURCES[name]}\n{line}\n"}) == []


def test_a_circle_is_seen() -> None:
    planted = {**SOURCES, "errors": "from qdsft.data import Record\n" + SOURCES["errors"]}
    assert {"data", "errors"} <= set(cycles(planted))
    planted = {**SOURCES, "synth.world": "from .steps import plan\n" + SOURCES["synth.world"]}
    assert {"synth.world", "synth.steps"} <= set(cycles(planted))


def test_every_module_has_a_layer_and_every_layer_its_modules() -> None:
    assert SOURCES.keys() == LAYERS.keys()


def test_contributing_names_every_module_in_its_layer() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| (`.*?) \|", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M)
    table = {layer: set(re.findall(r"`(\w+)`", modules)) for layer, modules in rows}
    assert table == {
        "light": {name for name in LIGHT if "." not in name} - {"__init__", "__main__"},
        "building blocks": BLOCKS,
        "stages": STAGES,
    }


def test_no_module_is_a_drawer_or_too_long() -> None:
    assert not {name.rpartition(".")[2] for name in SOURCES} & {"utils", "util", "helpers", "common", "misc"}
    lengths = {name: source.count("\n") for name, source in SOURCES.items()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_MODULE} == {}


def test_handlers_import_their_stage_themselves() -> None:
    doors = [name for name in SOURCES if name == "cli" or name.startswith("cli_")]
    for name in doors:
        at_top = {module for module, top in imports(SOURCES[name]) if top and module.startswith("qdsft.")}
        others = {module for module in at_top if not module.startswith("qdsft.cli_")}
        assert others <= {"qdsft.arguments", "qdsft.console", "qdsft.errors"}, name
    inside = {module for name in doors for module, top in imports(SOURCES[name]) if not top}
    assert inside >= {f"qdsft.{stage}" for stage in STAGES}


def test_no_code_knows_a_model_by_name() -> None:
    names = re.compile(r"(?<!o)llama(?!index|.?cpp)|mistral|gemma|qwen|alpaca|polyglot|gpt.?neo", re.IGNORECASE)
    for name, source in SOURCES.items():
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            said = token.string.startswith(('"""', "'''")) or token.type == tokenize.COMMENT
            assert said or not names.search(token.string), f"{name}:{token.start[0]}: {token.string}"


def test_light_modules_load_nothing_heavy() -> None:
    modules = sorted((LIGHT - {"__main__"}) | {"check"})
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module('qdsft.' + name)\n"
        f"print(sorted({HEAVY_PACKAGES!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[]\n", "")
