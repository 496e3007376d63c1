"""The arguments of `qdsft improve`."""

from __future__ import annotations

import pytest

from qdsft.cli.main import main


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "--world", "--corpus", "c.jsonl"],
        ["run", "--world", "--samples", "0"],
        ["run", "--world", "--temperature", "0"],
        ["run", "--world", "--temperature", "nan"],
        ["run", "--world", "--temperature", "11"],
        ["run", "--world", "--top-p", "1.1"],
        ["run", "--world", "--keep", "all"],
        ["run", "--world", "--limit", "-1"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["improve", *arguments])
    assert stopped.value.code == 2


def test_a_folder_that_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["improve", "none", "--world"]) == 1
    assert "none: no run directory (run.json is missing)" in capsys.readouterr().err
