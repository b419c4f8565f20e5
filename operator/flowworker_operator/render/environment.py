"""The environment of a worker's container: what the spec says, under the names of the worker's settings."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowworker.settings import variable
from flowworker_operator.api.spec import PRIVATE_KEY, FlowWorkerSpec
from flowworker_operator.domain.naming import NAME_LABEL
from flowworker_operator.render.secrets import AUTHORITY, CLIENT, DATABASE, DIRECT

PROBE_PORT = 8080

AUTHORITY_VARIABLE, CLIENT_VARIABLE, KEY_VARIABLE = "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY"
"""PostgreSQL's own: whatever opens a connection in the pod finds the certificates."""

_MILLISECONDS = 1000


def environment(spec: FlowWorkerSpec) -> list[dict[str, Any]]:
    """Variables of the worker, except for its revision, which is the hash of the template they are part of."""
    values = _literals(spec)
    return [
        *({"name": variable(field), "value": value} for field, value in values.items()),
        *(
            {"name": variable(field), "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for field, path in _FIELDS.items()
        ),
        *certificates_variables(spec),
    ]


def certificates_variables(spec: FlowWorkerSpec) -> list[dict[str, Any]]:
    """Variables that name the certificates of the database's authorities, and the client's, where given."""
    files: dict[str, str] = {}
    if spec.database.ca_ref is not None:
        files[AUTHORITY_VARIABLE] = AUTHORITY.path
    if spec.database.client_certificate_ref is not None:
        files |= {CLIENT_VARIABLE: CLIENT.path, KEY_VARIABLE: CLIENT.path_of(PRIVATE_KEY)}
    return [{"name": name, "value": path} for name, path in files.items()]


def revision_variable(revision: str) -> dict[str, Any]:
    """The variable with the revision of a worker."""
    return {"name": variable("revision"), "value": revision}


def merged(own: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Our variables, then the user's others; ours come first so that the user's can refer to them."""
    ours = [dict(entry) for entry in own]
    taken = {entry["name"] for entry in ours} | {variable("revision")}
    return [*ours, *(dict(entry) for entry in given if entry.get("name") not in taken)]


_FIELDS = {
    "namespace": "metadata.namespace",
    "name": f"metadata.labels['{NAME_LABEL}']",
    "pod_name": "metadata.name",
    # Logs, metrics and `flowworker workers list` then name a worker as kubectl does.
    "worker_name": "metadata.name",
    "pod_uid": "metadata.uid",
}


def _literals(spec: FlowWorkerSpec) -> dict[str, str]:
    worker = spec.worker
    values = {
        "database_file": DATABASE.path,
        "compile": worker.compile.value.lower(),
        "max_concurrency": str(worker.max_concurrency),
        "batch_size": str(worker.batch_size),
        "signal_strategy": worker.signal_strategy.value.lower(),
        "min_poll_interval": _seconds(worker.min_poll_interval_milliseconds),
        "max_poll_interval": _seconds(worker.max_poll_interval_milliseconds),
        "notify_fallback_interval": _seconds(worker.notify_fallback_interval_milliseconds),
        # A drained worker stays, ready and idle, until the operator removes its pod or lets it go on.
        "when_drained": "wait",
        "probe_port": str(PROBE_PORT),
    }
    if worker.drain_timeout_seconds is not None:
        values["drain_timeout"] = str(worker.drain_timeout_seconds)
    if spec.database.direct_secret_ref is not None:
        # A direct connection is given when the other one goes through a transaction pooler.
        values |= {"direct_database_file": DIRECT.path, "statement_cache": "false"}
    return values


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / _MILLISECONDS:g}"
