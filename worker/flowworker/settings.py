"""Settings of a worker process: environment variables with the prefix `FLOWWORKER_`, under the command line's names.

Every field is a variable (`max_concurrency` → `FLOWWORKER_MAX_CONCURRENCY`) and an option of `flowworker run`
(`--max-concurrency`, but `--dsn` for the URL); the option wins. docs/reference/configuration.md is generated from the
fields below.
"""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from flowworker.database.dsn import prepare
from flowworker.errors import UsageError
from flowworker.redaction import remember_whole
from flowworker.worker_options import Name, SharedArguments, WorkerOptions, complaint

PREFIX = "FLOWWORKER_"


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "console"]

Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings, WorkerOptions):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The settings of a worker process: those of its workers, and its own. Durations are seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database_url: Annotated[
        SecretStr | None, Field(description="Connection string of the database (a PostgreSQL URI).")
    ] = None
    database_file: Annotated[
        Path | None,
        Field(description="File that holds the connection string; the way to pass a mounted secret. Excludes the URL."),
    ] = None
    direct_database_url: Annotated[
        SecretStr | None,
        Field(description="Connection string of the pulse connection when the other one goes through a pooler."),
    ] = None
    direct_database_file: Annotated[
        Path | None, Field(description="File that holds the connection string of the pulse connection.")
    ] = None
    statement_cache: Annotated[
        bool, Field(description="Prepare statements once per connection. Turn off behind a transaction pooler.")
    ] = True
    namespace: Annotated[Name | None, Field(description="Kubernetes namespace; set by the operator.")] = None
    name: Annotated[Name | None, Field(description="Name of the FlowWorker resource; set by the operator.")] = None
    pod_name: Annotated[Name | None, Field(description="Name of the pod; set by the operator.")] = None
    pod_uid: Annotated[
        Name | None, Field(description="Uid of the pod: a predecessor with the same uid is known to be dead at once.")
    ] = None
    revision: Annotated[Name | None, Field(description="Revision of the pod template; set by the operator.")] = None

    probe_host: Annotated[
        Name | None, Field(description="Address the probes listen on. Unset: every address of the machine.")
    ] = None
    probe_port: Annotated[
        Port | None, Field(description="Port of `/livez`, `/readyz`, `/metrics`, `/state`; 0 picks one. Unset: none.")
    ] = None
    expose_state: Annotated[
        bool, Field(description="Answer `/state` to other machines, too. Off: only to this machine (a port-forward).")
    ] = False
    log_level: Annotated[LogLevel, Field(description="Least severe level that is logged.")] = "info"
    log_format: Annotated[LogFormat, Field(description="`auto` is `console` on a terminal and `json` elsewhere.")] = (
        "auto"
    )
    log_payloads: Annotated[
        bool,
        Field(description="Let error messages quote values of inputs and outputs. Off: types and places only."),
    ] = False
    traces: Annotated[
        bool,
        Field(description="Send OpenTelemetry spans over OTLP/HTTP, configured by OTEL_*. Needs the extra `otel`."),
    ] = False
    termination_log: Annotated[
        Path, Field(description="File that gets the reason of the end; written only where it already exists.")
    ] = Path("/dev/termination-log")

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _ignore_case_in_logs(cls, choice: object) -> object:
        return choice.lower() if isinstance(choice, str) else choice

    @model_validator(mode="after")
    def _check_databases(self) -> Self:
        for url, file in (("database_url", "database_file"), ("direct_database_url", "direct_database_file")):
            if getattr(self, url) is not None and getattr(self, file) is not None:
                raise ValueError(f"{variable(url)} and {variable(file)} exclude each other; set one of them")
        return self

    @classmethod
    def spelled(cls, field: str) -> str:
        """The variable of a field."""
        return variable(field)

    def of_each_worker(self) -> SharedArguments:
        """The options that a pool passes on to each of its workers."""
        return SharedArguments(**self.model_dump(include=set(SharedArguments.__annotations__)))

    def dsn(self) -> str:
        """The connection string, read from the file where a file is named.

        Raises:
            UsageError: neither is set, the file cannot be read or is empty, or the connection string is refused.
        """
        found = _read(self.database_url, self.database_file, "database_file")
        if found is None:
            raise UsageError(
                f"no database: set {variable('database_url')} or {variable('database_file')}, "
                f"or give {option('database_url')}"
            )
        return found

    def direct_dsn(self) -> str | None:
        """The connection string of the pulse; None means it uses the ordinary one.

        Raises:
            UsageError: the file cannot be read or is empty, or the connection string is refused.
        """
        return _read(self.direct_database_url, self.direct_database_file, "direct_database_file")


def load_settings(**options: object) -> Settings:
    """Settings from the environment, with the command line's options on top.

    Args:
        options: values by field name; None means the option was not given.

    Raises:
        UsageError: a value is not allowed; names every variable or option at fault and what is allowed.
        TypeError: an option is no field.
    """
    unknown = options.keys() - Settings.model_fields.keys()
    if unknown:
        raise TypeError(f"not a setting: {', '.join(sorted(unknown))}")
    given = {name: value for name, value in options.items() if value is not None}

    def source(field: str) -> str:
        return option(field) if field in given else variable(field)

    try:
        return Settings(**_exclusive(given))
    except ValidationError as error:
        raise UsageError("\n".join(complaint(Settings, one, source) for one in error.errors())) from None


def variable(field: str) -> str:
    """Name of the environment variable of a field."""
    return PREFIX + field.upper()


def option(field: str) -> str:
    """Name of the command-line option of a field."""
    return "--dsn" if field == "database_url" else "--" + field.replace("_", "-")


def misspelt(environment: Iterable[str]) -> list[str]:
    """One warning for each variable that is none of ours but looks like one."""
    known = [variable(field) for field in Settings.model_fields]
    warnings: list[str] = []
    for name in sorted(set(environment).difference(known)):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.9) if name.startswith(PREFIX) else []
        warnings += [f"{name} is not a setting and is ignored; did you mean {match}?" for match in close]
    return warnings


def _exclusive(given: Mapping[str, Any]) -> dict[str, Any]:
    """Let an option for the one form of a connection string override a variable with the other form."""
    values = dict(given)
    for prefix in ("database", "direct_database"):
        url, file = f"{prefix}_url", f"{prefix}_file"
        if url in given and file not in given:
            values[file] = None
        if file in given and url not in given:
            values[url] = None
    return values


def _read(url: SecretStr | None, file: Path | None, field: str) -> str | None:
    if url is not None:
        return _checked(url.get_secret_value().strip(), variable(field.replace("file", "url")))
    if file is None:
        return None
    try:
        content = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{variable(field)}: cannot read {file}: {_reason(error)}") from error
    if not content:
        raise UsageError(f"{variable(field)}: {file} is empty; it must hold a PostgreSQL URI")
    return _checked(content, variable(field))


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
