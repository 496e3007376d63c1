"""Which QDMR operator a step is, and its arguments as text; references are written `#n`, as in a QDMR step.

All tests are the substring tests of BREAK's own identifier, with what they misread: "plastic" has "last" in it. A
step that it fails on raises ValueError or IndexError here.
"""

from __future__ import annotations

import re

from qdsft.metrics.break_official.normal_form.phrases import SUPERLATIVES

_AGGREGATE_WORDS = (
    *("number of", "highest", "largest", "lowest", "smallest", "maximum", "minimum", "max", "min", "sum", "total"),
    *("average", "avg"),
)
_COMPARED = (
    *("same as", "higher than", "larger than", "smaller than", "lower than", "more", "less", "at least", "at most"),
    *("equal", "is", "are", "was", "contain", "include", "has", "have", "end with", "start with", "ends with"),
    *("starts with", "begin"),
)
_SORTED = ("ordered by", "order by", "sorted by")
_BOTH = ("of both", "in both", "by both")
_ARITHMETIC = re.compile(r"(the )?(sum|difference|multiplication|division)")
_JOINED = re.compile(r"[#\s]+[and0-9#or,\s]+|both[#\s]+[and0-9#,\s]+")
"""Any of these characters in any order, as "#1 and #2", but also "#1 on #2"."""
_AT_AN_END = re.compile(r"^#+[0-9]+\s|#+[0-9]+$")

_LARGE = ("max", "highest", "largest", "most", "longest", "biggest", "more", "last", "longer", "higher", "larger")
_SMALL = ("min", "lowest", "smallest", "least", "shortest", "less", "first", "shorter", "lower", "fewer", "smaller")
_VALUES = (
    ("COUNT", ("number of",)),
    ("MAX", _LARGE),
    ("MIN", _SMALL),
    ("SUM", ("sum", "total")),
    ("AVG", ("average", "avg", "mean ")),
)
_RELATIONS = (
    ("POS_LEFT_OF", r" left "),
    ("POS_RIGHT_OF", r" right "),
    ("POS_BETWEEN", r" between | middle of "),
    ("POS_BEHIND_OF", r" behind | rear of "),
    ("POS_IN_FRONT_OF", r"^(?=.* in ).* front | infront "),
    ("POS_TOUCHING", r" touch"),
    ("POS_REFLECTING", r" reflect"),
    ("POS_COVERS", r" cover| obscur| blocking| blocked| hidden| obstruct"),
    ("POS_NEAR", r" near| close | closer | closest | next to | adjacent "),
)
_EQUALS = ("same as", "equal", "is", "was", "are")


def references(step: str) -> list[str]:
    """Return the references of a step, as `#n`. Raises ValueError if a `#` is not followed by a number."""
    chunks = step.replace("# ", "hashtag ").replace(", ", " or ").split("#")
    return [f"#{int(chunk.split()[0])}" for chunk in chunks[1:] if chunk]


def operator_of(step: str) -> str:
    """Return the first operator that fits a step; `NONE` if none does. Raises as `references` does."""
    count = len(references(step))
    if count == 0:
        return "SELECT"
    if count == 1 and any(f"{word} #" in step or f"{word} of #" in step for word in _AGGREGATE_WORDS):
        return "AGGREGATE"
    if "for each" in step:
        return "GROUP"
    if 2 <= count <= 3 and "where" in step and _has(step, _COMPARED):
        return "COMPARATIVE"
    if step.startswith("#") and "where" in step and count == 2 and _has(step, SUPERLATIVES):
        return "SUPERLATIVE"
    if count > 1 and _JOINED.fullmatch(step):
        return "UNION"
    if count > 1 and "both" in step and "and" in step:
        return "INTERSECTION"
    if count <= 2 and _AT_AN_END.search(step) and _has(step, ("besides", "not in")):
        return "DISCARD"
    if _has(step, _SORTED):
        return "SORT"
    if step.startswith(("if ", "is ", "are ")):
        return "BOOLEAN"
    if step.startswith("which") and count > 1:
        return "COMPARISON"
    if _has(step, ("and", ",")) and _ARITHMETIC.match(step):
        return "ARITHMETIC"
    if count == 1 and re.search(r"\s#+[0-9\s]", step):
        return "PROJECT"
    if step.startswith("#") and (count == 1 or relation_of(step)):
        return "FILTER"
    return "NONE"


