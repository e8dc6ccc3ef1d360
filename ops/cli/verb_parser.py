"""The parser of a verb or of an action of a verb, and the options that several of them have."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops import report
from ops.cli.place import Place
from ops.errors import ConfigError
from ops.model import Report

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction["VerbParser"]
Function = Callable[[argparse.Namespace], Report]


class VerbParser(argparse.ArgumentParser):
    """Ends a wrong invocation with exit code 2 and, with --json, with one JSON document."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Print the message with the command for the help, and exit with code 2."""
        error = ConfigError(message, f"run {self.prog} --help")
        if "--json" in sys.argv:
            print(report.failure_as_json(self.prog, error))
        print(report.failure_as_text(error), file=sys.stderr)
        sys.exit(error.exit_code)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as argparse does; the verb or action itself refuses an unknown option, so that its own help is named."""
        actions = _actions_of(self)
        found, unknown = super().parse_known_args(_action_first(args, actions), namespace)
        if unknown and not actions:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found, unknown


def _actions_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    groups = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return {name: action for group in groups for name, action in group.choices.items()}


def _action_first(args: Sequence[str] | None, actions: dict[str, argparse.ArgumentParser]) -> Sequence[str] | None:
    """Return the arguments of a verb with its action in front: options were accepted before it, and still are."""
    if not args or not actions or not args[0].startswith("-"):
        return args
    valued = _with_values(actions.values())
    for number, word in enumerate(args):
        if word in actions and args[number - 1] not in valued:
            return [word, *args[:number], *args[number + 1 :]]
    return args


def _with_values(parsers: Iterable[argparse.ArgumentParser]) -> frozenset[str]:
    """The options that take the next word as their value."""
    taking = (each for parser in parsers for each in parser._actions if each.nargs != 0)
    return frozenset(option for each in taking for option in each.option_strings)


def add_verb(
    verbs: Verbs, name: str, summary: str, function: Function, place: Place, anywhere_with: str = ""
) -> VerbParser:
    """Add a verb without actions. With the option ``anywhere_with`` it runs in both places."""
    parser = add_action(verbs, name, summary, place)
    parser.set_defaults(verb=function, anywhere_with=anywhere_with)
    return parser


def add_verb_with_actions(verbs: Verbs, name: str, summary: str, function: Function) -> Verbs:
    """Add a verb and return its actions, which ``add_action`` adds."""
    parser = verbs.add_parser(name, help=summary, description=summary)
    parser.set_defaults(verb=function)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def add_action(actions: Verbs, name: str, summary: str, place: Place, *, site: bool = True) -> VerbParser:
    """Add an action of a verb, with the options of every verb; ``site`` is whether it reads the site file."""
    parser = actions.add_parser(name, help=summary + place.value, description=summary + place.value)
    parser.set_defaults(place=place)
    parser.add_argument("--json", action="store_true", help="print exactly one JSON document")
    if site:
        parser.add_argument(
            "--site", type=Path, default=os.environ.get("OPS_SITE"), help="the site file (default: $OPS_SITE)"
        )
    return parser


def add_renamed(parser: argparse._ActionsContainer, old: str, new: str, summary: str) -> None:
    """Add a switch under its new name; the old spelling stays valid and is hidden in the help."""
    parser.add_argument(new, action="store_true", help=summary)
    name = new.lstrip("-").replace("-", "_")
    parser.add_argument(old, dest=name, action="store_true", help=argparse.SUPPRESS)


def add_consent(parser: argparse.ArgumentParser) -> None:
    """Add the option that agrees beforehand."""
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation of losses and interruptions")


def moment(text: str) -> datetime:
    """Parse a time; without a zone it is UTC, as all times of backups."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; give one such as 2026-11-24T04:30Z") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def number(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least} to {most}")
        return int(text)

    return parse
