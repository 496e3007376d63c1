"""Every command in a fenced block of the documentation is one that works."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from qdsft.cli import build_parser
from qdsft.recipe import load_recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("recipes/**/*.md"), *ROOT.glob("d*/*.md")])
FENCE = re.compile(r"^ *```(?:bash|sh)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
HEREDOC = re.compile(r"<<'END'\n.*?^ *END$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\((?!https?:|#)([^)#]+)[^)]*\)")


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for block in FENCE.findall(page.read_text(encoding="utf-8")):
            lines = HEREDOC.sub("", block.replace("\\\n", " ")).splitlines()
            found += [(page.relative_to(ROOT).as_posix(), line.strip()) for line in lines if line.strip()]
    return [(page, line) for page, line in found if not line.startswith("#")]


def test_there_are_commands() -> None:
    pages = {page for page, _ in commands()}
    assert {"README.md", "CONTRIBUTING.md", "recipes/mistral/README.md"} <= pages


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_names_what_exists(page: str, command: str) -> None:
    words = shlex.split(command, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "make":
        done = subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == "qdsft":
        _check_qdsft(rest)
    elif program == "accelerate":
        assert rest[0] == "launch"
        if "-m" in rest:
            assert (ROOT / rest[rest.index("--config_file") + 1]).is_file()
            assert rest[rest.index("-m") + 1] == "qdsft"
            _check_qdsft(rest[rest.index("-m") + 2 :])
            return
        script = rest.index("scripts/run_sft.py")
        config = rest[rest.index("--config_file") + 1] if "--config_file" in rest[:script] else None
        assert config is None or (ROOT / config).is_file(), config
        _check_qdsft(["train", *rest[script + 1 :]])
    elif program in {"python", "python3"}:
        assert rest[0] in {"-m", "-"} or (ROOT / rest[0]).is_file(), command
    elif program.startswith("scripts/"):
        _check_script(program, rest)
    elif program == "sky":
        assert all((ROOT / word).is_file() for word in rest if word.endswith(".yaml") and "=" not in word), command
    else:
        assert program in {".", "docker", "pip", "export", "git", "cd", "cp", "set", "mkdir"}, f"{page}: {command}"


def _check_script(program: str, words: list[str]) -> None:
    assert os.access(ROOT / program, os.X_OK), program
    if program == "scripts/docker_run.sh":
        test_a_command_names_what_exists("", shlex.join(words))
    else:
        _check_qdsft(["train", *words])


def _check_qdsft(words: list[str]) -> None:
    options, rest = build_parser().parse_known_args(words)
    assert all("=" in word or word == words[-1] for word in rest), rest
    if getattr(options, "recipe", None):
        path = ROOT / options.recipe
        if "your" not in options.recipe and options.recipe != "RECIPE":
            overrides = [*getattr(options, "overrides", []), *(word for word in rest if "=" in word)]
            recipe = load_recipe(path, overrides)
            recipe.chat_template_path()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page}: {target}"