def arguments_of(operator: str, step: str) -> list[str]:
    """Return the arguments of a step of this operator, as text; empty if they cannot be found.

    Those that name a value (COUNT, POS_NEAR, >=) rather than words of the step are among them. Empty too for the
    operators that are never built: PROJECT and ARITHMETIC, and GROUP, which always has an argument too many. A text
    cut out of a step keeps its blanks, as in "#1 | that are red", which is why it is hardly ever found again.
    Raises ValueError or IndexError if the parts of the step are not those that the operator asks for.
    """
    found = references(step)
    match operator:
        case "UNION":
            return found
        case "AGGREGATE" | "SUPERLATIVE":
            return [*value_of(step), *found]
        case "COMPARISON":
            value = value_of(step)
            return [*value, *found] if value in (["MIN"], ["MAX"]) else []
        case "COMPARATIVE":
            return _comparative(step, found)
        case "INTERSECTION":
            projected, both = step.split(_last(step, _BOTH))
            return [projected, *references(both)]
        case "DISCARD":
            return found if len(found) == 2 else _discard(step)
        case "SORT":
            return _sort(step)
        case "BOOLEAN":
            return _boolean(step)
        case "FILTER":
            relation = relation_of(step)
            return [relation, *found] if relation else [found[0], step.split(found[0])[1]]
    return []


def value_of(text: str) -> list[str]:
    """Return COUNT, MAX, MIN, SUM or AVG by the first phrase found in the text; empty without one."""
    return [value for value, words in _VALUES if _has(text, words)][:1]


def relation_of(step: str) -> str:
    """Return the positional relation in a step of visual reasoning; empty without one."""
    return next((relation for relation, pattern in _RELATIONS if re.search(pattern, step)), "")


def comparator_of(step: str) -> str:
    """Return the comparison that a step makes; FILTER for an unknown one."""
    if "at least" in step:
        return ">="
    if "at most" in step:
        return "=<"
    if _has(step, ("more", "higher", "larger")):
        return ">"
    if _has(step, ("less", "smaller", "lower")):
        return "<"
    if _has(step, _EQUALS) and "not " in step:
        return "!="
    if _has(step, _EQUALS) and "any" not in step:
        return "="
    return "CONTAINS" if "contain" in step else "FILTER"


def _has(step: str, words: tuple[str, ...]) -> bool:
    return any(word in step for word in words)


def _last(step: str, markers: tuple[str, ...]) -> str:
    """Return the last marker that is in the step. Raises IndexError if none is."""
    return [marker for marker in markers if marker in step][-1]


def _comparative(step: str, found: list[str]) -> list[str]:
    comparator = comparator_of(step)
    compared = _compared_with(step) if comparator != "FILTER" else _only(step.split(found[1])[1].strip())
    if "where #" in step:
        before, behind = step.split("where")
        entity, attribute = references(before)[0], references(behind)[0]
    else:
        entity, attribute = found
    return [entity, attribute, comparator, compared]


def _compared_with(step: str) -> str:
    return _only(step.split()[-1])


def _only(text: str) -> str:
    """Return the single reference of a text, or the text itself if it has none."""
    found = references(text)
    if len(found) > 1:
        raise ValueError(f"{text!r} has more than one reference")
    return found[0] if found else text


def _discard(step: str) -> list[str]:
    before, behind = step.split("besides")
    kept = references(before)
    return [kept[0], behind] if kept else [before, references(behind)[0]]


def _sort(step: str) -> list[str]:
    """Only one reference sorted by a text is built; a second reference would be an argument too many."""
    before, behind = step.split(_last(step, _SORTED))
    data = references(before)
    return [*data, behind] if len(data) == 1 and not references(behind) else []


def _boolean(step: str) -> list[str]:
    """The first word marks a step as BOOLEAN and is not part of the condition."""
    condition = " ".join(step.split()[1:])
    found = references(condition)
    if len(found) > 1 and (relation := relation_of(condition)):
        return [relation, *found]
    if len(found) <= 2 and (comparator := comparator_of(condition)) != "FILTER":
        return [comparator, found[0], _compared_with(step)]
    if len(found) != 1:
        return []
    if "there " in condition and "any " in condition:
        return ["EXIST", found[0]] if condition.endswith(found[0]) else []
    if condition.endswith(" the same") and condition.startswith(("all ", "#", "both ")):
        return ["SAME", found[0]]
    return []
