"""Settings of the operator process: environment variables with the prefix `FLOWWORKER_OPERATOR_`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from flowworker.errors import UsageError

PREFIX = "FLOWWORKER_OPERATOR_"

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["json", "console"]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=253)]


class Settings(BaseSettings):
    """Settings of an operator process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    namespaces: Annotated[
        str, Field(description="Namespaces to serve, separated by commas. Unset: all of the cluster.")
    ] = ""
    database_hosts: Annotated[
        str,
        Field(
            description="Hosts of databases for which FlowWorkers show exactly why one cannot be reached (names, `*` "
            "for anything, addresses and networks, separated by commas). For others they show only that it cannot: "
            "else a namespace could look into networks that are closed to it. Loopback and link-local addresses are "
            "connected to only if they are among the addresses and networks of this list."
        ),
    ] = ""
    kubeconfig: Annotated[Path | None, Field(description="Kubeconfig file. Unset: the service account of the pod.")] = (
        None
    )
    lease_namespace: Annotated[Name, Field(description="Namespace of the Lease that decides which operator acts.")] = (
        "flowworker-system"
    )
    lease_name: Annotated[Name, Field(description="Name of that Lease.")] = "flowworker-operator"
    identity: Annotated[Name, Field(description="Name of this process in the Lease; the pod's name.")] = "operator"
    http_port: Annotated[
        int, Field(ge=0, le=65535, description="Port of `/livez`, `/readyz` and `/metrics`; 0 picks one.")
    ] = 8080
    relist_seconds: Annotated[
        float, Field(gt=0, description="Seconds between two re-lists, which find what the watches have missed.")
    ] = 60.0
    log_format: Annotated[LogFormat, Field(description="Form of the log lines.")] = "json"
    log_level: Annotated[LogLevel, Field(description="Least severe level that is logged.")] = "info"

    @property
    def namespace_list(self) -> tuple[str, ...]:
        """The namespaces to serve, each once; empty for all of the cluster."""
        return _entries(self.namespaces)

    @property
    def database_host_list(self) -> tuple[str, ...]:
        """The known hosts, each once."""
        return _entries(self.database_hosts)


def load_settings() -> Settings:
    """Settings from the environment.

    Raises:
        UsageError: a value is not allowed; names every variable at fault.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise UsageError("\n".join(map(_complaint, error.errors()))) from None


def _entries(text: str) -> tuple[str, ...]:
    names = (name.strip() for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def variable(field: str) -> str:
    """Name of the environment variable of a field."""
    return PREFIX + field.upper()


def _complaint(error: Mapping[str, Any]) -> str:
    return f"{variable(str(error['loc'][0]))}: {error['msg']}"
