"""Check everything that training needs from the machine, one line each, with a remedy."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from qdsft.environment import EMPTY_VARIABLES, variable
from qdsft.errors import UserError, reason
from qdsft.planning.doctor import machine_checks
from qdsft.planning.doctor.finding import Finding, Look, look_safely, within
from qdsft.recipe import Recipe, load_recipe
from qdsft.recipe.required_packages import check_optional_packages, needs
from qdsft.tested_versions import deviations

LEAST_GIB, GOOD_GIB = 1, 30
"""Free disk space in GiB: below the first, saving fails; a 7B model with its checkpoints needs the second."""
HUB_SECONDS = 10


def examine(recipe_path: str | None, overrides: Sequence[str]) -> Iterator[Finding]:
    """Yield the findings one by one; a check that fails does not stop the next. Only temporary files are written."""
    cards = machine_checks.ask_driver()
    recipe: Recipe | None = None
    if recipe_path is not None:
        try:
            recipe = load_recipe(recipe_path, overrides)
        except UserError as error:
            yield look_safely("recipe", partial(Finding, "recipe", "failed", str(error)))
    looks: list[tuple[str, Look]] = [
        ("python", python),
        ("packages", packages),
        ("driver", partial(machine_checks.driver, cards)),
        ("torch", partial(machine_checks.torch_build, cards)),
        ("gpus", machine_checks.gpus_work),
        ("bfloat16", machine_checks.number_format),
        ("bitsandbytes", machine_checks.four_bit),
        ("attention", machine_checks.attention),
        ("deepspeed", partial(machine_checks.deepspeed, cards)),
        ("disk", partial(disk, recipe)),
        ("caches", caches),
        ("token", token),
    ]
    if recipe is not None:
        looks += [("optional", partial(optional_packages, recipe)), ("model", partial(model_access, recipe))]
    for name, look in looks:
        with redirect_stdout(sys.stderr):  # libraries print to standard output, where the result belongs
            finding = look_safely(name, look)
        yield finding


def python() -> Finding:
    """Report the interpreter and the system."""
    found = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPU cores"
    return Finding("python", "ok", found)


def packages() -> Finding:
    """Check that the required packages are in the range that qdsft accepts, and list those that are not tested."""
    try:
        found = deviations()
    except metadata.PackageNotFoundError:
        return Finding("packages", "note", "qdsft is not installed, so its ranges cannot be compared", "run make setup")
    if unfit := [one for one in found if not one.fits]:
        needed = " ".join(shlex.quote(f"{one.name}{one.allowed}") for one in unfit)
        return Finding("packages", "failed", ", ".join(map(str, unfit)), f"run pip install {needed}, or make setup")
    if found:
        listed = ", ".join(map(str, found))
        return Finding("packages", "note", f"accepted, but not the tested versions: {listed}")
    return Finding("packages", "ok", "all required packages are the tested versions")


def optional_packages(recipe: Recipe) -> Finding:
    """Check the optional packages that the recipe requires. Raises UserError for the first that is not installed."""
    check_optional_packages(recipe)
    found = ", ".join(f"{need.key}={need.value}" for need in needs(recipe))
    return Finding("optional", "ok", f"installed for {found}" if found else "the recipe requires none")


def disk(recipe: Recipe | None) -> Finding:
    """Check the free space for runs and downloads."""
    from huggingface_hub import constants

    places = {"runs": recipe.run_dir if recipe else Path("outputs"), "downloads": Path(constants.HF_HUB_CACHE)}
    free = {name: shutil.disk_usage(_existing(place)).free / 2**30 for name, place in places.items()}
    found = ", ".join(f"{free[name]:.0f} GiB free for {name} ({place})" for name, place in places.items())
    if min(free.values()) < LEAST_GIB:
        return Finding("disk", "failed", found, "free some space, or set training.output_dir and HF_HOME")
    if min(free.values()) < GOOD_GIB:
        return Finding("disk", "note", found, f"a 7B model with checkpoints needs {GOOD_GIB} GiB")
    return Finding("disk", "ok", found)


def caches() -> Finding:
    """Check that every cache folder, or the folder in which it would be created, can be written."""
    from huggingface_hub import constants

    folders = {
        "HF_HOME": Path(constants.HF_HOME),
        "QDSFT_CACHE": Path(variable("QDSFT_CACHE") or Path(constants.HF_HOME) / "qdsft"),
        "TORCH_EXTENSIONS_DIR": Path(variable("TORCH_EXTENSIONS_DIR", "~/.cache/torch_extensions")),
        "TRITON_CACHE_DIR": Path(variable("TRITON_CACHE_DIR", "~/.triton/cache")),
    }
    bad = {}
    for name, folder in folders.items():
        try:
            with tempfile.TemporaryFile(dir=_existing(folder)):
                pass
        except OSError as error:
            bad[name] = f"{name} ({folder}): {error.strerror}"
    if bad:
        return Finding(
            "caches", "failed", ", ".join(bad.values()), f"set {' and '.join(bad)} to a folder that you can write"
        )
    found = f"can be written: {', '.join(folders)}"
    if EMPTY_VARIABLES:
        found += f"; set to an empty value, which counts as unset: {', '.join(EMPTY_VARIABLES)}"
        return Finding("caches", "note", found, "give a value, or remove the variable")
    return Finding("caches", "ok", found)


def token() -> Finding:
    """Check for a Hub token and report its owner, never the token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        return Finding("token", "note", "no Hub token", "gated models and pushing require HF_TOKEN")
    if constants.HF_HUB_OFFLINE:
        return Finding("token", "note", "found, but not tried, since HF_HUB_OFFLINE is set")

    def ask() -> Finding:
        try:
            return Finding("token", "ok", f"valid, of Hub user {_api().whoami().get('name')}")
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in {401, 403}:
                return Finding("token", "failed", "the Hub refuses it", "set HF_TOKEN to a valid one")
            return _unreachable("token", error)
        except Exception as error:  # which exception a missing connection raises differs between releases of the client
            return _unreachable("token", error)

    return within(HUB_SECONDS, ask, _unreachable("token", TimeoutError(f"no answer in {HUB_SECONDS} s")))


