"""What may be published of a run: its manifest without paths, machine names or secrets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from qdsft.data.sources import is_hub_id
from qdsft.errors import UserError
from qdsft.runs.facts import DeviceFacts, Fingerprint, ResultFacts
from qdsft.runs.manifest import Manifest

SECRET = re.compile(
    rb"---- ?BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY|(?:\b|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4}))(?:"  # \n in JSON is a letter
    rb"hf_[A-Za-z0-9]{20,}"
    rb"|sk-[A-Za-z0-9_-]{20,}|[rs]k_live_[A-Za-z0-9]{20,}"  # OpenAI, Anthropic, Stripe
    rb"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|glpat-[A-Za-z0-9_-]{20,}"
    rb"|(?:AKIA|ASIA)[A-Z0-9]{16}\b|AIza[A-Za-z0-9_-]{35}"  # Amazon, Google
    rb"|xox[abeprs]-[A-Za-z0-9-]{10,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|rpa_[A-Z0-9]{30,})"
)
"""Tokens of the usual services, and private keys."""
HOME = re.compile(rb"(?:/home/|/Users/|/root/|[A-Za-z]:\\\\?Users\\\\?)[\w.-]+")

_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"),
)
_MODEL = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
ALLOWED = {
    "adapter": frozenset({"adapter_model.safetensors", *_TOKENIZER}),
    "model": frozenset({"model.safetensors.index.json", "config.json", *_TOKENIZER}),
}
"""The only files that are uploaded unchanged, beside those that _MODEL matches for a model."""
VOCABULARY = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "merges.txt"})
"""Files that may contain a word such as /home/x by chance."""


def is_uploaded(name: str, artifact: Literal["adapter", "model"]) -> bool:
    """Return True if a file of an adapter or a model is uploaded unchanged."""
    return name in ALLOWED[artifact] or (artifact == "model" and _MODEL.fullmatch(name) is not None)


def public_name(name: str) -> str:
    """Return the public name of a model or data set: its id on the Hub, else the last part of its path."""
    return name if on_hub(name) else Path(name).name


def on_hub(name: str) -> bool:
    """Return True if a base model or data set is named by an id of the Hub."""
    return is_hub_id(name) and not name.startswith((".", "~"))


def base_on_hub(manifest: Manifest) -> bool:
    """Return True if the base model came from the Hub, so that its commit is known."""
    return on_hub(manifest.base_model.name_or_path) and manifest.base_model.revision is not None


def public_base(manifest: Manifest) -> str:
    """Return the public name of the base model."""
    name = manifest.base_model.name_or_path
    return name if base_on_hub(manifest) else Path(name).name


def public_manifest(manifest: Manifest, *, merged_dtype: str | None = None) -> Manifest:
    """Return the manifest to publish with an adapter or model, or, with `merged_dtype`, with a merged model.

    It keeps what answering needs and what describes the run. Golden prompts are questions of the training data.
    """
    recipe = dict(manifest.recipe)
    recipe["model"] = {
        **recipe["model"],
        "name_or_path": public_base(manifest),
        "chat_template": None,  # the tokenizer has it
        "trust_remote_code": False,  # each user decides that
    }
    for key in ("train", "eval"):
        if name := recipe["data"].get(key):
            public = public_name(name) if isinstance(name, str) else [_public_source(one) for one in name]
            recipe["data"] = {**recipe["data"], key: public}
    recipe["training"] = {key: value for key, value in recipe["training"].items() if _says_no_path(key, value)}
    recipe.pop("publish", None)
    if merged_dtype:
        recipe["quantization"] = None
        recipe["model"]["dtype"] = merged_dtype if merged_dtype == "float32" else "auto"
    return manifest.model_copy(
        update={
            "recipe_path": Path(manifest.recipe_path).name,
            "recipe": recipe,
            "origins": {},
            "fingerprint": Fingerprint(),
            "base_model": manifest.base_model.model_copy(update={"name_or_path": recipe["model"]["name_or_path"]}),
            "artifact": "model" if merged_dtype else manifest.artifact,
            "device": DeviceFacts.model_validate(manifest.device.model_dump(exclude={"platform"})),
            "results": ResultFacts.model_validate(manifest.results.model_dump(exclude={"preflight"})),
        }
    )


def _public_source(source: dict[str, Any]) -> dict[str, Any]:
    return {**source, "path": public_name(source["path"])}


def train_names(recipe: Mapping[str, Any]) -> list[str]:
    """Return the files and Hub datasets of the training rows of a recipe in run.json."""
    data = recipe.get("data", {}).get("train") or ""
    return [data] if isinstance(data, str) else [source["path"] for source in data]


def _says_no_path(key: str, value: Any) -> bool:
    """Return True if a training value is a setting and not a path of this machine."""
    if key.startswith(("hub_", "push_to_hub")) or key in {"output_dir", "logging_dir", "run_name", "report_to"}:
        return False
    return not any(isinstance(leaf, str) and ("/" in leaf or os.sep in leaf) for leaf in _leaves(value))


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def check_secrets(path: str, content: bytes, secrets: dict[str, str], *, homes: bool = True) -> None:
    """Raise UserError if a file holds one of `secrets` (text -> description), or what looks like a token or a key.

    With `homes`, also if it holds a home folder.
    """
    found = [what for text, what in secrets.items() if text and text.encode() in content]
    if match := SECRET.search(content):
        found.append(f"what looks like a token or key ({match.group()[:6].decode()}...)")
    if homes and (match := HOME.search(content)):
        found.append(f"a folder of this machine ({match.group().decode(errors='replace')})")
    if found:
        raise UserError(f"{path}: holds {found[0]}, which would be uploaded; remove it from the file")
