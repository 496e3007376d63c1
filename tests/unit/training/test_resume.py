"""A run starts, resumes from its newest complete checkpoint, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkpoints import write_checkpoint
from helpers.tiny_recipe import MakeRecipe, recipe_maker

from qdsft.errors import UserError
from qdsft.runs.manifest import Manifest, read_manifest, write_manifest
from qdsft.training.resume import Start, start_or_resume
from qdsft.training.run_record import new_manifest
from qdsft.training.run_setup import prepare_run


@pytest.fixture
def make_recipe(tmp_path: Path, tiny_model: Callable[[str], Path]) -> MakeRecipe:
    return recipe_maker(tmp_path, tiny_model)


@pytest.fixture
def manifest(make_recipe: MakeRecipe) -> Manifest:
    return new_manifest(prepare_run(make_recipe()))


def save(run_dir: Path, step: int, digest: str, *, complete: bool = True) -> Path:
    folder = write_checkpoint(run_dir, step, digest)
    if not complete:
        (folder / "optimizer.pt").unlink()
    return folder


def test_a_new_run_starts_at_the_first_step_and_is_marked_as_a_run(manifest: Manifest, tmp_path: Path) -> None:
    assert start_or_resume(tmp_path / "new", manifest, resume=False, overwrite=False) == Start()
    assert read_manifest(tmp_path / "new").state == "running"


def test_the_newest_complete_checkpoint_of_the_run_is_used(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, digest = tmp_path / "cut", manifest.fingerprint.sha256()
    start_or_resume(run_dir, manifest, resume=False, overwrite=False)
    assert start_or_resume(run_dir, manifest, resume=True, overwrite=False) == Start()
    assert "no checkpoint was saved" in capsys.readouterr().err
    save(run_dir, 2, digest)
    newest = save(run_dir, 4, digest)
    save(run_dir, 6, digest, complete=False)
    save(run_dir, 8, "another run")
    assert start_or_resume(run_dir, manifest, resume=True, overwrite=False) == Start(checkpoint=newest)
    said = capsys.readouterr().err
    assert "checkpoint-6: incomplete" in said and "checkpoint-8: belongs to another run" in said


def test_a_damaged_checkpoint_is_passed_over_and_named(
    manifest: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, digest = tmp_path / "cut", manifest.fingerprint.sha256()
    start_or_resume(run_dir, manifest, resume=False, overwrite=False)
    oldest, *others = (save(run_dir, step, digest) for step in (2, 4, 6))
    (others[0] / "rng_state.pth").unlink()
    (others[1] / "optimizer.pt").write_bytes(b"PK")
    assert start_or_resume(run_dir, manifest, resume=True, overwrite=False) == Start(checkpoint=oldest)
    said = capsys.readouterr().err
    assert "checkpoint-4: rng_state.pth is missing; not used" in said
    assert "checkpoint-6: optimizer.pt cannot be read" in said
    assert all(folder.exists() for folder in others)


def test_a_resume_without_a_usable_checkpoint_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    run_dir = tmp_path / "damaged"
    start_or_resume(run_dir, manifest, resume=False, overwrite=False)
    save(run_dir, 2, "", complete=False)
    with pytest.raises(
        UserError, match=r"none of its checkpoints can be resumed from; .* start again with --overwrite"
    ):
        start_or_resume(run_dir, manifest, resume=True, overwrite=False)


def test_nothing_is_left_to_do_in_a_finished_run(manifest: Manifest, tmp_path: Path) -> None:
    run_dir = tmp_path / "done"
    start_or_resume(run_dir, manifest, resume=False, overwrite=False)
    write_manifest(run_dir, manifest.model_copy(update={"state": "finished"}))
    assert start_or_resume(run_dir, manifest, resume=True, overwrite=False) == Start(finished=True)
