"""Settings of a worker process: environment variables with the prefix `FLOWWORKER_`, under the command line's names.

Every field is a variable (`max_concurrency` → `FLOWWORKER_MAX_CONCURRENCY`) and an option of `flowworker run`
(`--max-concurrency`, but `--dsn` for the URL); the option wins. docs/reference/configuration.md is generated from the
fields below.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from flowworker.connection_strings import PREFIX, option, read_one, required, variable
from flowworker.errors import UsageError
from flowworker.worker_options import Name, SharedArguments, WorkerOptions, complaint

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "json", "console"]

Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]


class Settings(WorkerOptions):
    """The settings of a worker process: those of its workers, and its own. Durations are seconds."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

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
        return required(_read(self.database_url, self.database_file, "database_file"))

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
        return Settings(**{**_variables(os.environ), **_exclusive(given)})
    except ValidationError as error:
        raise UsageError("\n".join(complaint(Settings, one, source) for one in error.errors())) from None


def _variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Values of fields from variables, whose names may be written in any case; an empty one counts as unset."""
    ours = {name.upper(): value for name, value in environment.items() if value}
    return {field: ours[variable(field)] for field in Settings.model_fields if variable(field) in ours}


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
    return read_one(None if url is None else url.get_secret_value(), file, field)
