"""The SQL files that come with this package: pgmq's, pgflow's, and ours."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable

from flowworker.database.run_events import DEFAULT_SCOPE, RunEventScope
from flowworker.errors import UsageError

REALTIME_NAME = "realtime_stub.sql"
"""How the ledger calls the stand-in, whatever it announces: each choice takes the place of the one before."""


class Component(StrEnum):
    """A part of an installation, in the order they are installed."""

    FLOWWORKER = "flowworker"
    PGMQ = "pgmq"
    REALTIME = "realtime"
    PGFLOW = "pgflow"


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedFile:
    """One file to apply in one transaction."""

    component: Component
    name: str
    sql: str
    checksum: str
    """SHA-256 of the file as packaged."""


@cache
def packaged_files(run_events: RunEventScope = DEFAULT_SCOPE) -> tuple[PackagedFile, ...]:
    """Every file in the order of installation; ours first, because it holds the ledger.

    Args:
        run_events: what the stand-in for realtime.send announces.

    Raises:
        UsageError: pgmq's and pgflow's SQL was never fetched.
    """
    package = files("flowworker.database")
    ours, upstream = package / "sql" / "install", package / "upstream"
    if not (upstream / "manifest.json").is_file():
        raise UsageError("the SQL of pgmq and pgflow is not part of this installation: run `make setup` in the source")
    migrations = sorted((entry for entry in (upstream / "pgflow").iterdir()), key=lambda entry: entry.name)
    return (
        _read(Component.FLOWWORKER, ours / "flowworker.sql"),
        _read(Component.PGMQ, upstream / "pgmq" / "pgmq.sql"),
        _read(Component.REALTIME, ours / f"realtime_{run_events}.sql", name=REALTIME_NAME),
        *(_read(Component.PGFLOW, entry) for entry in migrations if entry.name.endswith(".sql")),
    )


@cache
def packaged_version(component: Component) -> str:
    """Version of what `packaged_files` installs."""
    match component:
        case Component.PGMQ | Component.PGFLOW:
            manifest = json.loads((files("flowworker.database") / "upstream" / "manifest.json").read_bytes())
            return str(manifest["versions"][component])
        case Component.FLOWWORKER:
            return version("flowworker")
        case Component.REALTIME:
            return "our stand-in"


def _read(component: Component, entry: Traversable, *, name: str | None = None) -> PackagedFile:
    text = entry.read_text()
    # pgmq is installed from its SQL: where it is no extension there is nothing to create, and where it is one it is
    # already there.
    sql = "\n".join(line for line in text.splitlines() if not line.startswith("CREATE EXTENSION"))
    return PackagedFile(
        component=component, name=name or entry.name, sql=sql, checksum=hashlib.sha256(text.encode()).hexdigest()
    )
