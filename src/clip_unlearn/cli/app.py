"""The command `clip-unlearn`: sub-commands, errors and exit codes."""

import os
import sys
from typing import Annotated

import typer

from clip_unlearn.cli import (
    audit,
    compare,
    console,
    export,
    find,
    forget,
    inspect,
    lab,
    ledger,
    models,
    plan,
    synthesize,
    tune,
)
from clip_unlearn.errors import ClipUnlearnError

EXIT_CODES = "Exit codes: 0 done, 1 unexpected error, 2 unusable input, 3 below the required grade, 4 storage."

INTERRUPTED = "interrupted; no results were written; where a journal was kept, --resume goes on from it"
INTERRUPTED_CODE = 130

app = typer.Typer(
    name="clip-unlearn",
    help="Make a CLIP model forget a class.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        from clip_unlearn.core.versions import version

        console.show(version())
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Make a CLIP model forget a class."""


for command in (
    forget.forget,
    plan.plan,
    find.find,
    tune.tune,
    synthesize.synthesize,
    models.apply,
    export.export,
    export.reembed,
    models.evaluate,
    audit.audit,
    compare.compare,
    lab.lab,
    inspect.ls,
    inspect.validate,
    forget.demo,
    inspect.doctor,
):
    app.command()(command)
app.add_typer(ledger.app, name="ledger")


def main() -> None:
    """Run the command line; errors of ours become one line on stderr and their exit code."""
    # Threads that wait by spinning starve each other where cores are shared; read when torch is first imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except ClipUnlearnError as error:
        console.show_error(str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.show_error(INTERRUPTED)
        sys.exit(INTERRUPTED_CODE)
    except SystemExit as stopped:
        # Typer turns an interruption of a command into this exit code, without a word.
        if stopped.code == INTERRUPTED_CODE:
            console.show_error(INTERRUPTED)
        raise
