"""Which QDMR operator a step is, and its arguments as text; references are written `#n`, as in a QDMR step.

All tests are the substring tests of BREAK's own identifier, with what they misread: "plastic" has "last" in it.
"""

from __future__ import annotations

import re

from qdsft.metrics.normal_form.phrases import AGGREGATES, SUPERLATIVES

_REFERENCE = re.compile(r"#\d+")
_AGGREGATE_WORDS = (
    *("number of", "highest", "largest", "lowest", "smallest", "maximum", "minimum", "max", "min", "sum", "total"),
    *("average", "avg", "mean "),
)
_COMPARED = (
    *("same as", "higher than", "larger than", "smaller than", "lower than", "more", "less", "at least", "at most"),
    *("equal", "is", "are", "was", "contain", "include", "has", "have", "end with", "start with", "ends with"),
    *("starts with", "begin"),
)
_SORTED = ("sorted by", "order by", "ordered by")
_ARITHMETIC = re.compile(r"(the )?(sum|difference|multiplication|division)")
_JOINED = re.compile(r"(both )?(#\d+|and|or|,)( (#\d+|and|or|,))*")

_LARGE = ("max", "highest", "largest", "most", "longest", "biggest", "more", "last", "longer", "higher", "larger")
_SMALL = ("min", "lowest", "smallest", "least", "shortest", "less", "first", "shorter", "lower", "fewer", "smaller")
_VALUES = (
    ("COUNT", ("number of",)),
    ("MAX", _LARGE),
    ("MIN", _SMALL),
    ("SUM", ("sum", "total")),
    ("AVG", ("average", "avg", "mean")),
)
_RELATIONS = (
    ("POS_LEFT_OF", r" left "),
    ("POS_RIGHT_OF", r" right "),
    ("POS_BETWEEN", r" between | middle of "),
    ("POS_BEHIND_OF", r" behind | rear of "),
    ("POS_IN_FRONT_OF", r" in .*front | infront "),
    ("POS_TOUCHING", r" touch"),
    ("POS_REFLECTING", r" reflect"),
    ("POS_COVERS", r" cover| obscur| blocking| blocked| hidden| obstruct"),
    ("POS_NEAR", r" near| close | closer | closest | next to | adjacent "),
)
_EQUALS = ("same as", "equal", "is", "was", "are")


def operator_of(step: str) -> str:
    """The operator of a step, the first that fits; `NONE` if none does."""
    count = len(_REFERENCE.findall(step))
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
    if count > 1 and re.search("both.*and", step):
        return "INTERSECTION"
    if count <= 2 and _touches_end(step) and _has(step, ("besides", "not in")):
        return "DISCARD"
    if _has(step, _SORTED):
        return "SORT"
    if step.startswith(("if ", "is ", "are ")):
        return "BOOLEAN"
    if step.startswith("which") and count > 1:
        return "COMPARISON"
    if _has(step, ("and", ",")) and _ARITHMETIC.match(step):
        return "ARITHMETIC"
    if count == 1 and " #" in step:
        return "PROJECT"
    if step.startswith("#") and (count == 1 or relation_of(step)):
        return "FILTER"
    return "NONE"


def arguments_of(operator: str, step: str) -> list[str]:
    """The arguments of a step of this operator, as text; empty if they cannot be made out.

    Those that name a value (COUNT, POS_NEAR, >=) rather than words of the step are among them.
    """
    references = _REFERENCE.findall(step)
    match operator:
        case "UNION":
            return references
        case "AGGREGATE" | "SUPERLATIVE" | "COMPARISON":
            return [*value_of(step), *references]
        case "GROUP":
            return _group(step)
        case "COMPARATIVE":
            return _comparative(step, references)
        case "INTERSECTION":
            return _intersection(step)
        case "DISCARD":
            return [part.strip() for part in re.split("besides|not in", step, maxsplit=1)]
        case "SORT":
            return _sort(step)
        case "BOOLEAN":
            return _boolean(step, references)
        case "FILTER":
            relation = relation_of(step)
            return [relation, *references] if relation else [references[0], _REFERENCE.sub("", step, count=1).strip()]
    return []


def value_of(text: str) -> list[str]:
    """COUNT, MAX, MIN, SUM or AVG, whichever a phrase of the text is first found to mean; empty if none is."""
    return [value for value, words in _VALUES if _has(text, words)][:1]


def is_aggregate(phrase: str) -> bool:
    """Whether this is a whole phrase of aggregation, as "number of"."""
    return phrase in {aggregate.strip() for aggregate in AGGREGATES}


def relation_of(step: str) -> str:
    """The positional relation that a step of visual reasoning speaks of; empty if there is none."""
    return next((relation for relation, pattern in _RELATIONS if re.search(pattern, step)), "")


def comparator_of(step: str) -> str:
    """The comparison that a step makes; FILTER for one that is none of the known ones."""
    if "at least" in step:
        return ">="
    if "at most" in step:
        return "=<"
    if _has(step, ("more", "higher", "larger")):
        return ">"
    if _has(step, ("less", "smaller", "lower")):
        return "<"
    if _has(step, _EQUALS) and "not" in step:
        return "!="
    if _has(step, _EQUALS) and "any" not in step:
        return "="
    return "CONTAINS" if "contain" in step else "FILTER"


def _has(step: str, words: tuple[str, ...]) -> bool:
    return any(word in step for word in words)


def _touches_end(step: str) -> bool:
    return step.startswith("#") or bool(re.search(r"#\d+$", step))


def _group(step: str) -> list[str]:
    named = [_REFERENCE.findall(part)[:1] or part.split()[-1:] for part in step.split("for each", maxsplit=1)]
    return [*value_of(step), *named[0], *named[1]]


def _comparative(step: str, references: list[str]) -> list[str]:
    entity, attribute = references[:2]
    comparator = comparator_of(step)
    last = step.split()[-1]
    if comparator == "FILTER":
        last = _REFERENCE.split(step, maxsplit=2)[2].strip()
    return [entity, attribute, comparator, last]


def _intersection(step: str) -> list[str]:
    for marker in ("of both", "in both", "by both"):
        if marker in step:
            projected, both = step.split(marker, maxsplit=1)
            return [projected.strip(), *_REFERENCE.findall(both)]
    return []


def _sort(step: str) -> list[str]:
    data, order = re.split("|".join(_SORTED), step, maxsplit=1)
    references = _REFERENCE.findall(order)
    rest = _REFERENCE.sub("", order).strip()
    return [data.strip(), *references, *([rest] if rest else [])]


def _boolean(step: str, references: list[str]) -> list[str]:
    if relation := relation_of(step):
        return [relation, *references]
    if (comparator := comparator_of(step)) != "FILTER":
        return [comparator, references[0], step.split()[-1]]
    if re.search("there.*any", step):
        return ["EXIST", references[0]]
    if step.endswith("the same"):
        return ["SAME", references[0]]
    return []
