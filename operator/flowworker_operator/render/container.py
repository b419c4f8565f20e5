"""The containers we write: the worker, completed from the user's fragment, and the one that compiles as the owner."""

from collections.abc import Iterable, Mapping
from typing import Any

from flowworker_operator.api.spec import FlowWorkerSpec, SignalStrategy
from flowworker_operator.render.environment import PROBE_PORT, certificates_variables, environment, merged
from flowworker_operator.render.secrets import AUTHORITY, CLIENT, DATABASE, DIRECT, OWNER

WORKER = "worker"
COMPILER = "flowworker-compile"
SCRATCH = {"name": "flowworker-tmp", "mountPath": "/tmp"}  # noqa: S108 (inside the container)

_PORT_NAME = "flowworker"


def worker_container(spec: FlowWorkerSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The worker's container.

    What makes it a worker is ours: image, arguments, our variables and mounts. Everything else in the fragment stays,
    and what it leaves out gets a sound value.
    """
    defaults = {
        "command": ["flowworker"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "startupProbe": _probe("/livez", period=1, failures=120),
        "livenessProbe": _probe("/livez", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=3),
    }
    ours = {
        "name": WORKER,
        "image": spec.image,
        "args": ["run", spec.handler],
        "env": merged(environment(spec), given.get("env", ())),
        "ports": _by_name([{"name": _PORT_NAME, "containerPort": PROBE_PORT, "protocol": "TCP"}], given.get("ports")),
        "securityContext": restricted(given.get("securityContext")),
        "volumeMounts": _mounts(spec, given.get("volumeMounts")),
    }
    return {**defaults, **given, **ours}


def compile_container(spec: FlowWorkerSpec, given: Mapping[str, Any]) -> dict[str, Any]:
    """The container that creates what is missing with the owner's rights; it sees what the worker sees."""
    notify = ["--notify"] if spec.worker.signal_strategy is SignalStrategy.NOTIFY else []
    shared = {key: given[key] for key in ("command", "imagePullPolicy", "resources", "workingDir") if key in given}
    return {
        "command": ["flowworker"],
        **shared,
        "name": COMPILER,
        "image": spec.image,
        "args": ["flows", "compile", spec.handler, "--database-file", OWNER.path, *notify],
        "env": merged(certificates_variables(spec), given.get("env", ())),
        "envFrom": list(given.get("envFrom", ())),
        "securityContext": restricted(given.get("securityContext")),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _by_name(
            [OWNER.mount(), *_certificates(spec), SCRATCH], given.get("volumeMounts"), key="mountPath"
        ),
    }


def restricted(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Security context of a container under Pod Security `restricted`; what the user sets wins."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        **(given or {}),
    }


def _mounts(spec: FlowWorkerSpec, given: Iterable[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    direct = [] if spec.database.direct_secret_ref is None else [DIRECT.mount()]
    return _by_name([DATABASE.mount(), *direct, *_certificates(spec), SCRATCH], given, key="mountPath")


def _certificates(spec: FlowWorkerSpec) -> list[dict[str, Any]]:
    given = ((AUTHORITY, spec.database.ca_ref), (CLIENT, spec.database.client_certificate_ref))
    return [mount.mount() for mount, reference in given if reference is not None]


def _by_name(
    ours: Iterable[Mapping[str, Any]], given: Iterable[Mapping[str, Any]] | None, *, key: str = "name"
) -> list[dict[str, Any]]:
    """The user's entries and those of ours that the user has not replaced."""
    theirs = [dict(entry) for entry in given or ()]
    taken = {entry.get(key) for entry in theirs}
    return [*(dict(entry) for entry in ours if entry[key] not in taken), *theirs]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": PROBE_PORT, "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 3,
        "successThreshold": 1,
        "failureThreshold": failures,
    }
