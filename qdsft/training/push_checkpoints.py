"""Upload the weights of checkpoints to the Hub during training."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, get_token
from huggingface_hub.utils import disable_progress_bars
from huggingface_hub.utils import logging as hub_logging
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from qdsft.console import say
from qdsft.environment import variable
from qdsft.errors import UserError
from qdsft.files import new_directory, write_json
from qdsft.model.hub import patiently
from qdsft.recipe import Recipe
from qdsft.runs.layout import CHECKPOINT
from qdsft.runs.public import VOCABULARY, check_secrets, is_uploaded, public_name
from qdsft.strict_json import read_object

BRANCH = "checkpoints"
WAITING = ".to-push"
"""Folder in the run directory with links to the checkpoints that are not uploaded yet."""


class PushCheckpoints(TrainerCallback):
    """Upload each checkpoint, in the background, to a folder of its name on the branch `checkpoints`.

    Weights, configuration and tokenizer are uploaded; the states of optimizer and scheduler, which are pickles, are
    not. A checkpoint that cannot be uploaded is tried again after the next one is saved, and after a resume. Training
    never fails because of an upload, except before the first step: for a repository that is public or refused.
    """

    def __init__(self, recipe: Recipe) -> None:
        self._repo: str = recipe.publish.hub_model_id or ""
        self._model = recipe.model.name_or_path
        self._artifact: Literal["adapter", "model"] = "model" if recipe.lora is None else "adapter"
        self._run_dir = recipe.run_dir
        self._waiting = recipe.run_dir / WAITING
        self._uploads = ThreadPoolExecutor(1)
        self._api = HfApi(endpoint=variable("HF_ENDPOINT") or None)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Create the repository, and upload what an earlier run left. Raises UserError for a public repository."""
        if not state.is_world_process_zero:
            return
        if not state.global_step:  # not a resume
            shutil.rmtree(self._waiting, ignore_errors=True)
        hub_logging.set_verbosity_error()
        disable_progress_bars()
        repo, api = self._repo, self._api
        patiently("creating the repository", repo, lambda: api.create_repo(repo, private=True, exist_ok=True))
        if not patiently("reading the repository", repo, lambda: api.repo_info(repo)).private:
            raise UserError(f"{repo} is public, and publish.push_checkpoints needs a private one; choose another name")
        patiently("creating the branch", repo, lambda: api.create_branch(repo, branch=BRANCH, exist_ok=True))
        self._uploads.submit(self._upload)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any) -> None:
        """Link the files of the checkpoint, which may be deleted before they are uploaded, and start the upload."""
        if not state.is_world_process_zero:
            return
        name = f"{CHECKPOINT}{state.global_step}"
        try:
            self._stage(self._run_dir / name)
        except (UserError, OSError) as error:
            say(f"{name} is not pushed: {error}")
            return
        self._uploads.submit(self._upload)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **options: Any
    ) -> None:
        """Wait for the uploads."""
        if state.is_world_process_zero:
            say(f"waiting until the checkpoints are pushed to {self._repo}")
        self._uploads.shutdown(wait=True)

    def _stage(self, checkpoint: Path) -> None:
        self._waiting.mkdir(exist_ok=True)
        target = self._waiting / checkpoint.name
        secrets = {get_token() or "": "the token", str(self._run_dir.resolve()): "a folder of this machine"}
        if Path(self._model).is_absolute():
            secrets[self._model] = "the base model's folder on this machine"
        with new_directory(target, "delete it") as folder:
            for path in sorted(checkpoint.iterdir()):
                if is_uploaded(path.name, self._artifact):
                    os.link(path, folder / path.name)
            if self._artifact == "adapter":
                config = read_object(checkpoint / "adapter_config.json", "train again")
                write_json(
                    folder / "adapter_config.json", {**config, "base_model_name_or_path": public_name(self._model)}
                )
            for path in folder.glob("*.json*"):
                check_secrets(path.name, path.read_bytes(), secrets, homes=path.name not in VOCABULARY)

    def _upload(self) -> None:
        for folder in sorted(self._waiting.glob(f"{CHECKPOINT}*"), key=lambda path: path.stat().st_mtime):
            try:
                self._push(folder)
            except UserError as error:
                say(f"{folder.name} is not pushed yet ({error}); training continues")
                return
            shutil.rmtree(folder)
            say(f"pushed {folder.name} to {self._repo}, branch {BRANCH}")

    def _push(self, folder: Path) -> None:
        def upload() -> Any:
            return self._api.upload_folder(
                repo_id=self._repo, folder_path=folder, path_in_repo=folder.name, revision=BRANCH
            )

        patiently(f"pushing {folder.name}", self._repo, upload)
