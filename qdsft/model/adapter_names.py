"""Refuse names in the lora section that match nothing in the model, and name the nearest that would."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

from peft.utils.other import get_pattern_key

from qdsft.errors import UserError
from qdsft.recipe import Recipe

Match = Callable[[str, str], bool]
PATTERNS = ("rank_pattern", "alpha_pattern")


def check_targets(recipe: Recipe, model: Any, decoder: str) -> None:
    """Raise UserError for the first entry of a list in the lora section that matches nothing in `model`.

    `decoder` is the name of the text decoder in it, which holds everything that an adapter may sit on.
    """
    modules = [name for name, _ in model.named_modules() if name]
    parameters = [name for name, _ in model.named_parameters()]
    inside = [name for name in modules if name.startswith(decoder)] + [n for n in modules if "." not in n]
    for key in PATTERNS:
        for pattern in (recipe.lora or {}).get(key) or {}:
            _compile(recipe, key, pattern)
    for key, names, match in (
        ("target_modules", inside, _is_suffix),
        ("exclude_modules", modules, _is_suffix),
        ("modules_to_save", modules, str.endswith),
        ("target_parameters", parameters, _is_suffix),
        ("layers_pattern", modules, _is_numbered),
    ):
        _check_entries(recipe, key, names, match)
    _check_tokens(recipe, model, modules)


def check_patterns_match(recipe: Recipe, adapted: Sequence[str]) -> None:
    """Raise UserError for a key of rank_pattern or alpha_pattern that PEFT takes for none of the adapted modules."""
    for key in PATTERNS:
        patterns = list((recipe.lora or {}).get(key) or {})
        taken = {get_pattern_key(patterns, name) for name in adapted}
        for pattern in patterns:
            if pattern in taken:
                continue
            if any(get_pattern_key([pattern], name) == pattern != name for name in adapted):
                raise UserError(
                    f"{recipe.where(f'lora.{key}')}: lora.{key}: {pattern} is never used, because an earlier entry "
                    "matches the same modules; put it first"
                )
            raise _unmatched(recipe, key, pattern, adapted)


def _check_entries(recipe: Recipe, key: str, names: Sequence[str], match: Match) -> None:
    entries = (recipe.lora or {}).get(key) or []
    if isinstance(entries, str):
        if key == "layers_pattern":
            entries = [entries]
        elif entries != "all-linear":
            _check_expression(recipe, key, entries, names)
            return
        else:
            return
    for entry in entries:
        if not any(match(name, entry) for name in names):
            raise _unmatched(recipe, key, entry, names)


def _check_expression(recipe: Recipe, key: str, expression: str, names: Sequence[str]) -> None:
    pattern = _compile(recipe, key, expression)
    if not any(pattern.fullmatch(name) for name in names):
        raise _unmatched(recipe, key, expression, names)


def _compile(recipe: Recipe, key: str, expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        where = recipe.where(f"lora.{key}")
        raise UserError(f"{where}: lora.{key}: {expression} is no regular expression: {error}; correct it") from error


def _check_tokens(recipe: Recipe, model: Any, modules: Sequence[str]) -> None:
    given = (recipe.lora or {}).get("trainable_token_indices") or []
    rows = int(model.get_input_embeddings().weight.shape[0])
    for name, indices in given.items() if isinstance(given, dict) else [("", given)]:
        if name and not any(module.endswith(name) for module in modules):
            raise _unmatched(recipe, "trainable_token_indices", name, modules)
        for index in indices:
            if not isinstance(index, int) or not 0 <= index < rows:
                key = "lora.trainable_token_indices"
                raise UserError(f"{recipe.where(key)}: {key}: {index} is no token of {rows}; correct it")


def _unmatched(recipe: Recipe, key: str, entry: str, names: Iterable[str]) -> UserError:
    length = entry.count(".") + 1
    ends = {".".join(name.split(".")[-length:]) for name in names}
    near = get_close_matches(entry, sorted(end for end in ends if not end.isdigit()), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else "correct or remove it"
    what = "parameter" if key == "target_parameters" else "module"
    return UserError(f"{recipe.where(f'lora.{key}')}: lora.{key}: {entry} matches no {what} of the model; {hint}")


def _is_suffix(name: str, entry: str) -> bool:
    return name == entry or name.endswith(f".{entry}")


def _is_numbered(name: str, entry: str) -> bool:
    """Return whether `entry` is a list of layers on the way to a module, as PEFT looks for it."""
    return re.match(rf"(?:^|.*?\.){entry}\.\d+\.", name) is not None
