"""The command line as a whole: which commands exist, and what becomes of an error.

Only the module of the command that is wanted gets imported; the others stand in the help with their line of text.
So `flowworker --help` costs typer alone, and `flowworker runs` does not pay for the worker's runtime.
"""

import gc
import os
import re
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from flowworker.errors import ExitCode, FlowWorkerError

PROGRAM = "flowworker"
INTERRUPTED = 130
"""What a shell reports for a program ended by Ctrl-C."""

NO_READER = 141
"""The same for one ended because what it writes is not read."""

COMMANDS: Mapping[str, str] = {
    "run": "Run flows and queues: the worker.",
    "dev": "Run them here and now: database, worker, reload.",
    "flows": "List, compile, compare and draw flows.",
    "runs": "Start, list, show, watch and retry runs.",
    "jobs": "Send, list, show and retry jobs of plain queues.",
    "workers": "List and drain workers.",
    "db": "Install what FlowWorker needs in a database, and look at it.",
    "doctor": "Check a database for what keeps workers from working.",
    "bench": "Measure the worker against a bare loop of its own statements.",
}
"""Every command with its line of help. Module `flowworker.cli.<name>` adds it to an app with its `register(app)`."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and give the exit code; errors become one line on standard error."""
    _hide_connection_strings(arguments)
    wanted, debug = _without_debug(arguments)
    try:
        app = build(wanted or ["--help"])
        _collect_garbage_again()
        outcome = app(list(wanted) or ["--help"], prog_name=PROGRAM, standalone_mode=False)
    except (FlowWorkerError, typer.TyperException, typer.Abort, KeyboardInterrupt) as error:
        return _report(error, debug)
    except Exception as error:  # noqa: BLE001 - the last place that can turn a crash into an exit code
        return _report(error, debug)
    return outcome if isinstance(outcome, int) else ExitCode.DRAINED


def build(arguments: Sequence[str]) -> typer.Typer:
    """The app with the wanted commands in full, and the rest as names with a line of help."""
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback()(root)
    wanted = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, line in COMMANDS.items():
        if name == wanted:
            import_module(f"flowworker.cli.{name}").register(app)
        else:
            app.command(name, help=line)(_not_wanted)
    return app


def show_version(wanted: bool) -> None:
    """Print the installed version and end."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error (anywhere).")] = False,
) -> None:
    """Workers for pgflow flows and pgmq queues in PostgreSQL."""


def _not_wanted() -> None:
    """Stand in for a command whose module was not imported."""


def _collect_garbage_again() -> None:
    """Undo what `main` did for the imports; what they made lasts as long as the process, so it is looked at no more."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _hide_connection_strings(arguments: Sequence[str]) -> None:
    """Whatever becomes of an argument, the message about it does not show the password in it."""
    for argument in arguments:
        value = argument.partition("=")[2] if argument.startswith("--") else argument
        if _CREDENTIALS.search(value):
            from flowworker.redaction import remember_whole

            remember_whole(value)


_CREDENTIALS = re.compile(r"(?i)(?::|%3a).*(?:@|%40)|password['\"]?\s*(?:[=:]|%3d)", re.DOTALL)
"""What may be a connection string, however wrong: something between `:` and `@`, or a parameter."""


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--debug` may stand before or after the command, but belongs to neither."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [argument for argument in arguments[:end] if argument != "--debug"]
    debug = len(kept) < end or os.environ.get("FLOWWORKER_DEBUG", "") not in {"", "0"}
    return [*kept, *arguments[end:]], debug


def _report(error: BaseException, debug: bool) -> int:
    """Say what went wrong in one line and choose the exit code."""
    from flowworker.redaction import redact

    message, code = explain(error)
    if debug:
        sys.stderr.write(redact("".join(traceback.format_exception(error))))
    if message:
        sys.stderr.write(f"error: {redact(message)}\n")
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """What an error is called on the command line, and the exit code it ends with."""
    from flowworker.cli.output import NoReaderError
    from flowworker.definition.codec import InputError, OutputError  # pydantic is too heavy for `--help`

    match error:
        case FlowWorkerError():
            return str(error), error.exit_code
        case typer.TyperException():
            return _usage(error), ExitCode.USAGE
        case InputError() | OutputError():
            return str(error), ExitCode.DATA
        case NoReaderError():
            return "", NO_READER
        case KeyboardInterrupt() | typer.Abort():
            return "", INTERRUPTED
        case _:
            kind = type(error).__name__
            return f"{kind}: {error} (this is a bug; --debug shows where it happened)", ExitCode.INTERNAL


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" See `{context.command_path} --help`." if context is not None else ""
    return error.format_message() + hint
