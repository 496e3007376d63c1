"""Nothing half-written stands under its final name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from qdsft.errors import UserError
from qdsft.files import (
    disk_errors,
    exclusive,
    new_directory,
    new_text_file,
    refuse_existing_folder,
    write_json,
    write_text,
)

REMEDY = "free some space or choose another folder with training.output_dir"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what was written to the disk, and "-> NAME" for a rename, in order."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("which file a descriptor belongs to is only known on Linux")
    done: list[str] = []
    replace = os.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append(Path(f"/proc/self/fd/{number}").readlink().name))

    def rename(source: Path, target: Path) -> None:
        done.append(f"-> {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "replace", rename)
    return done


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_text_is_written_whole_as_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "가\n나\u2028\r\n")
    assert (tmp_path / "a").read_bytes() == "가\n나\u2028\r\n".encode()
    write_text(tmp_path / "a", "shorter")
    assert (tmp_path / "a").read_bytes() == b"shorter"
    assert names(tmp_path) == ["a"]


def test_json_is_readable_by_people(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"질문": [1, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n  "질문": [\n    1,\n    null\n  ]\n}\n'
    assert json.loads(text) == {"질문": [1, None]}


def test_contents_are_on_the_disk_before_the_name_is(tmp_path: Path, synced: list[str]) -> None:
    write_text(tmp_path / "a", "x")
    assert len(synced) == 3 and synced[0].startswith(".a.") and synced[1:] == ["-> a", tmp_path.name]
    synced.clear()
    with new_directory(tmp_path / "run") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "weights").write_bytes(b"x")
    renamed = synced.index("-> run")
    assert {"weights", "inner", ".run.tmp"} == set(synced[:renamed]) and synced[renamed + 1 :] == [tmp_path.name]


def test_a_target_that_is_a_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "kept").touch()
    with pytest.raises(UserError) as caught:
        write_text(tmp_path / "a", "x")
    assert str(caught.value) == f"{tmp_path}/a: cannot be written: Is a directory; {REMEDY}"
    assert names(tmp_path) == ["a"] and names(tmp_path / "a") == ["kept"]


def test_a_folder_that_is_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"none/a: cannot be written: No such file or directory; {REMEDY}"):
        write_text(tmp_path / "none" / "a", "x")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"file/a: cannot be written: Not a directory; {REMEDY}"):
        write_text(tmp_path / "file" / "a", "x")
    assert names(tmp_path) == ["file"]


def test_a_text_that_cannot_be_encoded_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a", "new \ud800")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["a"]


def test_a_new_directory_appears_only_when_its_block_ends_well(tmp_path: Path) -> None:
    with new_directory(tmp_path / "model") as folder:
        (folder / "weights").write_text("x", encoding="utf-8")
        assert folder != tmp_path / "model"
        assert not (tmp_path / "model").exists()
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["weights"]


def test_a_new_directory_whose_block_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_directory(tmp_path / "model") as folder:
        (folder / "weights").touch()
        raise KeyError("x")
    assert names(tmp_path) == []


def test_a_new_directory_replaces_the_old_one_or_leaves_it(tmp_path: Path) -> None:
    old = tmp_path / "model"
    old.mkdir()
    (old / "old").touch()
    with pytest.raises(KeyboardInterrupt), new_directory(old) as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert names(old) == ["old"]
    with new_directory(old) as folder:
        (folder / "new").touch()
    assert names(old) == ["new"]
    assert names(tmp_path) == ["model"]


def test_files_of_an_interrupted_save_are_not_mixed_in(tmp_path: Path) -> None:
    left = tmp_path / ".model.tmp"
    left.mkdir()
    (left / "stale").touch()
    with new_directory(tmp_path / "model") as folder:
        (folder / "new").touch()
    assert names(tmp_path) == ["model"] and names(tmp_path / "model") == ["new"]


def test_a_new_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="model: cannot be written: Not a directory"), new_directory(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text(encoding="utf-8") == "mine"
    assert names(tmp_path) == ["model"]


def test_disk_errors_name_the_path_and_let_others_through() -> None:
    with pytest.raises(UserError) as caught, disk_errors(Path("x")):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == f"x: cannot be written: No space left on device; {REMEDY}"
    with pytest.raises(KeyError), disk_errors(Path("x")):
        raise KeyError


def test_a_new_text_file_appears_once_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "deep" / "a"
    with new_text_file(target) as file:
        file.write("가\n")
        assert not target.exists()
    assert target.read_bytes() == "가\n".encode()
    assert names(target.parent) == ["a"]


@pytest.mark.parametrize("error", [UserError("x"), KeyboardInterrupt()])
def test_a_block_that_fails_leaves_no_file_and_no_folder(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_text_file(tmp_path / "new" / "deep" / "a") as file:
        file.write("half")
        raise error
    assert names(tmp_path) == []


def test_a_new_text_file_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    with pytest.raises(UserError) as caught, new_text_file(tmp_path / "a"):
        pass
    assert str(caught.value) == f"{tmp_path}/a exists; delete it or choose another name"
    (tmp_path / "b").touch()
    message = r"b/c: cannot be written: .*; free some space or choose another target"
    with pytest.raises(UserError, match=message), new_text_file(tmp_path / "b" / "c"):
        pass
    assert names(tmp_path) == ["a", "b"]


def test_a_full_disk_leaves_no_new_text_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    message = "cannot be written: No space left on device"
    with pytest.raises(UserError, match=message), new_text_file(tmp_path / "new" / "a") as file:
        file.write("x")
    assert names(tmp_path) == []


def test_two_processes_do_not_write_to_one_folder(tmp_path: Path) -> None:
    run = tmp_path / "new" / "run"
    holder = (
        "import sys, time; from pathlib import Path; from qdsft.files import exclusive\n"
        "with exclusive(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder, str(run)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process is writing there"), exclusive(run):
            pass
        other.kill()  # nothing is left to clean up by hand
        other.wait()
        with exclusive(run):
            pass
    assert os.listdir(run.parent) == []


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    refuse_existing_folder(tmp_path / "new")
    with pytest.raises(UserError, match="exists; delete it or choose another --output"):
        refuse_existing_folder(tmp_path)
