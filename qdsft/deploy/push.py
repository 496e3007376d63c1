"""Push an adapter or model to the Hub, with everything that answering requires and nothing of this machine."""

from __future__ import annotations

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
from qdsft.inference.loaded_run import check_weight_files, load_prompts
from qdsft.model.hub import check_write, patiently
from qdsft.runs.card import render_card
from qdsft.runs.card_header import read_licence
from qdsft.runs.certificate import Certificate, read_certificate
from qdsft.runs.layout import CARD, MANIFEST, MERGE_FILE
from qdsft.runs.manifest import Manifest, read_finished
from qdsft.runs.public import VOCABULARY, base_on_hub, check_secrets, is_uploaded, public_base, public_manifest
from qdsft.strict_json import read_object, to_json

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Files of an earlier push that are deleted from the repository."""
Content = Path | bytes


@dataclass(frozen=True)
class Pushed:
    """A finished upload."""

    url: str
    commit: str
    files: tuple[str, ...]
    is_new: bool
    """False if nothing had changed since the last push."""


def push(
    source: Path,
    repo_id: str,
    *,
    public: bool = False,
    force: bool = False,
    revision: str | None = None,
    manifest: Manifest | None = None,
    trust_remote_code: bool = False,
) -> Pushed:
    """Upload a finished run's adapter or model, or a merged model; private unless `public` is given.

    Pushing unchanged content makes no commit. Raises UserError for a merged model that does not agree with its adapter
    (unless `force` is given), for files that contain a token or a path of this machine, for anything that the Hub
    refuses, and as `load_prompts` does.
    """
    manifest = manifest or read_finished(source)
    files = public_files(source, manifest, repo_id, force=force, trust_remote_code=trust_remote_code)
    check_write(repo_id)
    return _upload(files, repo_id, public=public, revision=revision)


def public_files(
    source: Path, manifest: Manifest, name: str, *, force: bool = False, trust_remote_code: bool = False
) -> dict[str, Content]:
    """Return path -> file or content of a run that others may have, under the name that its card gets.

    Raises UserError as `push` does for what is wrong with the run.
    """
    certificate = check_certificate(source, force=force)
    prompts = load_prompts(source, manifest, trust_remote_code=trust_remote_code)
    check_weight_files(prompts)
    files = collect(source, manifest, certificate, name)
    files["generation_config.json"] = _json(generation_config(manifest, prompts.tokenizer))
    _check_all(files, source, manifest)
    return files


def preview(files: dict[str, Content], repo_id: str, *, public: bool, revision: str | None) -> str:
    """Return what `push` would upload, as text: the files with their bytes, who may see them, and the model card."""
    sizes = {name: _size(content) for name, content in sorted(files.items())}
    width = max(map(len, sizes))
    lines = [f"{name:{width}}  {size:>14,} bytes" for name, size in sizes.items()]
    lines += [f"{'together':{width}}  {sum(sizes.values()):>14,} bytes"]
    seen = "public" if public else "private; an existing public repository is refused without --public"
    card = files[CARD]
    assert isinstance(card, bytes)
    heading = f"{repo_id}, branch {revision or 'main'}: {seen}"
    return "\n".join([heading, *lines, f"nothing was uploaded; {CARD}:", "", card.decode("utf-8").rstrip()])


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def check_certificate(source: Path, *, force: bool) -> Certificate | None:
    """Return the certificate of a merged model, None for anything else.

    Raises UserError if it is damaged, if a file has changed since the merge, and, unless `force` is given, if the
    merged model did not pass or was not measured.
    """
    certificate = read_certificate(source)
    if certificate is None:
        return None
    for name, digest in certificate.files.items():
        file = source / Path(name).name
        if name != CARD and (not file.is_file() or file_sha256(file) != digest):
            raise UserError(f"{file}: is not the file that {MERGE_FILE} is about; merge again")
    if not force and certificate.passed is not True:
        failed = "; ".join(certificate.failed)
        reason = f"does not agree with its adapter ({failed})" if failed else "was not compared with its adapter"
        raise UserError(f"{source}: the merged model {reason}; merge again, or push it all the same with --force")
    return certificate


def collect(source: Path, manifest: Manifest, certificate: Certificate | None, repo_id: str) -> dict[str, Content]:
    """Return path in the repository -> a file, or generated content."""
    folder = manifest.weights_folder(source)
    found: dict[str, Content] = {
        path.name: _inside(path, folder)
        for path in sorted(folder.iterdir())
        if is_uploaded(path.name, manifest.artifact)
    }
    if manifest.artifact == "adapter":
        config = read_object(_inside(folder / "adapter_config.json", folder), "put it back or train again")
        config["base_model_name_or_path"] = public_base(manifest)
        found["adapter_config.json"] = _json(config)
    if certificate is not None:
        found[MERGE_FILE] = _inside(source / MERGE_FILE, source)
    licence = base_licence(manifest)
    card = render_card(source, manifest, name=repo_id, merge=certificate, licence=licence)
    found[CARD] = card.encode("utf-8")
    found[MANIFEST] = _json(public_manifest(manifest).model_dump(mode="json"))
    return found


def _inside(path: Path, folder: Path) -> Path:
    """Return the path. Raises UserError for a link that leads out of the folder, and for what is not a file."""
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path}: a link to {path.resolve()}, which is not in the folder; put a copy of the file there")
    if not path.is_file():
        raise UserError(f"{path}: not a file; remove it")
    return path


def base_licence(manifest: Manifest) -> dict[str, str]:
    """Return the license of the base model's card, and print it; empty if none is known."""
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
        check_secrets(name, text, secrets, homes=name not in VOCABULARY)


def _beginning(path: Path) -> bytes:
    """Return the whole content of a text file, or the header of a safetensors file."""
    if path.suffix != ".safetensors":
        return path.read_bytes()
    with path.open("rb") as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def _upload(files: dict[str, Content], repo_id: str, *, public: bool, revision: str | None) -> Pushed:
    api = HfApi(endpoint=variable("HF_ENDPOINT") or None)
    hub_logging.set_verbosity_error()  # it warns if there is nothing to commit
    patiently("creating the repository", repo_id, lambda: api.create_repo(repo_id, private=not public, exist_ok=True))
    info = patiently("reading the repository", repo_id, lambda: api.repo_info(repo_id))
    if not info.private and not public:
        raise UserError(f"{repo_id} is public on the Hub; add --public if others may see it, or give another --repo-id")
    if info.private and public:
        say(f"{repo_id} exists and stays private; make it public in its settings on the Hub")
    if revision:
        patiently("creating the branch", repo_id, lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
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
    return (to_json(value, indent=2, sort_keys=True) + "\n").encode("utf-8")
