"""From a pod as the API server gives it to what decisions look at."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from flowworker_operator.domain.health import end_words
from flowworker_operator.domain.naming import COMPILES_ANNOTATION, DELETION_COST, DELETION_COST_ANNOTATION
from flowworker_operator.domain.snapshot import ContainerState, DrainRequest, Obstacle, PodState, Report
from flowworker_operator.render.container import COMPILER, WORKER

Object = Mapping[str, Any]

_NOTHING: Object = {}
_OVER = ("Succeeded", "Failed")
_NOT_CREATED = frozenset({"ContainerCreating", "PodInitializing"})
_BACKING_OFF = "CrashLoopBackOff"


def pod_state(
    pod: Object,
    reports: Mapping[str, Report],
    drains: Mapping[str, DrainRequest],
    obstacles: Mapping[str, Obstacle] = MappingProxyType({}),
) -> PodState:
    """One pod with what its worker has reported.

    Args:
        pod: the object.
        reports: by pod uid.
        drains: drains in force, by pod uid.
        obstacles: what events say of pods whose containers are not created, by pod uid.
    """
    metadata, status = pod["metadata"], pod.get("status", _NOTHING)
    uid, ending = metadata["uid"], "deletionTimestamp" in metadata or is_over(pod)
    return PodState(
        name=metadata["name"],
        uid=uid,
        created_at=timestamp(metadata["creationTimestamp"]),
        ready=not ending and condition(status, "Ready").get("status") == "True",
        ending=ending,
        marked=annotation(pod, DELETION_COST_ANNOTATION) == DELETION_COST,
        unschedulable=_unschedulable(status),
        cut_off=_is_cut_off(status),
        obstacle=obstacles.get(uid),
        containers=tuple(_containers(status)),
        report=reports.get(uid),
        drain=drains.get(uid),
    )


def compiled_revision(pod: Object) -> str | None:
    """The revision that a pod creates the flow or queue for; None for the pod of a worker."""
    return annotation(pod, COMPILES_ANNOTATION)


def has_compiled(pod: Object) -> bool:
    """Whether the container that creates the flow or queue has ended well; others may have been added to the pod."""
    statuses: Iterable[Object] = pod.get("status", _NOTHING).get("containerStatuses", ())
    state = next((one.get("state", _NOTHING) for one in statuses if one["name"] == COMPILER), _NOTHING)
    return state.get("terminated", _NOTHING).get("exitCode") == 0


def is_over(pod: Object) -> bool:
    """Whether all containers of a pod have ended for good."""
    return pod.get("status", _NOTHING).get("phase") in _OVER


def has_ended(pod: Object) -> bool:
    """Whether it is proven that no worker runs in a pod and none will: from the last state that was seen of it.

    A pod whose object is deleted by force may run on for its whole grace period, and a node that is cut off may run a
    pod that others have called Failed: a worker whose container was last seen running is only in doubt.
    """
    state = _worker_status(pod).get("state", _NOTHING)
    if "running" in state:
        return False
    return is_over(pod) or ("terminated" in state and "deletionTimestamp" in pod["metadata"])


def is_silent(pod: Object) -> bool:
    """Whether no worker runs in a pod for sure: it is over, or kubelet waits before it starts the container again.

    A container that has ended just now does not count: kubelet starts it again at once the first time, and its next
    worker could be taken for the dead one.
    """
    waiting = _worker_status(pod).get("state", _NOTHING).get("waiting", _NOTHING)
    return is_over(pod) or waiting.get("reason") == _BACKING_OFF


def hangs(pod: Object) -> bool:
    """Whether a pod has a node that has not created its containers, for a reason that its status does not hold.

    Volumes come before the network and that before images, so that a pod whose network is set up has its volumes.
    """
    status = pod.get("status", _NOTHING)
    if is_over(pod) or "deletionTimestamp" in pod["metadata"]:
        return False
    scheduled = condition(status, "PodScheduled").get("status") == "True"
    set_up = condition(status, "PodReadyToStartContainers").get("status") == "True"
    return scheduled and not set_up and all(one.waiting_reason in _NOT_CREATED for one in _containers(status))


def restarts(pod: Object) -> int:
    """How often the worker's container was started again."""
    return _worker_status(pod).get("restartCount", 0)


def last_end(pod: Object) -> str:
    """How the worker ended before its container was started again: the kubelet's word for it, and the exit code."""
    ended = _worker_status(pod).get("lastState", _NOTHING).get("terminated", _NOTHING)
    return end_words(ended.get("reason", ""), ended.get("exitCode"))


def _worker_status(pod: Object) -> Object:
    statuses: Iterable[Object] = pod.get("status", _NOTHING).get("containerStatuses", ())
    return next((one for one in statuses if one["name"] == WORKER), _NOTHING)


def _is_cut_off(status: Object) -> bool:
    """Whether Kubernetes calls a pod not ready because its node says nothing.

    It takes the condition Ready away then, and leaves the rest as kubelet wrote it. Kubelet itself gives a reason.
    """
    ready = condition(status, "Ready")
    well = condition(status, "ContainersReady").get("status") == "True"
    return well and ready.get("status") == "False" and not ready.get("reason")


def condition(status: Object, kind: str) -> Object:
    """One condition of a status; empty when there is none of this type."""
    return next((one for one in status.get("conditions", ()) if one.get("type") == kind), _NOTHING)


def annotation(item: Object, name: str) -> str | None:
    """One annotation of an object."""
    return item["metadata"].get("annotations", _NOTHING).get(name)


def timestamp(text: str) -> datetime:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text)


def _unschedulable(status: Object) -> str | None:
    scheduled = condition(status, "PodScheduled")
    refused = scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable"
    return scheduled.get("message", "") if refused else None


def _containers(status: Object) -> Iterable[ContainerState]:
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        state, last = one.get("state", _NOTHING), one.get("lastState", _NOTHING)
        waiting = state.get("waiting", _NOTHING)
        ended = state.get("terminated") or last.get("terminated") or _NOTHING
        yield ContainerState(
            name=one["name"],
            restarts=one.get("restartCount", 0),
            waiting_reason=waiting.get("reason", ""),
            waiting_message=waiting.get("message", ""),
            ended_reason=ended.get("reason", ""),
            ended_message=ended.get("message", ""),
            exit_code=ended.get("exitCode"),
        )
