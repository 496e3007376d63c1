"""Find, by their syntax, the branches of a source file that depend on the GPU."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

GUARDS = re.compile(
    r"torch\.cuda\b|['\"]cuda\b|nvidia-smi|\bnccl\b|is_flash_attn|\bFLASH\b|\.(fp16|bf16)\b|torch\.(bfloat16|float16)\b"
)
"""Names in conditions that depend on the GPU, its driver, its number formats or its attention kernels."""

CALL = re.compile(r"(self\.)?torch\.cuda\.\w+")


def cuda_branches(source: str) -> list[str]:
    """Return "function: condition" of each guarded branch, and "function: call()" of each other call of torch.cuda.

    A name that is assigned from a guard, such as `cuda = torch.cuda.is_available()`, is a guard in its function.
    """
    found = []
    for name, body in _functions(ast.parse(source), ""):
        nodes = [node for part in body for node in ast.walk(part)]
        aliases = {name for node in nodes for name, value in _assigned(node) if _is_guard(value)}
        guarded = re.compile("|".join([GUARDS.pattern, *(rf"\b{alias}\b" for alias in sorted(aliases))]))
        conditions = [test for node in nodes for test in _tests(node) if guarded.search(_text(test))]
        within = {id(part) for test in conditions for part in ast.walk(test)}
        calls = [node for node in nodes if isinstance(node, ast.Call) and id(node) not in within]
        found += [f"{name}: {_text(test)}" for test in conditions]
        found += [f"{name}: {_text(call.func)}()" for call in calls if CALL.fullmatch(_text(call.func))]
    return sorted(set(found))


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, list[ast.stmt]]]:
    """Yield each function's dotted name and body; the statements of a module and a class belong to "module"."""
    plain = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}{node.name}", node.body
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt):
            plain.append(node)
    if plain:
        yield f"{prefix}module", plain


def _assigned(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield each name that a statement assigns, with its value: two for `a, b = 1, 2`."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            yield from [(part.id, value) for part, value in pairs if isinstance(part, ast.Name)]


def _is_guard(value: ast.expr) -> bool:
    return _is_condition(value) and GUARDS.search(_text(value)) is not None


def _tests(node: ast.AST) -> list[ast.expr]:
    """Return the conditions of a node."""
    if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
        return [node.test]
    if isinstance(node, ast.comprehension):
        return node.ifs
    if isinstance(node, ast.keyword) and _is_condition(node.value):
        return [node.value]
    if isinstance(node, ast.Return) and node.value is not None and _is_condition(node.value):
        return [node.value]
    if isinstance(node, ast.Assign):
        return [value for _, value in _assigned(node) if _is_condition(value)]
    return []


def _is_condition(node: ast.expr) -> bool:
    """Return whether an expression is true or false by its form; a call of torch.cuda.is_* is one."""
    is_call = isinstance(node, ast.Call) and re.search(r"\bis_\w+$", _text(node.func)) is not None
    return (
        is_call
        or isinstance(node, ast.Compare | ast.BoolOp)
        or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not))
    )


def _text(node: ast.AST) -> str:
    return ast.unparse(node)