def model_access(recipe: Recipe) -> Finding:
    """Check that the recipe's model is on this machine, or may be downloaded."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    name = recipe.model.name_or_path
    recipe.check_local_model()
    if (Path(name) / "config.json").is_file():
        return Finding("model", "ok", f"{name} is a local folder")
    cached = isinstance(try_to_load_from_cache(name, "config.json", revision=recipe.model.revision), str)
    here = f"{name} is in the cache" if cached else f"{name} is not in the cache"
    if constants.HF_HUB_OFFLINE:
        return Finding("model", "note", f"{here}; the Hub is not asked, since HF_HUB_OFFLINE is set")

    def ask() -> Finding:
        try:
            _api().auth_check(name)
        except GatedRepoError:
            remedy = f"accept its licence on its page on the Hub ({name}), and set HF_TOKEN"
            return Finding("model", "failed", f"{name} is gated, and this token may not read it", remedy)
        except RepositoryNotFoundError:
            return Finding(
                "model",
                "failed",
                f"{name} is private, or not on the Hub",
                "correct model.name_or_path, or set HF_TOKEN",
            )
        except Exception as error:  # as above
            return _unreachable("model", error, here)
        return Finding("model", "ok", f"{name} may be read; {'in' if cached else 'not yet in'} the cache")

    return within(HUB_SECONDS, ask, _unreachable("model", TimeoutError(f"no answer in {HUB_SECONDS} s"), here))


def _api() -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=variable("HF_ENDPOINT") or None)


def _unreachable(name: str, error: Exception, before: str = "") -> Finding:
    found = f"{before + '; ' if before else ''}the Hub cannot be reached ({reason(error)})"
    return Finding(name, "note", found, "without a connection set HF_HUB_OFFLINE=1")


def _existing(path: Path) -> Path:
    """Return the path, or its nearest parent folder that exists."""
    path = path.expanduser().absolute()
    return next(place for place in (path, *path.parents) if place.exists())
