"""The command line. Only this package prints and calls sys.exit."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from ops import report
from ops.cli import combinations, place, standard_input, with_metrics
from ops.cli.arguments import parser
from ops.errors import OpsError
from ops.world.process import interrupt_code, signals_unwind


def main(argv: Sequence[str] | None = None) -> None:
    """Run one verb and exit with its exit code, which tells the state that the system was left in."""
    standard_input.tolerate()
    words = sys.argv[1:] if argv is None else argv
    sys.exit(_guarded(parser().parse_args(words), words))


def _guarded(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    try:
        with signals_unwind():
            combinations.require(arguments)
            place.require(arguments, words)
            done = with_metrics.run(arguments)
    except OpsError as error:
        if arguments.json:
            print(report.failure_as_json(arguments.command, error))
        print(report.failure_as_text(error), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        return interrupt_code(interrupt)
    except Exception as error:
        if arguments.json:
            print(
                report.failure_as_json(
                    arguments.command, OpsError(f"a bug: {error}", "report it with the traceback on stderr")
                )
            )
        traceback.print_exc()
        return 1
    print(report.as_json(done) if arguments.json else report.as_text(done))
    return done.exit_code
