"""`qdsft push`: upload a run to the Hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from qdsft.cli.arguments import add_trust
from qdsft.console import print_result


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `push` to the commands."""
    push = commands.add_parser(
        "push",
        help="upload a run's adapter or model, or a merged model, to the Hub",
        description="Upload a run's adapter or model, or a merged model, to the Hub, with tokenizer, template and "
        "model card. The repository is private unless --public is given. The token is read from HF_TOKEN.",
    )
    push.add_argument("run_dir", type=Path, metavar="DIR", help="a run directory, or what qdsft merge wrote")
    push.add_argument("--repo-id", required=True, metavar="USER/NAME", help="the repository; created if missing")
    push.add_argument("--public", action="store_true", help="make the repository public")
    push.add_argument("--revision", metavar="BRANCH", help="branch of the repository (main); created if missing")
    push.add_argument("--force", action="store_true", help="push a merged model that does not agree with its adapter")
    push.add_argument(
        "--dry-run", action="store_true", help="print files, sizes, visibility and model card; upload nothing"
    )
    add_trust(push)
    push.set_defaults(handler=_push)


def _push(options: argparse.Namespace) -> int:
    from qdsft.runs.manifest import read_finished

    manifest = read_finished(options.run_dir)
    from qdsft.deploy.push import preview, public_files, push

    if options.dry_run:
        trust = options.trust_remote_code
        files = public_files(options.run_dir, manifest, options.repo_id, force=options.force, trust_remote_code=trust)
        print_result(preview(files, options.repo_id, public=options.public, revision=options.revision))
        return 0
    pushed = push(
        options.run_dir,
        options.repo_id,
        public=options.public,
        force=options.force,
        revision=options.revision,
        manifest=manifest,
        trust_remote_code=options.trust_remote_code,
    )
    if pushed.is_new:
        print_result(f"pushed to {pushed.url}: {', '.join(pushed.files)}")
    else:
        print_result(f"{pushed.url}: nothing has changed since the last push")
    return 0
