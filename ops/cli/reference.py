"""Write docs/reference/ops.md from the parser: ``python -m ops.cli.reference``."""

from __future__ import annotations

import argparse
import inspect
import os
import textwrap
from collections.abc import Iterator

from ops import errors
from ops.cli.arguments import parser
from ops.errors import OpsError

_HEAD = """# `ops`: verbs, options and exit codes

Generated from the parser by `python -m ops.cli.reference`. Do not edit.

On the host the command is `sudo ops VERB`, on the deploying machine `./noxw -s ops -- VERB`. Each
verb names its place; in the other one it ends with exit code 2 and the command to run instead.

Every verb takes `--json`: exactly one document on stdout, while progress goes to stderr. Every verb
but `gate` takes `--site FILE` (default: `$OPS_SITE`). An option without effect in its combination,
such as `--when-due` without `--drill`, is refused with exit code 2.
"""
_CODES = """
## Exit codes

| code | the system was left |
|---|---|
| 0 | done, or nothing to do (`"changed": false`) |
| 1 | a failed test, Terraform or playbook that stopped part way (fix the cause and run it again), or a bug |
"""
_OF_EVERY_VERB = ("--help", "--site", "--json")


def markdown() -> str:
    """Return the reference of all verbs, their options and the exit codes."""
    sections = (_section(name, verb, help_) for name, verb, help_ in _verbs(parser(), ()))
    return _HEAD + "".join(sections) + _CODES + "".join(_codes())


def _verbs(root: argparse.ArgumentParser, above: tuple[str, ...]) -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    for group in (each for each in root._actions if isinstance(each, argparse._SubParsersAction)):
        helps = {each.dest: each.help or "" for each in group._choices_actions}
        for name, verb in group.choices.items():
            yield " ".join((*above, name)), verb, helps[name]
            yield from _verbs(verb, (*above, name))


def _section(name: str, verb: argparse.ArgumentParser, summary: str) -> str:
    rows = "".join(_rows(verb))
    table = f"\n| argument | meaning |\n|---|---|\n{rows}" if rows else ""
    sentence = textwrap.fill(f"{summary[:1].upper()}{summary[1:]}.", 100)
    return f"\n## `ops {name}`\n\n{sentence}\n{table}"


def _rows(verb: argparse.ArgumentParser) -> Iterator[str]:
    for action in verb._actions:
        hidden = action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction)
        if hidden or set(action.option_strings) & set(_OF_EVERY_VERB):
            continue
        yield f"| {_spelling(action)} | {_cell(action.help or '')} |\n"


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        names = action.choices or [str(action.metavar or action.dest).upper()]
        return ", ".join(f"`{name}`" for name in names)
    value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
    return f"`{action.option_strings[-1]}{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _codes() -> Iterator[str]:
    classes = (each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, OpsError))
    kinds = [each for each in classes if each.exit_code > OpsError.exit_code]
    for kind in sorted(kinds, key=lambda each: each.exit_code):
        yield f"| {kind.exit_code} | {_cell(inspect.cleandoc(kind.__doc__ or '').splitlines()[0])} |\n"
    yield "| 130, 143 | interrupted, after undo |\n"


if __name__ == "__main__":
    os.write(1, markdown().encode())
