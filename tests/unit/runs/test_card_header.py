"""The header of a model card is what the Hub reads, and names nothing of this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.manifests import RECIPE, manifest_of
from huggingface_hub import ModelCard

from qdsft.metrics.model_metrics import GroupMetrics, ModelMetrics
from qdsft.recipe import load_recipe
from qdsft.runs.card_header import card_header, read_licence
from qdsft.runs.manifest import Manifest

RESULTS = {
    "tuned": ModelMetrics(
        samples=3,
        means={"exact_match": 0.5, "sari": 0.1234567},
        groups={"language": {name: GroupMetrics(1) for name in ("ko", "en", "xx")}},
    )
}
HUB_BASE = {"name_or_path": "user/base", "revision": "abc"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(RECIPE, encoding="utf-8")


def manifest(*overrides: str, **changes: Any) -> Manifest:
    return manifest_of(load_recipe("r.yaml", overrides), **changes)


def header_of(text: str) -> dict[str, Any]:
    assert text.startswith("---\n") and text.endswith("\n---\n")
    found: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return found


def test_an_adapter_of_a_hub_model() -> None:
    text = card_header(
        manifest("data.train=user/rows", base_model=HUB_BASE), "title", RESULTS, licence={"license": "apache-2.0"}
    )
    header = header_of(text)
    index = header.pop("model-index")
    assert header == {
        "base_model": "user/base",
        "base_model_relation": "adapter",
        "datasets": ["user/rows"],
        "language": ["en", "ko"],
        "license": "apache-2.0",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["question-decomposition", "qdsft"],
        "metrics": ["exact_match", "sari"],
    }
    assert index[0]["name"] == "title"
    [result] = index[0]["results"]
    assert result["dataset"] == {"type": "user/rows", "name": "held-out rows of user/rows"}
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [
        ("exact_match", 0.5),
        ("sari", 0.123457),
    ]
    card = ModelCard(text + "# title\n")
    assert card.data.eval_results is not None and card.data.eval_results[0].metric_value == 0.5


def test_a_local_base_and_data_are_not_named() -> None:
    text = card_header(manifest("data.train=/home/me/rows.jsonl", base_model={"name_or_path": "/home/me/b"}), "t", {})
    assert header_of(text).keys() == {"library_name", "pipeline_tag", "tags"} and "/home" not in text


def test_a_merged_model_lists_no_scores() -> None:
    header = header_of(card_header(manifest(base_model=HUB_BASE), "t", RESULTS, merged=True))
    assert (header["library_name"], header["base_model_relation"]) == ("transformers", "merge")
    assert not {"model-index", "metrics"} & header.keys()
    full = header_of(card_header(manifest(base_model=HUB_BASE, artifact="model"), "t", {}))
    assert full["base_model_relation"] == "finetune"


def test_free_text_has_no_decomposition_tag() -> None:
    header = header_of(card_header(manifest("prompt.user={{ x }}", "prompt.completion={{ y }}"), "t", {}))
    assert header["tags"] == ["qdsft"]


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: mit\n---\n# x", {"license": "mit"}),
        ("---\r\nlicense: other\r\nlicense_name: own\r\nlicense_link: https://x\r\ntags: [a]\r\n---\r\n",
         {"license": "other", "license_name": "own", "license_link": "https://x"}),
        ("---\nlicense: [mit]\n---\n", {}),
        ("---\n- license\n---\n", {}),
        ("---\nlicense: {\n---\n", {}),
        ("---\nlicense: mit\n", {}),
        ("# no header\n---\nlicense: mit\n---\n", {}),
        ("", {}),
    ],
)  # fmt: skip
def test_the_licence_of_a_card(card: str, licence: dict[str, str]) -> None:
    assert read_licence(card) == licence


def bomb(depth: int, uses: int = 10) -> str:
    """Mappings that `<<` would merge to uses ** depth entries."""
    lines = ["a0: &a0 {license: mit}"]
    for level in range(1, depth):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * uses)}]}}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "header",
    [
        bomb(12) + "\nlicense: mit",
        "license: mit\n" + bomb(12) + "\n<<: *a11",
        bomb(12).replace("<<: ", "x: ") + "\nlicense: mit",
        "license: mit\nx: " + "[" * 40_000 + "]" * 40_000,
        "license: mit\nx: " + "a" * 50_000_000,
    ],
)
def test_a_card_cannot_take_long_to_read(header: str) -> None:
    start = time.monotonic()
    assert read_licence(f"---\n{header}\n---\n# Card") in ({"license": "mit"}, {})
    assert time.monotonic() - start < 20
