"""Generates the mutants of a module: its source with one small fault each, made by mutmut's operators.

The operators run over functions, properties, class bodies and constants. They do not run over annotations, decorators,
imports, and messages (strings with a blank in them). Operators that replace a whole argument or value by None are not
used: their mutants fail as soon as their line runs, and so do not test a decision.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import libcst as cst
from mutmut.mutation import mutators

# Characters of context on both sides of a fault, to identify its place.
_AROUND = 28
_UNTOUCHED = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom)
_LEFT_OUT = frozenset(
    {
        mutators.operator_arg_removal,
        mutators.operator_assignment,
        mutators.operator_dict_arguments,
        mutators.operator_lambda,
        mutators.operator_string,
    }
)


@dataclass(frozen=True)
class Mutant:
    """One fault: its definition, the code before and after, and the whole source of the module with the fault.

    ``number`` counts mutants of one definition with the same text before and after, from 1.
    """

    definition: str
    before: str
    after: str
    source: str
    number: int = 1

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Identifies the mutant, independent of its line number."""
        return (self.definition, self.before, self.after, self.number)


def mutants(source: str, skip: Collection[str] = ()) -> tuple[Mutant, ...]:
    """Return the mutants of a module in source order; ``skip`` has the top-level names that are not mutated.

    Raises ValueError for a name of ``skip`` that the module does not define.
    """
    module = cst.parse_module(source)
    defined = {name for statement in module.body for name in _names(statement)}
    if unknown := sorted(set(skip) - defined):
        raise ValueError(f"the module does not define {', '.join(unknown)}")
    found: dict[str, Mutant] = {}
    end = 0
    for statement in module.body:
        original = module.code_for_node(statement)
        start = source.index(original, end)
        end = start + len(original)
        names = tuple(_names(statement))
        if not names or set(names) & set(skip):
            continue
        for definition, node, mutated in _faults(statement, names[0]):
            text = module.code_for_node(statement.deep_replace(node, mutated))
            before, after = _difference(original, text)
            code = source[:start] + text + source[end:]
            found.setdefault(code, Mutant(definition, before, after, code))
    return tuple(_numbered(each for code, each in found.items() if code != source and _is_python(code)))


def _names(statement: cst.CSTNode) -> Iterator[str]:
    if isinstance(statement, (cst.FunctionDef, cst.ClassDef)):
        yield statement.name.value
    for small in statement.body if isinstance(statement, cst.SimpleStatementLine) else ():
        targets = [each.target for each in small.targets] if isinstance(small, cst.Assign) else []
        targets += [small.target] if isinstance(small, cst.AnnAssign) else []
        for target in targets:
            elements = [each.value for each in target.elements] if isinstance(target, cst.Tuple) else [target]
            yield from (each.value for each in elements if isinstance(each, cst.Name))


def _faults(node: cst.CSTNode, definition: str) -> Iterator[tuple[str, cst.CSTNode, cst.CSTNode]]:
    if isinstance(node, _UNTOUCHED):
        return
    for kind, operator in _OPERATORS:
        if isinstance(node, kind):
            yield from ((definition, node, mutated) for mutated in operator(node))
    for child in node.children:
        inner = isinstance(child, (cst.FunctionDef, cst.ClassDef))
        yield from _faults(child, f"{definition}.{child.name.value}" if inner else definition)


def _one_less(node: cst.BaseNumber) -> Iterator[cst.BaseNumber]:
    """Subtract one. Mutmut only adds one, and a bound has two sides."""
    if isinstance(node, cst.Integer) and node.evaluated_value > 0:
        yield node.with_changes(value=str(node.evaluated_value - 1))


def _other_string(node: cst.BaseString) -> Iterator[cst.BaseString]:
    """The first of mutmut's three mutants; a test that finds it also finds the change of case."""
    if isinstance(node, cst.SimpleString) and " " not in node.value and node.raw_value:
        yield from itertools.islice(mutators.operator_string(node), 1)


_OPERATORS = (
    *((kind, operator) for kind, operator in mutators.mutation_operators if operator not in _LEFT_OUT),
    (cst.BaseNumber, _one_less),
    (cst.BaseString, _other_string),
    # Mutmut forces both branches of a conditional expression; statements and comprehensions have the same two.
    (cst.If, mutators.operator_if_exp),
    (cst.CompIf, mutators.operator_if_exp),
)


def _difference(before: str, after: str) -> tuple[str, str]:
    """The place where two sources differ, before and after, each on one line with some context."""
    shortest = min(len(before), len(after))
    start = next((at for at in range(shortest) if before[at] != after[at]), shortest)
    tail = next((at for at in range(shortest - start) if before[-1 - at] != after[-1 - at]), shortest - start)
    end = len(before) - tail
    first = max(start - _AROUND, before.rfind("\n", 0, start) + 1)
    while first < start and _splits_word(before, first):
        first += 1
    line = before.find("\n", end)
    last = min(end + _AROUND, line if line >= 0 else len(before))
    while last > end and _splits_word(before, last):
        last -= 1
    while first > 0 and start == first and _splits_word(before, first):
        first -= 1
        start -= 1
    while end == last and last < len(before) and _splits_word(before, last):
        last += 1
        end += 1
    return _one_line(before[first:last]), _one_line(after[first : last + len(after) - len(before)])


def _splits_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _is_word(text[at - 1]) and _is_word(text[at])


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _one_line(text: str) -> str:
    short = " ".join(text.split())
    return short if len(short) <= 3 * _AROUND else f"{short[:_AROUND]} ... {short[-_AROUND:]}"


def _is_python(code: str) -> bool:
    try:
        compile(code, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _numbered(found: Iterable[Mutant]) -> Iterator[Mutant]:
    seen: Counter[tuple[str, str, str]] = Counter()
    for each in found:
        kind = (each.definition, each.before, each.after)
        seen[kind] += 1
        yield replace(each, number=seen[kind])
