"""`flowworker run`: the worker process."""

import os

import typer

from flowworker.cli.options import References
from flowworker.cli.process_end import leave_reason, termination_log
from flowworker.cli.references import load_all
from flowworker.cli.serving import serve_until_stopped
from flowworker.cli.worker_options import with_worker_options
from flowworker.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("run")(run)


@with_worker_options
def run(references: References, *, options: dict[str, object]) -> int:
    """Run flows and queues until they are stopped.

    SIGTERM or Ctrl-C lets running tasks finish, a second one gives them back.

    Exit codes: 0 drained, 64 usage, 65 the database holds something else than the code, 66 no such flow or queue in
    the code, 69 database unreachable, 70 internal, 77 authentication or rights.
    """
    path = termination_log(options, os.environ)
    try:
        end = serve_until_stopped(load_all(references), load_settings(**options))
        if end.error is not None:
            raise end.error
    except Exception as error:
        leave_reason(path, str(error) or type(error).__name__)
        raise
    leave_reason(path, end.reason)
    return end.code
