"""The `flowworker` command. Nothing heavy is imported before it is known which command is wanted."""

import gc
import sys
from collections.abc import Sequence

from flowworker.stop_signals import end_at_sigterm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code.

    Args:
        arguments: those after the program's name; None takes the process's own.
    """
    end_at_sigterm()
    gc.disable()  # until the imports are done: they make no garbage, and looking for it was an eighth of a start
    try:
        from flowworker.cli.app import run
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        sys.stderr.write("error: the command line needs the extra `cli`: pip install 'flowworker[cli]'\n")
        return 64
    return run(sys.argv[1:] if arguments is None else arguments)
