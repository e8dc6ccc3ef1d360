"""Every hint is an imperative, and every state left behind is a statement (docs/style.md)."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops import errors

ROOT = Path(__file__).parents[2]
VERBS = frozenset(
    re.findall(
        r"\w+",
        "add allow answer apply ask attach bring change check choose clean commit compare confirm connect copy correct create "
        "delete deploy destroy detach disable edit enable end enlarge enter export find finish fix follow free "
        "give go grant increase inspect install keep leave let list log look lower make mount move name open "
        "order pass pin point put raise read rebuild reduce register remove rename renew repair replace report "
        "request reset restart restore resume retry rewind roll rotate run see select send set shorten sign start "
        "stop switch take terminate test try turn type unlock update upgrade use verify wait write ",
    )
)
_COMMAND = re.compile(
    r"\./noxw|\bsystemctl\b|\bapt-get\b|\bsudo\b|\bdocker (compose|exec|logs|ps|run)\b|\baws (ec2|s3|sso|sts)\b"
    r"|\bgit (commit|checkout|config|push)\b|\bops (accounts|backup|certs|deploy|destroy|gate|health|nginx|notify|restore"
    r"|rollback|secrets|settings|site|update)\b"
)
_STATE = re.compile(r"\bnothing (was|is) (changed|touched|lost|restored)\b|\bis (unchanged|untouched|back)\b")
# The positions of OpsError's hint and of Probe's remedy among the arguments.
_HINT, _REMEDY = 1, 3


FILES = [*sorted((ROOT / "ops").rglob("*.py")), *sorted((ROOT / "ground").glob("*.py"))]


@dataclass
class Module:
    """A module's syntax tree, with the expressions that are assigned to each name."""

    tree: ast.Module
    kinds: frozenset[str]
    values: dict[str, list[ast.expr]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Collect the expressions assigned to each name, and parameters' defaults, in all scopes of the module."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.values.setdefault(name, []).append(value)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.values.setdefault(name, []).append(value)
                case ast.arguments(kwonlyargs=named, kw_defaults=defaults):
                    for argument, default in zip(named, defaults, strict=True):
                        if default is not None:
                            self.values.setdefault(argument.arg, []).append(default)
                    positional = [*node.posonlyargs, *node.args]
                    for argument, value in zip(reversed(positional), reversed(node.defaults), strict=False):
                        self.values.setdefault(argument.arg, []).append(value)

    def constructs(self, called: ast.expr, seen: frozenset[str] = frozenset()) -> bool:
        """Return whether an expression is an error class, or a name that an error class is assigned to."""
        match called:
            case ast.Attribute(attr=name):
                return name in self.kinds
            case ast.Name(id=name):
                assigned = self.values.get(name, []) if name not in seen else []
                return name in self.kinds or any(self.constructs(each, seen | {name}) for each in assigned)
            case ast.IfExp(body=one, orelse=other):
                return self.constructs(one, seen) or self.constructs(other, seen)
        return False

    def texts(self, value: ast.expr | None, seen: frozenset[str] = frozenset()) -> Iterator[tuple[int, str]]:
        """Return the possible literal texts of a value with their lines; a replacement field of an f-string becomes {}."""
        match value:
            case ast.Constant(value=str(text)):
                yield value.lineno, text
            case ast.JoinedStr(values=parts):
                yield value.lineno, "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
            case ast.Name(id=name) if name not in seen:
                for each in self.values.get(name, []):
                    yield from self.texts(each, seen | {name})
            case _:
                for each in _alternatives(value):
                    yield from self.texts(each, seen)


def _alternatives(value: ast.expr | None) -> list[ast.expr]:
    """The expressions that a value may evaluate to, or begin with."""
    match value:
        case ast.IfExp(body=one, orelse=other):
            return [one, other]
        case ast.BoolOp(values=several) | ast.Dict(values=several):
            return several
        case ast.BinOp(op=ast.Add(), left=first):
            return [first]
        case ast.Subscript(value=table):
            return [table]
        case ast.Call(func=ast.Attribute(value=table, attr="get"), args=[_, *rest]):
            return [table, *rest]
    return []


@functools.cache
def _kinds() -> frozenset[str]:
    """The names of OpsError and all its subclasses in ops/ and ground/."""
    bases = {
        node.name: {each.id if isinstance(each, ast.Name) else getattr(each, "attr", "") for each in node.bases}
        for path in FILES
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.ClassDef)
    }
    found = {errors.OpsError.__name__}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return frozenset(found)


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _given(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    named = next((each.value for each in call.keywords if each.arg == keyword), None)
    return named or (call.args[position] if len(call.args) > position else None)


def faults(tree: ast.Module) -> list[str]:
    """Return each hint, remedy and left_as of a module that does not follow the rule, with its line."""
    module = Module(tree, _kinds())
    hints: list[ast.expr | None] = []
    states: list[ast.expr | None] = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        if module.constructs(call.func):
            hints.append(_given(call, _HINT, "hint"))
            states.append(_given(call, len(call.args), "left_as"))
        elif isinstance(call.func, ast.Name) and call.func.id == "Probe":
            hints.append(_given(call, _REMEDY, "remedy"))
        else:
            hints.append(_given(call, len(call.args), "hint"))
            states.append(_given(call, len(call.args), "left_as"))
    return sorted(
        {f"{line}: hint {text!r}" for hint in hints for line, text in module.texts(hint) if not _is_imperative(text)}
        | {f"{line}: left_as {text!r}" for each in states for line, text in module.texts(each) if _COMMAND.search(text)}
    )


def _is_imperative(text: str) -> bool:
    if not text or text.startswith("{}"):
        return True  # the scan checks a variable's text where it is constructed
    first = re.match(r"[a-z]+(?=[\s,:;]|$)", text)
    return first is not None and first[0] in VERBS and not _STATE.search(text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_hint_is_an_imperative_and_no_state_left_behind_contains_a_command(path: Path) -> None:
    assert faults(_tree(path)) == []


def test_the_scan_finds_the_hints_of_all_checked_files() -> None:
    modules = [Module(_tree(path), _kinds()) for path in FILES]
    calls = [(each, node) for each in modules for node in ast.walk(each.tree) if isinstance(node, ast.Call)]
    assert sum(module.constructs(call.func) for module, call in calls) > 60


@pytest.mark.parametrize(
    "written",
    [
        'raise Refused("m", "nothing was changed")',
        'raise Refused("m", "ops backup list")',
        'raise errors.Refused("m", hint="./noxw -s lint")',
        'raise Refused("m", "Run ops deploy")',
        'raise Refused("m", "wait; nothing was changed")',
        'raise Refused("m", f"the site {name} is back")',
        'raise Refused("m", "run ops health", left_as="run ops rollback")',
        '_NEXT = "docker ps"\nraise Refused("m", _NEXT)',
        'kind = Unavailable if away else OpsError\nraise kind("m", "it is temporary")',
        'raise Refused("m", "run ops health" if known else "no way")',
        'raise Refused("m", known or "no way")',
        '_NEXT = {"a": "no way"}\nraise Refused("m", _NEXT.get(code, "run ops health"))',
        'raise WrongPassword("m", "the password")',
        'def run(*, hint: str = "the gate works here"):\n    raise Refused("m", hint)',
        'run(hint="the gate works here")',
        'Probe("disk", False, "full", "room is needed")',
        'Probe("disk", False, "full", remedy="room is needed")',
    ],
)
def test_a_hint_that_is_not_an_imperative_is_found(written: str) -> None:
    assert len(faults(ast.parse(written))) == 1


@pytest.mark.parametrize(
    "written",
    [
        'raise Refused("m")',
        'raise Refused("m", "")',
        'raise Refused("m", "run ops backup list and choose another backup", left_as="nothing was changed")',
        'raise Refused("m", f"run ./noxw -s {stage}")',
        'raise Refused("m", f"{verdict.remedy}")',
        'raise Refused("m", error.hint, left_as=error.left_as)',
        'Probe("disk", False, "full", "enlarge host.data_gib, then run ops deploy")',
        'raise ValueError("m", "no way")',
    ],
)
def test_an_imperative_hint_an_empty_one_and_a_variable_pass(written: str) -> None:
    assert faults(ast.parse(written)) == []


def test_gitea_s_doctor_is_never_named_without_its_checks() -> None:
    # From 1.27 on, `gitea doctor check` alone checks nothing, and says that all is done (tests/data/recordings).
    texts = [*FILES, *(ROOT / "docs").rglob("*.md"), *(ROOT / "playbooks").rglob("*.yml")]
    named = [
        (str(path.relative_to(ROOT)), found[1])
        for path in texts
        for found in re.finditer(r"doctor check(.{0,6})", path.read_text(encoding="utf-8"))
    ]
    assert [each for each in named if not each[1].startswith((" --run", " --all", "`"))] == []
    assert {path for path, _ in named if path.startswith("ops/")} == {"ops/config/compose_files.py"}
