"""Read YAML strictly, with the line of every key.

PyYAML follows YAML 1.1, where `2e-4` is text, `yes` is true, `010` is eight and the last of two equal keys wins. Here
`2e-4` is a number, only `true` and `false` are truth values, dates stay text, and a duplicate key is an error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from qdsft.errors import UserError

Path = tuple[str, ...]
CORRECT = "; correct this line or the one before it"

_INT = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "true": True, "false": False}
_WORDS |= {word.capitalize(): value for word, value in _WORDS.items() if word.isalpha()}
_NO_TEXT = re.compile("[\0\ud800-\udfff]")  # can only come from escapes such as "\\ud800"


class _Loader(yaml.SafeLoader):
    """Compose nodes without converting values, which `_scalar` does, and refuse aliases, tags and bad characters."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases (*name) are not supported; write the value out"
        elif tag := getattr(event, "tag", None):
            written = tag.replace("tag:yaml.org,2002:", "!!")
            problem = f"the tag {written} has no meaning in a recipe; remove it"
        elif isinstance(event, yaml.ScalarEvent) and (found := _NO_TEXT.search(event.value)):
            problem = f"the character U+{ord(found[0]):04X} is not allowed in text; remove it"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]
        return super().compose_node(parent, index)


def load(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """Parse one YAML document.

    Returns its value and the 1-based line of each key path (list positions are not part of paths).
    Raises UserError, with `name` and the line, for broken YAML, duplicate keys, aliases, tags,
    keys that are not text, characters that text cannot hold and numbers that are not finite.
    """
    lines: dict[Path, int] = {}
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else _value(node, name, (), lines)), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        problem = (error.problem or error.context or "").removeprefix("but ")
        raise UserError(f"{where}: not valid YAML: {problem if ';' in problem else problem + CORRECT}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed; remove it"
        raise UserError(f"{name}:{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        raise UserError(f"{name}: nested too deeply to be a recipe; give a recipe") from error
    except UserError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML converts numbers in escapes unchecked
        where = f"{name}:{loader.line + 1}" if loader else name
        raise UserError(f"{where}: not valid YAML: {error}{CORRECT}") from error


def _value(node: yaml.Node, name: str, path: Path, lines: dict[Path, int]) -> Any:
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key, line, child in _pairs(node, name):
            here = (*path, key)
            if key in result:
                raise UserError(f"{name}:{line}: {'.'.join(here)} is given twice (first on line {lines[here]})")
            lines[here] = line
            result[key] = _value(child, name, here, lines)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_value(child, name, path, {}) for child in node.value]
    assert isinstance(node, yaml.ScalarNode)
    return _scalar(node, f"{name}:{node.start_mark.line + 1}")


def _pairs(node: yaml.MappingNode, name: str) -> Iterator[tuple[str, int, yaml.Node]]:
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{name}:{line}: a key must be plain text")
        yield key_node.value, line, value_node


def _scalar(node: yaml.ScalarNode, where: str) -> Any:
    text: str = node.value
    if node.style is not None or not isinstance(text, str):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 100 else text
    if text.lower().lstrip("+-") in {".inf", ".nan"} or (_FLOAT.fullmatch(text) and not math.isfinite(float(text))):
        raise UserError(f"{where}: {text} is not a finite number")
    return float(text) if _FLOAT.fullmatch(text) else text
