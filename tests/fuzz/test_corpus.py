"""Hostile cases over every command: a result or one line, nothing of others deleted, no more memory or time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.corpus import all_cases
from helpers.corpus import workspace as runner
from helpers.corpus.case import Case, untouched
from helpers.corpus.workspace import build_workspace, contents, run_case
from helpers.paths import RECIPES, ROOT

CASES = all_cases()
PAGE = ROOT / "docs" / "SECURITY.md"


def table() -> str:
    """The cases by kind, as docs/SECURITY.md shows them."""
    rows = [f"| {kind} | {len(cases)} |" for kind, cases in CASES.items()]
    total = sum(len(cases) for cases in CASES.values())
    return "\n".join(["| kind | cases |", "|---|---|", *rows, f"| **{len(CASES)} kinds** | **{total}, failures: 0** |"])


def test_the_page_has_the_figures() -> None:
    assert sum(len(cases) for cases in CASES.values()) >= 400
    assert f"\n{table()}\n" in PAGE.read_text(encoding="utf-8")


def test_no_case_is_planted_twice() -> None:
    names = [(kind, case.name) for kind, cases in CASES.items() for case in cases]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def workspace(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus") / "workspace"
    build_workspace(folder, tiny_model("llama"), RECIPES / "tiny" / "chat_template.jinja")
    return folder


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", CASES)
def test_every_case_is_a_result_or_one_line(
    kind: str, workspace: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = contents(workspace)

    def printed() -> tuple[str, str]:
        out, err = capfd.readouterr()
        return out, err

    faults = [run_case(case, workspace, tmp_path / "case", printed) for case in CASES[kind]]
    found = [fault for fault in faults if fault]
    assert not found, f"{len(found)} of {len(faults)}:\n" + "\n\n".join(found)
    assert contents(workspace) == before


def delete_notes(_: list[str]) -> int:
    Path("my notes.txt").unlink()
    return 0


def run_forever(_: list[str]) -> int:
    while True:
        pass


def fail(_: list[str]) -> int:
    raise KeyError("a fault of a library")


def take_memory(_: list[str]) -> int:
    return len(bytearray(4 * 2**30)) * 0


def print_escape(_: list[str]) -> int:
    print("\x1b[2J")
    return 0


def print_two(_: list[str]) -> int:
    print("error: a: wrong; do this\nerror: b: wrong; do that", file=sys.stderr)
    return 1


def give_no_remedy(_: list[str]) -> int:
    print("error: a is wrong", file=sys.stderr)
    return 1


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (delete_notes, "deleted ['my notes.txt']"),
        (run_forever, "took over 0.2 s"),
        (fail, "KeyError at "),
        (take_memory, "MemoryError at "),
        (print_escape, "prints control characters"),
        (print_two, "2 errors instead of one"),
        (give_no_remedy, "no remedy"),
        (lambda _: 0, None),
        (lambda _: 3, "status 3"),
    ],
)
def test_a_command_that_misbehaves_is_found(
    command: Callable[[list[str]], int],
    found: str | None,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "my notes.txt").write_text("keep me")
    monkeypatch.setattr(runner, "main", command)
    monkeypatch.setattr(runner, "SECONDS", 0.2)
    case = Case("kind", "name", ("x",), untouched, status=None)

    def printed() -> tuple[str, str]:
        out, err = capfd.readouterr()
        return out, err

    fault = run_case(case, tmp_path / "workspace", tmp_path / "case", printed)
    assert (fault is None) if found is None else found in (fault or "")
