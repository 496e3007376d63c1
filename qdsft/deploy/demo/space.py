"""Write a folder that a Gradio Space of the Hugging Face Hub runs: the page of `qdsft demo`, and the runs it shows."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from huggingface_hub import SpaceCardData
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qdsft import __version__
from qdsft.deploy.push import public_files
from qdsft.errors import UserError
from qdsft.files import exclusive, new_directory, refuse_existing_folder
from qdsft.recipe.schema import SCHEMA, shipped_recipes
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.public import base_on_hub
from qdsft.tested_versions import installed_version, pinned_versions

OTHER = "choose another --export"
APP = '''"""Show the runs in the folder runs/ decompose questions. Written by qdsft {version}."""

import os
from pathlib import Path

# The Hub's proxy passes on the visitors' addresses, by which places in the queue are shared out.
os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")

from qdsft.deploy.demo.app import demo

runs = Path(__file__).resolve().parent / "runs"
demo(
    [{runs}],
    host="0.0.0.0",
    port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    base={base},
    constrained={constrained},
    share=False,
)
'''
README = """---
{header}
---

# {title}

A fine-tuned language model splits a complex question into simple ones.

Written by `qdsft demo --export` (qdsft {version}). `runs` holds the models or adapters, `qdsft` the program
(MIT licence), and `requirements.txt` the versions that the program was tested with.
"""


def export_space(run_dirs: Sequence[Path], folder: Path, *, base: bool, constrained: bool) -> None:
    """Write the Space to `folder`, which appears when it is complete.

    Of a run it holds what `qdsft push` uploads. Raises UserError if `folder` exists, for a model that the Space could
    not get from the Hub, and as `public_files` does.
    """
    refuse_existing_folder(folder, "--export")
    names = [run_dir.resolve().name for run_dir in run_dirs]
    if len(set(names)) < len(names):
        names = [f"{name}-{number}" for number, name in enumerate(names, 1)]
    runs = dict(zip(names, run_dirs, strict=True))
    manifests = {name: read_finished(run_dir) for name, run_dir in runs.items()}
    needed = [
        one for number, one in enumerate(manifests.values()) if one.artifact == "adapter" or (base and not number)
    ]
    for manifest in needed:
        _check_base(manifest)
    with exclusive(folder, OTHER, doing="writing it"), new_directory(folder, OTHER) as space:
        for name, run_dir in runs.items():
            for path, content in public_files(run_dir, manifests[name], name).items():
                target = space / "runs" / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    target.write_bytes(content)
                else:
                    shutil.copyfile(content, target)
        _copy_package(space / "qdsft")
        listed = ", ".join(f"runs / {name!r}" for name in runs)
        app = APP.format(version=__version__, runs=listed, base=base, constrained=constrained)
        readme = README.format(header=_header(folder.name, needed), title=folder.name, version=__version__)
        texts = {"app.py": app, "README.md": readme, "requirements.txt": requirements(constrained=constrained)}
        for path, text in texts.items():
            (space / path).write_text(text, encoding="utf-8", newline="\n")


def _check_base(manifest: Manifest) -> None:
    if not base_on_hub(manifest):
        raise UserError(
            f"--export: the base model {manifest.base_model.name_or_path} is not on the Hub, where a Space gets it; "
            "merge the adapter and export the merged model, or leave out --base"
        )


def _header(title: str, needed: Sequence[Manifest]) -> str:
    """Return the header by which the Hub knows how to run the Space."""
    data = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=installed_version("gradio"),
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        app_file="app.py",
        models=sorted({manifest.base_model.name_or_path for manifest in needed}) or None,
    )
    return str(data.to_yaml())


def requirements(*, constrained: bool) -> str:
    """Return the packages that the page needs beside Gradio, which the Space installs by `sdk_version`."""
    extras = ("demo", "constrained") if constrained else ("demo",)
    tested, lines = pinned_versions(), set()
    for line in metadata.requires("qdsft") or []:
        requirement = Requirement(line)
        marker = requirement.marker
        if requirement.name != "gradio" and (not marker or any(marker.evaluate({"extra": extra}) for extra in extras)):
            version = tested.get(canonicalize_name(requirement.name)) or installed_version(requirement.name)
            lines.add(f"{requirement.name}=={version}\n" if version else f"{requirement.name}{requirement.specifier}\n")
    return "".join(sorted(lines, key=str.lower))


def _copy_package(target: Path) -> None:
    """Copy this package, which no package index has, with the schema of recipes and the licence."""
    package = Path(__file__).parents[2]
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", "recipes"))
    (target / "recipes").mkdir()
    shutil.copyfile(shipped_recipes() / SCHEMA, target / "recipes" / SCHEMA)
    licence = next(file for folder in (package, package.parent) if (file := folder / "LICENSE").is_file())
    shutil.copyfile(licence, target / "LICENSE")
