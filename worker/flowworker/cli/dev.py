"""`flowworker dev`: PostgreSQL, installation, worker and reload in one command, for one's own machine."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from flowworker.cli.options import References
from flowworker.cli.output import note
from flowworker.cli.playground import Playground
from flowworker.cli.references import load_all
from flowworker.cli.reloading import Reloader
from flowworker.errors import UsageError
from flowworker.redaction import redact

DIRECTORY = Path(".flowworker")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("dev")(dev)


def dev(
    references: References,
    directory: Annotated[
        Path, typer.Option("--directory", metavar="FOLDER", help="Where the database is kept between runs.")
    ] = DIRECTORY,
    watch: Annotated[
        list[Path] | None, typer.Option("--watch", metavar="PATH", help="Reload when Python files here change.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Begin with an empty database.")] = False,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port of PostgreSQL; 0 picks one.")] = 0,
) -> int:
    """Run flows and queues on a PostgreSQL of their own.

    The worker starts anew when a file changes. Ctrl-C ends everything; the data stays.
    """
    watched = watch or [Path()]
    missing = [path for path in watched if not path.exists()]
    if missing:
        raise UsageError(f"--watch: there is no {missing[0]}")
    load_all(references)
    with Playground(directory=directory, port=port, reset=reset) as playground:
        note(f"database: {redact(playground.dsn)}")
        note(f"elsewhere: export FLOWWORKER_DATABASE_FILE={playground.dsn_file}")
        note(f"watching: {', '.join(str(path.resolve()) for path in watched)}; Ctrl-C ends")
        asyncio.run(Reloader(references=references, dsn=playground.dsn, watched=watched).run())
    note("stopped; the data stays in " + str(directory))
    return 0
