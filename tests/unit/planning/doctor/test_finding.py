"""Findings carry no secrets, and a look that fails ends no other."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from qdsft.errors import UserError
from qdsft.planning.doctor.finding import Finding, look_safely, within

LATE = Finding("x", "note", "late")


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ZeroDivisionError("a\nb"), "ZeroDivisionError: a"),
        (SystemExit("library said no"), "SystemExit: library said no"),
        (ImportError(""), "ImportError"),
        (UserError("a.yaml:3: wrong; mend it"), "a.yaml:3: wrong; mend it"),
    ],
)
def test_a_look_that_throws_is_a_finding(error: BaseException, found: str) -> None:
    def look() -> Finding:
        raise error

    finding = look_safely("torch", look)
    assert (finding.name, finding.status, finding.found) == ("torch", "failed", found)


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "my_secret", "AWS_SECRET_ACCESS_KEY"])
def test_a_secret_in_a_variable_is_never_passed_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "planted value\n")
    finding = look_safely("x", lambda: Finding("x", "ok", "header: planted value", "send 'planted value'"))
    assert (finding.found, finding.remedy) == ("header: ***", "send '***'")


def test_a_secret_in_the_token_file_and_one_of_unknown_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "token").write_text("filed-planted\n", encoding="utf-8")

    def look() -> Finding:
        raise OSError("401 for filed-planted and hf_abcdefGHIJ12")

    assert look_safely("x", look).found == "OSError: 401 for *** and ***"


def test_short_values_and_paths_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "1")
    monkeypatch.setenv("HF_TOKEN_PATH", "/a/folder/token")
    assert look_safely("x", lambda: Finding("x", "ok", "1 of 11 in /a/folder/token")).found.startswith("1 of 11 in /a")


def test_a_look_has_so_much_time_and_its_errors_are_its_own() -> None:
    def slow() -> Finding:
        time.sleep(30)
        return LATE

    started = time.monotonic()
    assert within(0.1, slow, LATE) is LATE
    assert time.monotonic() - started < 5
    quick = Finding("x", "ok", "in time")
    assert within(5, lambda: quick, LATE) is quick
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: Finding("x", "ok", str(1 // 0)), LATE)
