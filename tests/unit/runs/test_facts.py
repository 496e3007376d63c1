"""The typed parts of run.json keep the file as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of
from pydantic import ValidationError

from qdsft.errors import UserError
from qdsft.hashing import file_sha256, json_sha256
from qdsft.recipe import load_recipe
from qdsft.runs.facts import BaseModelFacts, Fingerprint, ResultFacts
from qdsft.runs.manifest import Manifest, read_manifest, write_manifest

FACTS: dict[str, Any] = {
    "data": {"train_rows": 4, "eval_rows": 13, "left_out": 0, "train_sha256": "96", "eval_sha256": "e4"},
    "tokens": {"rows": 4, "tokens": 422, "supervised_share": 0.56, "packing": {"rows": 2, "efficiency": 0.9}},
    "base_model": {"name_or_path": "m", "revision": None, "config_sha256": "d4"},
    "device": {"kind": "cpu", "name": "CPU, 1 threads", "processes": 1, "platform": "Linux"},
    "results": {
        "activation_checkpointing": {"checkpointing": False, "every_n_layers": 1, "said": "x"},
        "preflight": [{"name": "stop token", "passed": True, "found": "4 samples"}],
        "steps": 1,
        "epochs": 1.0,
        "first_loss": None,
        "last_loss": None,
        "seconds_training": 0.46,
    },
}
"""As qdsft 0.1.0 wrote them."""


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")
    Path("run").mkdir()
    return Path("run")


def values(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(manifest_of(load_recipe("r.yaml")).model_dump_json())
    return {**made, **FACTS, **changes}


def test_a_manifest_of_0_1_0_is_written_back_unchanged(run_dir: Path) -> None:
    text = json.dumps(values(), indent=2, ensure_ascii=False) + "\n"
    (run_dir / "run.json").write_text(text, encoding="utf-8")
    manifest = read_manifest(run_dir)
    assert manifest.sha256() == file_sha256(run_dir / "run.json")
    write_manifest(run_dir, manifest)
    assert (run_dir / "run.json").read_text(encoding="utf-8") == text


def test_unknown_keys_are_kept_and_missing_ones_are_none(run_dir: Path) -> None:
    data = {"train_rows": 1, "eval_rows": 0, "added_later": [1]}
    manifest = Manifest.model_validate(values(data=data, device={}, tokens={}, results={}))
    dumped = manifest.model_dump(mode="json")
    assert (dumped["data"], dumped["device"], dumped["tokens"], dumped["results"]) == (data, {}, {}, {})
    assert manifest.device.name is None and manifest.results.steps is None and manifest.tokens.packing is None


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("data", {"train_rows": "many", "eval_rows": 0}),
        ("data", {}),
        ("data", [1]),
        ("base_model", {"name_or_path": 7}),
        ("base_model", {}),
        ("device", {"name": ["CPU"]}),
        ("results", {"steps": "x"}),
        ("results", {"preflight": [{"name": 1}]}),
        ("fingerprint", {"recipe": "r"}),
        ("tokens", None),
    ],
)
def test_a_part_of_another_type_is_damage(run_dir: Path, part: str, damage: Any) -> None:
    (run_dir / "run.json").write_text(json.dumps(values(**{part: damage})), encoding="utf-8")
    with pytest.raises(UserError, match=r"run.json: damaged, or written by another version of qdsft; train again"):
        read_manifest(run_dir)


def test_update_sets_typed_values() -> None:
    results = ResultFacts()
    results.update({"preflight": [{"name": "n", "passed": True, "found": "f"}], "steps": 3})
    assert results.preflight[0].name == "n" and results.steps == 3
    assert list(results.model_dump()) == ["preflight", "steps"]
    with pytest.raises(ValidationError):
        results.update({"steps": "three"})
    facts = BaseModelFacts(name_or_path="m").model_copy(update={"name_or_path": "n"})
    assert facts.model_dump() == {"name_or_path": "n"}


def test_the_hash_of_a_fingerprint_is_that_of_its_json() -> None:
    content = {"recipe": {"seed": 1}, "data": ["a", "b"], "template": "t", "world_size": 2}
    assert Fingerprint.model_validate(content).sha256() == json_sha256(content)
