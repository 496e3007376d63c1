"""merge.json: written, read back, and refused if it is damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.certificates import make_certificate

from qdsft.errors import UserError
from qdsft.runs.certificate import read_certificate, write_certificate


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_certificate(tmp_path) is None
    made = make_certificate(example={"question": "q", "sub_questions": ["a"]}, files={"config.json": "0"})
    write_certificate(tmp_path, made)
    assert read_certificate(tmp_path) == made
    content = json.loads((tmp_path / "merge.json").read_text(encoding="utf-8"))
    assert list(content)[:5] == ["qdsft_merge", "passed", "failed", "base", "dtype"] and content["qdsft_merge"] == 1


@pytest.mark.parametrize("change", ["[]", "{", "\udcff", '{"passed": false}'])
def test_a_damaged_one_is_one_line(tmp_path: Path, change: str) -> None:
    (tmp_path / "merge.json").write_bytes(change.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"merge\.json: damaged; merge again$"):
        read_certificate(tmp_path)


@pytest.mark.parametrize("missing", ["example", "passed", "candidates", "method"])
def test_a_missing_field_is_damage(tmp_path: Path, missing: str) -> None:
    content = make_certificate().model_dump()
    del content[missing]
    (tmp_path / "merge.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        read_certificate(tmp_path)
