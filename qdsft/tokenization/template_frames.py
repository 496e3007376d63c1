"""What a chat template writes around the contents of messages, where it can be shown to copy them unread.

Rendering a template takes longer than everything else that happens to a row. Most templates look at nothing but
roles and positions and copy each content, stripped perhaps. For these, one rendering with stand-ins for the contents
tells what stands before, between and behind the contents of every conversation with the same roles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import chain

from jinja2 import Environment, nodes

STAND_IN = "\ue000{}\ue001"
"""Characters of the private use area, with a number between."""
_COUNTERS = {"index", "index0", "revindex", "revindex0", "first", "last", "length"}
_QUESTIONS = {"string", "defined", "undefined", "none"}
"""Tests that have one answer for every content."""


def stand_ins(count: int) -> list[str]:
    """Contents that no template writes itself."""
    return [STAND_IN.format(number) for number in range(count)]


def parts(text: str, count: int) -> list[str] | None:
    """What stands around `count` stand-ins, `[count + 1]`; None unless each stands there once, in order."""
    found = []
    for stand_in in stand_ins(count):
        before, there, text = text.partition(stand_in)
        if not there:
            return None
        found.append(before)
    found.append(text)
    return None if any("\ue000" in part for part in found) else found


def fits(contents: Iterable[str]) -> bool:
    """Whether these contents come out as stand-ins do: there is something, and nothing to strip."""
    return all(content and content == content.strip() for content in contents)


def fill(frame: Sequence[str], contents: Sequence[str]) -> str:
    """The text with the contents in their places."""
    return frame[0] + "".join(chain.from_iterable(zip(contents, frame[1:], strict=True)))


@lru_cache(maxsize=8)
def copies_contents(environment: Environment, source: str) -> bool:
    """Whether the template writes contents as they are, or stripped, and nothing depends on what is in them."""
    kinds = {"messages": Kind.LIST, "loop": Kind.LOOP}
    try:
        while True:
            before = dict(kinds)
            _Reader(kinds).body(environment.parse(source).body)
            if kinds == before:
                return True
    except _ReadError:
        return False


class Kind(IntEnum):
    """What the value of an expression is or may hold."""

    PLAIN = 0
    CONTENT = 1
    MESSAGE = 2
    LIST = 3
    LOOP = 4


class _ReadError(Exception):
    """The template does something with contents that is not known to be copying."""


class _Reader:
    """Walks through a template; what it does not know is an error. `kinds` holds those of the template's names."""

    def __init__(self, kinds: dict[str, Kind]) -> None:
        self.kinds = kinds

    def body(self, statements: Iterable[nodes.Node]) -> None:
        for node in statements:
            if isinstance(node, nodes.Output):
                for child in node.nodes:
                    _only(self.kind(child), Kind.PLAIN, Kind.CONTENT)
            elif isinstance(node, nodes.If):
                self.test(node.test)
                self.body([*node.body, *node.elif_, *node.else_])
            elif isinstance(node, nodes.For) and node.test is None and not node.recursive:
                item = Kind.MESSAGE if _only(self.kind(node.iter), Kind.PLAIN, Kind.LIST) else Kind.PLAIN
                self.name(node.target, item)
                self.body([*node.body, *node.else_])
            elif isinstance(node, nodes.Assign):
                self.name(node.target, self.kind(node.node))
            else:
                raise _ReadError

    def name(self, target: nodes.Node, kind: Kind) -> None:
        """Note what a name may hold; one that may hold two kinds must be made of text."""
        if not isinstance(target, nodes.Name) or target.name in {"messages", "loop"}:
            raise _ReadError
        known = self.kinds.setdefault(target.name, kind)
        if known != kind:
            self.kinds[target.name] = _joined([known, kind])

    def kind(self, node: nodes.Node) -> Kind:
        """What an expression gives."""
        if isinstance(node, nodes.Const | nodes.TemplateData):
            return Kind.PLAIN
        if isinstance(node, nodes.Name):
            return self.kinds.get(node.name, Kind.PLAIN)
        if isinstance(node, nodes.Getitem | nodes.Getattr):
            return self.part(node)
        if isinstance(node, nodes.Add | nodes.Concat | nodes.And | nodes.Or):
            operands = node.nodes if isinstance(node, nodes.Concat) else [node.left, node.right]
            return _joined([self.kind(operand) for operand in operands])
        if isinstance(node, nodes.CondExpr):
            self.test(node.test)
            return _joined([self.kind(one) for one in (node.expr1, node.expr2) if one is not None])
        if isinstance(node, nodes.Not):
            self.test(node.node)
            return Kind.PLAIN
        if isinstance(node, nodes.Filter) and node.name in {"length", "count"} and node.node is not None:
            return Kind.PLAIN if self.kind(node.node) == Kind.LIST else self.plain(node)
        if isinstance(node, nodes.Test) and node.name in _QUESTIONS and not node.args:
            _only(self.kind(node.node), Kind.PLAIN, Kind.CONTENT)
            return Kind.PLAIN
        if (text := _stripped(node)) and self.kind(text) == Kind.CONTENT:
            return Kind.CONTENT
        return self.plain(node)

    def test(self, node: nodes.Node) -> None:
        """Whether something is there is the same for every content; what is in it must not be asked."""
        if isinstance(node, nodes.And | nodes.Or):
            self.test(node.left)
            self.test(node.right)
        else:
            self.kind(node)

    def part(self, node: nodes.Getitem | nodes.Getattr) -> Kind:
        """What an item or attribute gives."""
        kind = self.kind(node.node)
        key = nodes.Const(node.attr) if isinstance(node, nodes.Getattr) else node.arg
        value = _constant(key)
        if kind == Kind.LOOP and value in _COUNTERS:
            return Kind.PLAIN
        if kind == Kind.MESSAGE and value in {"role", "content"}:
            return Kind.CONTENT if value == "content" else Kind.PLAIN
        if kind == Kind.LIST and isinstance(value, int):
            return Kind.MESSAGE
        if kind == Kind.LIST and isinstance(key, nodes.Slice):
            return _only(self.plain(key) or kind, Kind.LIST)
        if kind != Kind.PLAIN:
            raise _ReadError
        return _only(self.kind(key), Kind.PLAIN)

    def plain(self, node: nodes.Node) -> Kind:
        """Any other expression is one of plain parts."""
        if isinstance(node, nodes.Name):
            raise _ReadError
        for child in node.iter_child_nodes():
            if isinstance(child, nodes.Expr):
                _only(self.kind(child), Kind.PLAIN)
            elif isinstance(child, nodes.Operand | nodes.Keyword | nodes.Pair):
                self.plain(child)
            else:
                raise _ReadError
        return Kind.PLAIN


def _constant(node: nodes.Expr) -> object:
    """Its value; None where it has none yet."""
    try:
        return node.as_const()
    except nodes.Impossible:
        return None


def _only(kind: Kind, *allowed: Kind) -> Kind:
    if kind not in allowed:
        raise _ReadError
    return kind


def _joined(kinds: Sequence[Kind]) -> Kind:
    return kinds[0] if len(set(kinds)) == 1 else max(_only(kind, Kind.PLAIN, Kind.CONTENT) for kind in kinds)


def _stripped(node: nodes.Node) -> nodes.Node | None:
    """The text of `text.strip()` or `text | trim`; None for another expression."""
    if isinstance(node, nodes.Call):
        called, arguments = node.node, [*node.args, *node.kwargs, node.dyn_args, node.dyn_kwargs]
        if isinstance(called, nodes.Getattr) and called.attr == "strip" and not any(arguments):
            return called.node
    elif isinstance(node, nodes.Filter) and node.name == "trim" and not node.args and not node.kwargs:
        return node.node
    return None
