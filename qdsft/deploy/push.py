"""Stage: an adapter or model onto the Hub, with all that answering needs and nothing of this machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token, hf_hub_download
from huggingface_hub.utils import logging as hub_logging

from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.hashing import file_sha256
from qdsft.inference.generation_config import generation_config
from qdsft.inference.loaded_run import load_prompts
from qdsft.model.hub import check_write, patiently
from qdsft.runs.card import render_card
from qdsft.runs.card_header import read_licence
from qdsft.runs.layout import CARD, MANIFEST, MERGE_FILE
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.public import base_on_hub, check_secrets, public_base, public_manifest

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
TOKENIZER = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "chat_template.jinja",
)
ALLOWED = {"adapter": (*WEIGHTS, *TOKENIZER), "model": (*WEIGHTS, *TOKENIZER, "config.json", "*.py")}
"""Files of the folder that are uploaded as they are; no others are."""
VOCABULARY = re.compile(r"tokenizer\.json|tokenizer\.model|vocab.*|merges\.txt")
"""Files in which any text may stand by chance."""
SHOWN_OF_MERGE = {"base", "candidates", "dtype", "example", "method", "results_of_adapter"}
"""What the card takes from merge.json."""
Content = Path | bytes


@dataclass(frozen=True)
class Pushed:
    """Where it is now."""

    url: str
    commit: str
    files: tuple[str, ...]
    is_new: bool
    """Whether there was anything to upload."""


def push(
    source: Path,
    repo_id: str,
    *,
    public: bool = False,
    force: bool = False,
    revision: str | None = None,
    manifest: Manifest | None = None,
) -> Pushed:
    """Upload a finished run's adapter or model, or a merged model; private unless `public` is given.

    The same content once more makes no commit. A merged model that does not agree with its adapter is refused unless
    `force` is given. Raises UserError, with the remedy, for that, for files that hold a token or a path of this
    machine, as `load_prompts` does, and for what the Hub refuses.
    """
    manifest = manifest or read_finished(source)
    certificate = read_certificate(source, force=force)
    prompts = load_prompts(source, manifest)
    check_write(repo_id)
    files = collect(source, manifest, certificate, repo_id)
    files["generation_config.json"] = _json(generation_config(manifest, prompts.tokenizer))
    _check_all(files, source, manifest)
    return _upload(files, repo_id, public=public, revision=revision)


def read_certificate(source: Path, *, force: bool) -> dict[str, Any] | None:
    """merge.json of a merged model, None for anything else.

    Raises UserError if it is damaged, if a file is no longer the one that it is about, or, unless `force` is given,
    if the merged model did not pass or was not measured.
    """
    path = source / MERGE_FILE
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        passed, failed, sums = found["passed"], list(found["failed"]), dict(found["files"])
        if absent := SHOWN_OF_MERGE - found.keys():
            raise KeyError(*absent)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged; merge again") from error
    for name, digest in sums.items():
        file = source / Path(name).name
        if name != CARD and (not file.is_file() or file_sha256(file) != digest):
            raise UserError(f"{file}: is not the file that {MERGE_FILE} is about; merge again")
    if not force and passed is not True:
        reason = (
            f"does not agree with its adapter ({'; '.join(failed)})" if failed else "was not compared with its adapter"
        )
        raise UserError(f"{source}: the merged model {reason}; merge again, or push it all the same with --force")
    return found


def collect(source: Path, manifest: Manifest, certificate: dict[str, Any] | None, repo_id: str) -> dict[str, Content]:
    """Path in the repository -> a file, or text that was made for it."""
    folder = manifest.folder(source)
    patterns = ALLOWED[manifest.artifact]
    found: dict[str, Content] = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns)
    }
    if manifest.artifact == "adapter":
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = public_base(manifest)
        found["adapter_config.json"] = _json(config)
    if certificate is not None:
        found[MERGE_FILE] = source / MERGE_FILE
    licence = base_licence(manifest)
    card = render_card(source, manifest, name=repo_id, merge=certificate, licence=licence)
    found[CARD] = card.encode("utf-8")
    found[MANIFEST] = _json(public_manifest(manifest).model_dump(mode="json"))
    return found


def base_licence(manifest: Manifest) -> dict[str, str]:
    """The licence in the base model's card; empty, which is said, where none is known."""
    name = manifest.base_model.name_or_path
    card: str | Path = Path(name) / CARD
    try:
        if base_on_hub(manifest):
            where = {"revision": manifest.base_model.revision, "endpoint": variable("HF_ENDPOINT") or None}
            card = hf_hub_download(name, CARD, **where)
        found = read_licence(Path(card).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, httpx2.HTTPError):
        found = {}
    if found:
        say(f"licence, as the base model's card has it: {found.get('license_name') or found['license']}")
    else:
        say(f"the card names no licence: that of {public_base(manifest)} is not known; add it on the Hub")
    return found


def _check_all(files: dict[str, Content], source: Path, manifest: Manifest) -> None:
    base = manifest.base_model.name_or_path
    secrets = {get_token() or "": "the token", str(source.resolve()): "a folder of this machine"}
    if Path(base).is_absolute():
        secrets[base] = "the base model's folder on this machine"
    for name, content in files.items():
        text = content if isinstance(content, bytes) else _beginning(content)
        check_secrets(name, text, secrets, by_pattern=not VOCABULARY.fullmatch(name))


def _beginning(path: Path) -> bytes:
    """The whole of a text, and the header of a safetensors file."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def _upload(files: dict[str, Content], repo_id: str, *, public: bool, revision: str | None) -> Pushed:
    api = HfApi(endpoint=variable("HF_ENDPOINT") or None)
    hub_logging.set_verbosity_error()  # it warns where there is nothing to commit
    patiently("creating the repository", repo_id, lambda: api.create_repo(repo_id, private=not public, exist_ok=True))
    info = patiently("reading the repository", repo_id, lambda: api.repo_info(repo_id))
    if not info.private and not public:
        raise UserError(f"{repo_id} is public on the Hub; add --public if others may see it, or give another --repo-id")
    if info.private and public:
        say(f"{repo_id} is there already and stays private; make it public in its settings on the Hub")
    if revision:
        patiently("making the branch", repo_id, lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
    before = patiently("reading the repository", repo_id, lambda: api.repo_info(repo_id, revision=revision)).sha

    def commit() -> Any:
        there = api.list_repo_files(repo_id, revision=revision)
        stale = [name for name in there if name not in files and any(fnmatch(name, one) for one in WEIGHTS)]
        operations = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in files.items()
        ]
        return api.create_commit(
            repo_id,
            [*operations, *(CommitOperationDelete(name) for name in stale)],
            commit_message="Upload with qdsft",
            revision=revision,
        )

    made = patiently("uploading", repo_id, commit)
    url = f"{api.endpoint}/{repo_id}" + (f"/tree/{revision}" if revision else "")
    return Pushed(url, made.oid, tuple(sorted(files)), made.oid != before)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode("utf-8")
