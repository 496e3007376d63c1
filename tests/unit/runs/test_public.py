"""What others may see of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.manifests import RECIPE, manifest_of

from qdsft.errors import UserError
from qdsft.recipe import load_recipe
from qdsft.runs.manifest import Manifest
from qdsft.runs.public import base_on_hub, check_secrets, public_base, public_manifest, public_name


def manifest(tmp_path: Path, *overrides: str, **changes: Any) -> Manifest:
    path = tmp_path / "r.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return manifest_of(load_recipe(path, overrides), **changes)


@pytest.mark.parametrize(
    ("name", "public"),
    [("user/rows", "user/rows"), ("/home/me/rows.jsonl", "rows.jsonl"), ("./a/b", "b"), ("~/x/y", "y")],
)
def test_a_path_is_known_by_its_last_part(name: str, public: str) -> None:
    assert public_name(name) == public


def test_a_base_model_is_on_the_hub_if_its_commit_is_known(tmp_path: Path) -> None:
    at_hub = manifest(tmp_path, base_model={"name_or_path": "user/base", "revision": "c"})
    local = manifest(tmp_path, base_model={"name_or_path": "models/base", "revision": None})
    assert base_on_hub(at_hub) and public_base(at_hub) == "user/base"
    assert not base_on_hub(local) and public_base(local) == "base"


def test_a_public_manifest_has_no_path_of_this_machine(tmp_path: Path) -> None:
    private = manifest(
        tmp_path,
        "data.train=/home/me/rows.jsonl",
        "training.output_dir=/home/me/out",
        base_model={"name_or_path": "/home/me/base", "revision": None, "config_sha256": "d"},
        device={"kind": "cpu", "name": "CPU", "platform": "Linux-of-me"},
        results={"preflight": [{"name": "disk", "passed": True, "found": "/home/me"}], "steps": 3},
    )
    private.recipe["training"]["deepspeed"] = "/home/me/ds.json"
    public = public_manifest(private)
    text = public.model_dump_json()
    assert "/home/me" not in text and "Linux-of-me" not in text and str(tmp_path) not in text
    assert public.recipe["training"]["learning_rate"] == 0.0002 and public.base_model.config_sha256 == "d"
    assert public.results.model_dump() == {"steps": 3} and public.device.model_dump() == {"kind": "cpu", "name": "CPU"}
    assert public.fingerprint.model_dump() == {} and public.golden_prompts == private.golden_prompts
    assert private.recipe["data"]["train"] == "/home/me/rows.jsonl"  # the original is unchanged
    public.load_recipe()


def test_a_merged_model_is_a_model_of_its_format(tmp_path: Path) -> None:
    private = manifest(tmp_path, "lora={}", "quantization.load_in_4bit=true")
    merged = public_manifest(private, merged_dtype="float32")
    assert (merged.artifact, merged.recipe["quantization"], merged.recipe["model"]["dtype"]) == (
        "model",
        None,
        "float32",
    )
    assert public_manifest(private, merged_dtype="bfloat16").recipe["model"]["dtype"] == "auto"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"x planted y", "holds the token"),
        (b"hf_" + b"a" * 30, r"holds what looks like a token or key \(hf_aaa\.\.\.\)"),
        (b"see /home/kim.lee/x", r"holds a folder of this machine \(/home/kim\.lee\)"),
        (rb"C:\Users\kim", r"holds a folder of this machine \(C.*kim\)"),
    ],
)
def test_secrets_are_found(content: bytes, found: str) -> None:
    with pytest.raises(UserError, match=f"^f.json: {found}, which would be uploaded; remove it from the file"):
        check_secrets("f.json", content, {"planted": "the token", "": "nothing"})


def test_ordinary_content_is_no_secret() -> None:
    check_secrets("f", b"hf_short /homepage/x", {"planted": "the token"})
    check_secrets("f", b"/home/kim", {}, homes=False)
