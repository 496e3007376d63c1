"""The documentation: commands, links and pictures exist, and the pages agree with the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from helpers.pages import PAGES, READMES, fences
from helpers.paths import ROOT
from helpers.source_imports import SOURCES, imports, package_of

import qdsft
from qdsft.cli.main import build_parser
from qdsft.data.decomposition import Decomposition
from qdsft.data.prediction import PredictedSteps
from qdsft.metrics.scores import score
from qdsft.recipe import load_recipe

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
ANY_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
NOT_RUN = {"powershell": "for Windows, where no test runs"}
"""Language of a fenced block -> why its commands are not looked at."""
SHELL = {".", "source", "export", "cd", "cp", "set", "mkdir", "head", "tail"}
OTHERS = {"docker", "git", "pip", "pipx", "poetry", "uv", "hf", "runpodctl", "cyclonedx-py"}
"""Programs whose arguments are not looked at."""
LINK = re.compile(r"\[[^\]]+\]\((?!https?:|#)([^)#]+)[^)]*\)")
FRAGMENT = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#]*)#([^)]+)\)")
PICTURE = re.compile(r"<img [^>]*>|!\[[^\]]*\]\([^)]+\)")
RECIPE_ROW = re.compile(r"^\| \[recipes/(\w+)\].*$", re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """(page, command) of all shell blocks; what a command reads from the page is left out."""
    return [
        (page.relative_to(ROOT).as_posix(), one.text.replace("\\\n", " ").partition("<<")[0].strip())
        for page in PAGES
        for fence in fences(page)
        if fence.language in {"bash", "sh"}
        for one in fence.commands()
    ]


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
        assert program in SHELL | OTHERS, f"{page}: {command}"


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


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_to_a_heading(page: Path) -> None:
    for target, fragment in FRAGMENT.findall(page.read_text(encoding="utf-8")):
        text = (page.parent / target if target else page).read_text(encoding="utf-8")
        headings = re.findall(r"^#+ (.*)$", ANY_FENCE.sub("", text), re.MULTILINE)
        assert fragment in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_stand_in_blocks_that_are_looked_at(page: Path) -> None:
    programs = ("qdsft", "accelerate", "make", "python", "pip", "scripts/", "git", "sky", "docker")
    for language, block in ANY_FENCE.findall(page.read_text(encoding="utf-8")):
        if language not in {"bash", "sh", *NOT_RUN}:
            assert not [line for line in block.splitlines() if line.startswith(programs)], block
    assert page.read_text(encoding="utf-8").count("```") % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_pictures_exist_and_say_what_they_show(page: Path) -> None:
    for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
        found = re.search(r'src="([^"]+)"', picture) or re.search(r"\(([^)]+)\)", picture)
        alt = re.search(r'alt="([^"]*)"', picture) or re.search(r"!\[([^\]]*)\]", picture)
        assert found and (found[1].startswith("http") or (page.parent / found[1]).is_file()), picture
        assert alt and len(alt[1]) > 10, picture


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_character_is_broken(page: Path) -> None:
    text = page.read_bytes().decode("utf-8")
    assert not re.search("[\ufffd\ue000-\uf8ff\u0000-\u0008\u0080-\u009f\u200b\ufeff]", text)
    assert unicodedata.is_normalized("NFC", text)  # letters of Hangul taken apart show as such in some editors
    assert not re.search("[\u3131-\u318e]", text)  # a lone letter is a slip of the keyboard


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_front_page_lists_every_recipe(page: Path) -> None:
    folders = {path.parent.name for path in (ROOT / "recipes").glob("*/*.yaml")}
    listed = {match[1] for match in RECIPE_ROW.finditer(page.read_text(encoding="utf-8"))}
    assert listed == folders - {"tasks"}  # those are for any model


def test_metrics_named_in_the_pages_exist() -> None:
    names = score(PredictedSteps("?", ("a",), Decomposition(("a",)), True))
    for page in PAGES:
        for name in re.findall(r"metric_for_best_model=(\w+)", page.read_text(encoding="utf-8")):
            assert name in names, f"{page}: {name}"


def test_rows_shown_in_the_pages_are_valid() -> None:
    shown = [
        json.loads(line)
        for page in PAGES
        for language, block in ANY_FENCE.findall(page.read_text(encoding="utf-8"))
        if language == "json" and "..." not in block
        for line in block.splitlines()
    ]
    assert len(shown) >= 4
    assert [row for row in shown if Decomposition(tuple(row["sub_questions"])).problems()] == []


@pytest.mark.parametrize("script", ["make_recipe_docs", "make_format_docs", "make_pictures"])
def test_generated_files_are_up_to_date(
    script: str, load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = load_script(script)
    monkeypatch.setattr("sys.argv", [script, "--check"])
    assert made.main() == 0
    name = "PATH" if hasattr(made, "PATH") else "FOLDER"
    monkeypatch.setattr(made, name, tmp_path / "RECIPES.md" if name == "PATH" else tmp_path)
    assert made.main() == 1
    monkeypatch.setattr("sys.argv", [script])
    assert made.main() == 0
    monkeypatch.setattr("sys.argv", [script, "--check"])
    assert made.main() == 0
    written = next(tmp_path.iterdir())
    written.write_text(written.read_text(encoding="utf-8").replace("the", "xhe", 1) + " ", encoding="utf-8")
    assert made.main() == 1


def test_every_key_of_a_recipe_is_described() -> None:
    page = (ROOT / "docs" / "RECIPES.md").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "recipes" / "recipe.schema.json").read_text(encoding="utf-8"))["properties"]
    parts = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    assert parts.keys() == {section for section, content in schema.items() if "properties" in content}
    for section, part in parts.items():
        rows = re.findall(r"^\| `(\w+)` \|.*\| (\S[^|]*) \|$", part, re.MULTILINE)
        assert [key for key, meaning in rows if len(meaning) > 5] == list(schema[section]["properties"])


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Some words. Then more.", "Some words."),
        ("No full stop", "No full stop."),
        ("Uses `peft.Config` e.g. Linear, and 2.5. Rest.", "Uses `peft.Config` e.g. Linear, and 2.5."),
        ("Joined.You need a space.", "Joined."),
    ],
)
def test_first_sentence(text: str, first: str, load_script: Callable[[str], ModuleType]) -> None:
    assert load_script("make_recipe_docs").first_sentence(text) == first


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_stands_alone(path: Path) -> None:
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    style = root.findtext("{http://www.w3.org/2000/svg}style") or ""
    assert style.count("{") == style.count("}") > 0
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) <= set(re.findall(r"(--[\w-]+):", style))
    assert "prefers-color-scheme: dark" in style and "url(" not in style and "@import" not in style


def test_the_import_picture_is_that_of_the_code() -> None:
    block = re.search(r"```mermaid\n(.*?)```", (ROOT / "docs" / "OVERVIEW.md").read_text(encoding="utf-8"), re.DOTALL)
    assert block
    arrows = {
        (source, target)
        for source, targets in re.findall(r"(\w+) --> ([\w &]+)", block[1])
        for target in targets.split(" & ")
    }
    real = {
        (package_of(name), package_of(target))
        for name, source in SOURCES.items()
        if package_of(name) != "top"
        for target, _ in imports(name, source)
        if target.startswith("qdsft.") and package_of(target) not in {"top", package_of(name)}
    }
    assert arrows <= real
    assert {pair for pair in real if pair[1] not in reached(pair[0], arrows)} == set()
    assert {pair for pair in arrows if pair[1] in reached(pair[0], arrows - {pair})} == set()


def reached(start: str, arrows: set[tuple[str, str]]) -> set[str]:
    """Everything that a way of arrows leads to."""
    found: set[str] = set()
    todo = [start]
    while todo:
        here = todo.pop()
        new = {target for source, target in arrows if source == here} - found
        found |= new
        todo += new
    return found


def test_the_citation_names_this_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == qdsft.__version__
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((.*)\)$", changes, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert newest and newest.groups() == (project["version"], str(citation["date-released"]))
    assert project["version"] == qdsft.__version__
