"""`qdsft push` against a server that speaks the Hub's protocol: what arrives, what does not, and what goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from helpers.loopback_hub import TOKEN, Fault, LoopbackHub, Repo
from helpers.paths import ROOT
from helpers.pushing import REPO, make_push_run, reachable_hub
from helpers.tiny_run import make_run
from huggingface_hub import ModelCard

from qdsft.cli.main import main
from qdsft.deploy.merge import merge
from qdsft.deploy.push import _check_all, collect, push
from qdsft.errors import UserError
from qdsft.runs.manifest import read_manifest, write_manifest

TINY = Callable[[str], Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with reachable_hub(monkeypatch, tmp_path / "home") as server:
        yield server


@pytest.fixture(scope="module")
def made(tiny_model: TINY, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_push_run(tmp_path_factory.mktemp("runs") / "my-run", tiny_model("qwen3"))


@pytest.fixture
def run_dir(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "my-run"))


def test_an_adapter_arrives_and_a_second_push_changes_nothing(
    hub: LoopbackHub, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run_dir), "--repo-id", REPO]) == 0
    repo = hub.repos[REPO]
    assert repo.private and len(repo.commits) == 1
    files = repo.branches["main"]
    assert sorted(files) == [
        *(".gitattributes", "README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja"),
        *("generation_config.json", "run.json", "tokenizer.json", "tokenizer_config.json"),
    ]
    for name in ("adapter_model.safetensors", "chat_template.jinja", "tokenizer.json"):
        assert files[name] == (run_dir / "adapter" / name).read_bytes()
    assert json.loads(files["generation_config.json"])["eos_token_id"] == read_manifest(run_dir).stop_token_ids
    assert f"pushed to {hub.url}/{REPO}" in capsys.readouterr().out
    puts = sum(request.startswith("PUT") for request in hub.requests)
    assert puts == 2  # the weights and the tokenizer are large here
    assert main(["push", str(run_dir), "--repo-id", REPO]) == 0
    assert len(repo.commits) == 1 and sum(request.startswith("PUT") for request in hub.requests) == puts
    assert "nothing has changed since the last push" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "heading"),
    [
        ((), f"{REPO}, branch main: private; an existing public repository is refused without --public"),
        (("--public", "--revision", "v2"), f"{REPO}, branch v2: public"),
    ],
)
def test_a_dry_run_lists_what_would_be_uploaded(
    hub: LoopbackHub, run_dir: Path, options: tuple[str, ...], heading: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["push", str(run_dir), "--repo-id", REPO, *options]
    assert main([*command, "--dry-run"]) == 0 and not hub.repos and not hub.requests
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == heading
    listed = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in lines if line.endswith(" bytes")}
    card = "\n".join(lines[lines.index("nothing was uploaded; README.md:") + 2 :])
    assert listed.pop("together") == sum(listed.values())
    assert main(command) == 0
    files = hub.repos[REPO].branches["v2" if options else "main"]
    assert listed == {name: len(content) for name, content in files.items() if name != ".gitattributes"}
    assert card == files["README.md"].decode("utf-8").rstrip()


def test_a_dry_run_finds_what_would_stop_the_push(
    hub: LoopbackHub, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run_dir / "adapter" / "chat_template.jinja").open("a", encoding="utf-8").write(f"{{# {TOKEN} #}}")
    assert main(["push", str(run_dir), "--repo-id", REPO, "--dry-run"]) == 1
    assert capsys.readouterr().out == ""


def test_nothing_of_the_machine_is_uploaded(hub: LoopbackHub, run_dir: Path, made: Path, tiny_model: TINY) -> None:
    push(run_dir, REPO)
    everything = b"\n".join(hub.received) + b"\n".join(hub.repos[REPO].branches["main"].values())
    own = [
        TOKEN,
        str(run_dir),
        str(made),
        str(tiny_model("qwen3")),
        str(ROOT),
        "Linux-of-mine",
        "secret rows",
        "pickled",
    ]
    for secret in own:
        assert secret.encode() not in everything, secret
    paths = [path for commit in hub.repos[REPO].commits for path in commit[1]]
    assert not [path for path in paths if path.endswith(".bin") or path in {"notes.txt", "eval.jsonl"}]


@pytest.mark.parametrize("where", ["adapter_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("secret", ["/home/kim/models", "hf_" + "abcde" * 6, TOKEN])
def test_a_secret_in_a_file_stops_the_push(hub: LoopbackHub, run_dir: Path, where: str, secret: str) -> None:
    path = run_dir / "adapter" / where
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "note": secret}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"{where}: holds .*which would be uploaded; remove it from the file"):
        push(run_dir, REPO)
    assert REPO not in hub.repos


def test_the_card(hub: LoopbackHub, run_dir: Path, tiny_model: TINY, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(run_dir)
    manifest.recipe["data"]["train"] = "someone/questions"
    write_manifest(run_dir, manifest)
    push(run_dir, REPO)
    card = ModelCard(hub.repos[REPO].branches["main"]["README.md"].decode())
    header = card.data.to_dict()
    assert header["datasets"] == ["someone/questions"] and header["language"] == ["en", "ko"]
    assert header["library_name"] == "peft" and header["pipeline_tag"] == "text-generation"
    assert "base_model" not in header and "license" not in header  # a folder of this machine, without a card
    assert "the card names no licence: that of qwen3 is not known" in capsys.readouterr().err
    results = {result.metric_type: result.metric_value for result in card.data.eval_results or []}
    assert results == {"exact_match": 0.5, "sari": 0.75} and card.data.model_name == "decomposer"
    assert f"hf download {REPO} --local-dir decomposer" in card.text and "# decomposer" in card.text
    assert "누가 더?\n  1. A?\n  2. B of #1?\n" in card.text and "Wrong?" not in card.text
    assert "is not on the Hub" in card.text and "baseline" in card.text
    (tiny_model("qwen3") / "README.md").write_text("---\nlicense: other\nlicense_name: tiny\n---\n", encoding="utf-8")
    push(run_dir, REPO)
    (tiny_model("qwen3") / "README.md").unlink()
    header = ModelCard(hub.repos[REPO].branches["main"]["README.md"].decode()).data.to_dict()
    assert header["license"] == "other" and header["license_name"] == "tiny"
    assert hub.repos[REPO].commits[-1] == ("main", ("README.md",))


def test_a_merged_model(hub: LoopbackHub, run_dir: Path, tmp_path: Path) -> None:
    merge(run_dir, tmp_path / "merged", dtype="float32")
    pushed = push(tmp_path / "merged", REPO, public=True, revision="v1")
    repo = hub.repos[REPO]
    assert not repo.private and pushed.url == f"{hub.url}/{REPO}/tree/v1"
    assert sorted(repo.branches["main"]) == [".gitattributes"]
    files = repo.branches["v1"]
    assert files.keys() >= {"model.safetensors", "config.json", "merge.json", "run.json", "README.md"}
    header = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert header["library_name"] == "transformers" and "model-index" not in header
    assert b"## Merge" in files["README.md"] and b"of the adapter, before the merge" in files["README.md"]
    assert b"  2. B of #1?\n" in files["README.md"]
    assert header["language"] == ["en", "ko"]
    everything = b"\n".join(hub.received)
    assert str(tmp_path).encode() not in everything and TOKEN.encode() not in everything


def test_a_whole_model(hub: LoopbackHub, tiny_model: TINY, tmp_path: Path) -> None:
    run_dir = make_run(tmp_path / "whole", tiny_model("gpt_neox"))
    base = hub.repos["someone/base"] = Repo(False)
    base.branches["main"]["README.md"] = b"---\nlicense: apache-2.0\n---\n# base\n"
    manifest = read_manifest(run_dir)
    manifest.base_model.update({"name_or_path": "someone/base", "revision": base.sha("main")})
    manifest.recipe["training"] |= {"deepspeed": "/workspace/ds.json", "output_dir": "/workspace/out", "hub_token": "x"}
    write_manifest(run_dir, manifest)
    push(run_dir, REPO)
    files = hub.repos[REPO].branches["main"]
    assert files.keys() >= {"config.json", "model.safetensors", "generation_config.json", "run.json"}
    assert b"/workspace" not in b"".join(files.values()) and "hub_token" not in files["run.json"].decode()
    header = yaml.safe_load(files["README.md"].decode().split("---")[1])
    assert header["license"] == "apache-2.0"
    assert header["base_model"] == "someone/base" and header["base_model_relation"] == "finetune"


def test_weights_of_an_earlier_push_are_removed(hub: LoopbackHub, run_dir: Path) -> None:
    push(run_dir, REPO)
    files = hub.repos[REPO].branches["main"]
    files["model-00001-of-00002.safetensors"] = b"old"
    files["notes.md"] = b"the user's own"
    assert push(run_dir, REPO).is_new
    assert "model-00001-of-00002.safetensors" not in files and "notes.md" in files


def test_a_merge_that_did_not_pass_needs_force(hub: LoopbackHub, run_dir: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    merge(run_dir, merged, dtype="float32")
    certificate = json.loads((merged / "merge.json").read_text(encoding="utf-8"))
    for passed, failed, reason in (
        (False, ["mean KL 1"], r"does not agree .*\(mean KL 1\)"),
        (None, [], "was not compared"),
    ):
        changed = {**certificate, "passed": passed, "failed": failed}
        (merged / "merge.json").write_text(json.dumps(changed), encoding="utf-8")
        with pytest.raises(UserError, match=rf"{reason}.*merge again, or push it all the same with --force"):
            push(merged, REPO)
    assert REPO not in hub.repos
    push(merged, REPO, force=True)
    (merged / "config.json").write_text((merged / "config.json").read_text() + " ", encoding="utf-8")
    with pytest.raises(UserError, match=r"config.json: is not the file that merge.json is about; merge again"):
        push(merged, REPO, force=True)
    del certificate["example"]
    for damaged in ("[]", "{", json.dumps(certificate)):
        (merged / "merge.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=r"merge.json: damaged; merge again"):
            push(merged, REPO, force=True)


COMMIT = f"POST /api/models/{REPO}/commit/main"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(COMMIT, 503, 2), "uploading: the Hub answers 503; trying again in 0.01 s"),
        (Fault(COMMIT, 0, 1), "uploading: the connection broke"),
        (Fault(COMMIT, 409, 1), "uploading: the Hub answers 409"),
        (Fault("POST /api/repos/create", 500, 1), "creating the repository: the Hub answers 500"),
        (Fault(f"POST /api/models/{REPO}/preupload", 0, 1), ""),  # the library itself tries once more
    ],
)
def test_temporary_errors_are_retried(
    hub: LoopbackHub, run_dir: Path, fault: Fault, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.append(fault)
    assert push(run_dir, REPO).is_new
    assert said in capsys.readouterr().err and len(hub.repos[REPO].commits) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("whoami", 401), r"the Hub refuses the token \(401\); set HF_TOKEN"),
        (Fault("POST /api/repos/create", 401), "creating the repository: the Hub answers 401: the token is not valid"),
        (Fault("POST /api/repos/create", 403), "answers 403: the token may not write to kim/decomposer"),
        (Fault(COMMIT, 403), "uploading: the Hub answers 403: the token may not write"),
        (Fault(COMMIT, 404), "uploading: the Hub answers 404: there is no kim/decomposer"),
        (Fault(COMMIT, 413), r"the Hub answers 413 \(.*correct this and push again"),
        (Fault(COMMIT, 503), "uploading: the Hub answers 503, 3 times; push again later, what is uploaded stays"),
        (Fault(COMMIT, 0), r"uploading: the connection broke \(.*\), 3 times; push again later"),
    ],
)
def test_permanent_errors_are_one_line(
    hub: LoopbackHub, run_dir: Path, fault: Fault, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.faults.append(fault)
    with pytest.raises(UserError, match=message):
        push(run_dir, REPO)
    if fault.status in {401, 403, 404, 413}:
        assert "trying again" not in capsys.readouterr().err
    hub.faults.clear()
    assert push(run_dir, REPO).is_new  # nothing is in the way of the next try


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    hub: LoopbackHub, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from helpers.loopback_hub import Handler

    lost: list[bool] = []
    commit = Handler._commit

    def lose(self: Handler, *arguments: object) -> None:
        if lost:
            return commit(self, *arguments)  # type: ignore[arg-type]
        lost.append(True)
        self.close_connection = True
        monkeypatch.setattr(self, "_json", lambda *_: self.connection.close(), raising=False)
        return commit(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Handler, "_commit", lose)
    push(run_dir, REPO)
    assert lost and len(hub.repos[REPO].commits) == 1


def test_a_public_repository_is_not_written_to_unasked(
    hub: LoopbackHub, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push(run_dir, REPO, public=True)
    with pytest.raises(UserError, match=r"is public on the Hub; add --public if others may see it"):
        push(run_dir, REPO)
    hub.repos[REPO].private = True
    push(run_dir, REPO, public=True)
    assert "stays private" in capsys.readouterr().err


def test_large_files_in_parts(hub: LoopbackHub, run_dir: Path) -> None:
    hub.part_size = 40_000
    push(run_dir, REPO)
    weights = (run_dir / "adapter" / "adapter_model.safetensors").read_bytes()
    assert hub.repos[REPO].branches["main"]["adapter_model.safetensors"] == weights
    assert max(len(parts) for parts in hub.parts.values()) > 2


def test_runs_that_cannot_be_pushed_are_refused(
    hub: LoopbackHub, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: object) -> str:
        assert main(["push", *map(str, arguments)]) == 1
        return capsys.readouterr().err

    assert "no run directory (run.json is missing)" in refusal(tmp_path / "nope", "--repo-id", REPO)
    assert "'decomposer' is no repository on the Hub; write user/name" in refusal(run_dir, "--repo-id", "decomposer")
    assert "may not write to strangers/it" in refusal(run_dir, "--repo-id", "strangers/it")
    (run_dir / "adapter" / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    assert "not the template that this run was trained with" in refusal(run_dir, "--repo-id", REPO)
    manifest = read_manifest(run_dir)
    manifest.state = "running"
    write_manifest(run_dir, manifest)
    assert "this run has not finished" in refusal(run_dir, "--repo-id", REPO)
    assert not hub.repos


SECRETS = {
    "Hub": "hf_" + "a1B2" * 8,
    "OpenAI": "sk-proj-" + "a1B2" * 8,
    "GitHub": "ghp_" + "a1B2" * 9,
    "GitLab": "glpat-" + "a1B2" * 6,
    "Amazon": "AKIA" + "ABCD1234" * 2,
    "Google": "AIza" + "a1B2c" * 7,
    "Slack": "xoxb-123456789012-abc",
    "private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
    "RSA key": "-----BEGIN RSA PRIVATE KEY-----",
    "key of another kind": "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
    "Stripe": "sk_live_" + "a1B2" * 6,
    "after a line feed of JSON": r"\nhf_" + "a1B2" * 8,
    "after a letter of JSON": r"\u000ask-" + "a1B2" * 8,
}


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("name", ["chat_template.jinja", "vocab.txt", "merges.txt", "tokenizer_config.json"])
def test_a_token_or_key_in_any_file_is_found(run_dir: Path, name: str, kind: str) -> None:
    manifest = read_manifest(run_dir)
    (run_dir / "adapter" / name).write_text(f'{{"x": "{SECRETS[kind]}"}}\n', encoding="utf-8")
    files = collect(run_dir, manifest, None, REPO)
    with pytest.raises(UserError, match=f"{name}: holds what looks like a token or key"):
        _check_all(files, run_dir, manifest)


def test_the_files_of_a_run_look_like_no_secret(tiny_model: TINY, tmp_path: Path) -> None:
    for architecture in ("llama", "gpt_neox", "gemma3_text"):
        run = make_run(tmp_path / architecture, tiny_model(architecture))
        _check_all(collect(run, read_manifest(run), None, REPO), run, read_manifest(run))


@pytest.mark.parametrize(
    "name",
    [
        "vocab.secrets",
        "vocabulary",
        "tokenizer_notes.txt",
        "tokenizer.bak",
        "tokenizer.json.orig",
        "adapter_model.safetensors.old",
        "other.safetensors",
        "modeling_x.py",
        "optimizer.pt",
        ".env",
    ],
)
def test_a_file_of_another_name_is_not_uploaded(run_dir: Path, name: str) -> None:
    (run_dir / "adapter" / name).write_text("x", encoding="utf-8")
    assert name not in collect(run_dir, read_manifest(run_dir), None, REPO)


@pytest.mark.parametrize(
    "name", ["vocab.json", "chat_template.jinja", "adapter_config.json", "adapter_model.safetensors"]
)
@pytest.mark.parametrize("target", ["file", "relative", "folder"])
def test_a_link_out_of_the_folder_is_refused(run_dir: Path, tmp_path: Path, name: str, target: str) -> None:
    path = run_dir / "adapter" / name
    outside = tmp_path / "outside"
    if target == "folder":
        outside.mkdir()
    elif path.exists():
        outside.write_bytes(path.read_bytes())
    else:
        outside.write_text("secret", encoding="utf-8")
    path.unlink(missing_ok=True)
    path.symlink_to("../../outside" if target == "relative" else outside)
    with pytest.raises(UserError, match=rf"{name}: a link to .*outside, which is not in the folder"):
        collect(run_dir, read_manifest(run_dir), None, REPO)


def test_a_link_within_the_folder_is_a_file(run_dir: Path) -> None:
    folder = run_dir / "adapter"
    (folder / "chat_template.jinja").rename(folder / "template")
    (folder / "chat_template.jinja").symlink_to("template")
    assert "chat_template.jinja" in collect(run_dir, read_manifest(run_dir), None, REPO)
