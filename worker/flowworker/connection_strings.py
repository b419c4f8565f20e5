"""Where a process finds the connection string of its database: in a variable, or in a file that a variable names.

Commands that only ask the database need nothing else of the settings; so this knows nothing of pydantic, whose import
costs more than what such a command does.
"""

from collections.abc import Mapping
from pathlib import Path

from flowworker.database.dsn import prepare
from flowworker.errors import UsageError
from flowworker.redaction import remember_whole

PREFIX = "FLOWWORKER_"


def variable(field: str) -> str:
    """Name of the environment variable of a setting."""
    return PREFIX + field.upper()


def option(field: str) -> str:
    """Name of the command-line option of a setting."""
    return "--dsn" if field == "database_url" else "--" + field.replace("_", "-")


def only_one(environment: Mapping[str, str], *, url: str | None, file: Path | None) -> str | None:
    """The connection string where nothing but one URL or one file is set.

    Args:
        environment: variables of the process.
        url: the option for a URL, which wins over variables.
        file: the option for a file, likewise.

    Returns:
        None where other settings are set as well, or two that exclude each other: `Settings` knows what they mean.

    Raises:
        UsageError: neither is set, the file cannot be read or is empty, or the connection string is refused.
    """
    ours = {name.upper(): value for name, value in environment.items() if name.upper().startswith(PREFIX) and value}
    set_url, set_file = ours.pop(variable("database_url"), None), ours.pop(variable("database_file"), None)
    given = url is not None or file is not None
    if ours or (set_url and set_file and not given):
        return None
    if not given:
        url, file = set_url, None if set_file is None else Path(set_file)
    return required(read_one(url, file, "database_file"))


def read_one(url: str | None, file: Path | None, field: str) -> str | None:
    """The connection string, from the file where there is no URL; None where there is neither.

    Args:
        url: the connection string.
        file: what holds it.
        field: the setting of the file; that of the URL is named alike.

    Raises:
        UsageError: the file cannot be read or is empty, or the connection string is refused.
    """
    if url is not None:
        return _checked(url.strip(), variable(field.replace("file", "url")))
    if file is None:
        return None
    try:
        content = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{variable(field)}: cannot read {file}: {_reason(error)}") from error
    if not content:
        raise UsageError(f"{variable(field)}: {file} is empty; it must hold a PostgreSQL URI")
    return _checked(content, variable(field))


def required(dsn: str | None) -> str:
    """The connection string of a process that cannot do without.

    Raises:
        UsageError: there is none.
    """
    if dsn is None:
        raise UsageError(
            f"no database: set {variable('database_url')} or {variable('database_file')}, "
            f"or give {option('database_url')}"
        )
    return dsn


def _checked(dsn: str, source: str) -> str:
    """Refused where it is read, so that the message can name the place; it holds no part of the string."""
    remember_whole(dsn)
    try:
        prepare(dsn)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None
    return dsn


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8 text"
