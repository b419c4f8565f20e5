"""What is wrong with a pod or a revision, in words a user can act on.

The checks are small functions from a container or a pod to a fault or nothing, asked in the order in which one fault
hides another: a pod that cannot be scheduled has no image to pull, one without image has no exit code.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from flowworker.errors import ExitCode
from flowworker.redaction import redact
from flowworker_operator.api.conditions import Reason
from flowworker_operator.api.status import LONGEST_ERROR
from flowworker_operator.domain.snapshot import ContainerState, Fault, Obstacle, PodState, RevisionState

_IMAGE_TROUBLE = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG_TROUBLE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

OOM_KILLED = "OOMKilled"
KILLED = 137
"""Exit code of a process that ended by SIGKILL: 128 + 9."""

_QUOTA_WORDS = ("exceeded quota", "limitrange", "must specify", " per container is ", " per pod is ")
"""Of a refusal by a ResourceQuota or a LimitRange; the latter does not name itself."""

LOG_TAIL = 2048 - 3
"""Bytes of a container's log that kubelet makes a message of where the container left none: the last 2048, however they
begin, less a character of which a part was cut off."""

_VOLUME = re.compile(r'volume "([^"]+)"')

_EXIT_REASONS = {
    ExitCode.USAGE: Reason.BAD_SETTINGS,
    ExitCode.HANDLER: Reason.BAD_HANDLER,
    ExitCode.UNAVAILABLE: Reason.DATABASE_UNREACHABLE,
    ExitCode.ACCESS: Reason.DATABASE_REFUSED,
    ExitCode.INTERNAL: Reason.CRASH_LOOP,
}
"""What the exit codes of a worker mean; DATA has several meanings and is read from the message."""


def revision_fault(revision: RevisionState, kind: str, slug: str) -> Fault | None:
    """The first fault found: of the Deployment, else of its newest pod that has one."""
    if revision.refusal is not None and len(revision.live) < revision.replicas:
        return refusal_fault("the API server refuses to create pods", revision.refusal)
    newest_first = sorted(revision.live, key=lambda pod: pod.created_at, reverse=True)
    return next((fault for pod in newest_first if (fault := pod_fault(pod, kind, slug))), None)


def pod_fault(pod: PodState, kind: str, slug: str) -> Fault | None:
    """What keeps a pod from working; None when nothing is known to."""
    if pod.unschedulable is not None:
        return _fault(Reason.UNSCHEDULABLE, f"pod {pod.name} cannot be scheduled", pod.unschedulable)
    report = pod.report
    if report is not None and (report.kind, report.slug) != (kind, slug):
        what = f"the handler serves {report.kind} {report.slug!r}, but the spec says {kind} {slug!r}"
        return _fault(Reason.BAD_HANDLER, what, "change handler, or flow or queue")
    return None if pod.ready else _container_fault(pod) or _obstacle_fault(pod)


def refusal_fault(what: str, message: str) -> Fault:
    """A refusal of the API server; the message is in its own words."""
    lowered = message.lower()
    if "failed calling webhook" in lowered:
        return _fault(Reason.WEBHOOK_FAILED, what, message)
    quota = any(words in lowered for words in _QUOTA_WORDS)
    return _fault(Reason.QUOTA if quota else Reason.TEMPLATE_REFUSED, what, message)


def _container_fault(pod: PodState) -> Fault | None:
    checks: Iterable[Callable[[str, ContainerState], Fault | None]] = (_image, _configuration, _ended)
    found = (check(pod.name, container) for container in pod.containers for check in checks)
    return next((fault for fault in found if fault), None)


def _obstacle_fault(pod: PodState) -> Fault | None:
    obstacle = pod.obstacle
    if obstacle is None:
        return None
    if "Volume" not in obstacle.reason and "Mount" not in obstacle.reason:
        return _fault(Reason.NO_SANDBOX, f"the node cannot set up pod {pod.name}", obstacle.message)
    reason = _missing(obstacle.message) or Reason.VOLUME_NOT_MOUNTED
    return _fault(reason, f"pod {pod.name} cannot mount a volume", obstacle.message)


def explained(obstacle: Obstacle, origins: Mapping[str, str]) -> Obstacle:
    """The obstacle with what its volume is made from: kubelet names the volume alone.

    Args:
        obstacle: in the words of an event.
        origins: of volumes, by name.
    """
    named = _VOLUME.search(obstacle.message)
    origin = None if named is None else origins.get(named[1])
    return obstacle if origin is None else replace(obstacle, message=f"{obstacle.message} ({origin})")


def _missing(message: str) -> Reason | None:
    """What kubelet says is missing; of a volume with a wrong key it says neither name nor kind but `config key`."""
    lowered = message.lower()
    if "configmap" in lowered or "config key" in lowered:
        return Reason.BAD_CONFIG_MAP
    return Reason.BAD_SECRET if "secret" in lowered else None


def _image(pod: str, container: ContainerState) -> Fault | None:
    if container.waiting_reason not in _IMAGE_TROUBLE:
        return None
    return _fault(Reason.IMAGE_PULL, f"pod {pod} cannot get its image", container.waiting_message)


def _configuration(pod: str, container: ContainerState) -> Fault | None:
    if container.waiting_reason not in _CONFIG_TROUBLE:
        return None
    message = container.waiting_message
    reason = _missing(message) or Reason.TEMPLATE_REFUSED
    return _fault(reason, f"container {container.name} of pod {pod} cannot be created", message)


def _ended(pod: str, container: ContainerState) -> Fault | None:
    if container.exit_code in (None, 0):
        return None
    where = f"container {container.name} of pod {pod}"
    if container.exit_code == KILLED and container.ended_reason == OOM_KILLED:
        advice = "raise resources.limits.memory or lower worker.maxConcurrency"
        return _fault(Reason.OUT_OF_MEMORY, f"{where} used more memory than its limit", advice)
    words = _from_a_start(container.ended_message) or end_words(container.ended_reason, container.exit_code)
    return _fault(_exit_reason(container), f"{where} ended with code {container.exit_code}", words)


def _from_a_start(message: str) -> str:
    """A message without the line, or the word, whose beginning may have been cut off: it could be half a password."""
    if len(message.encode("utf-8", "replace")) < LOG_TAIL:
        return message
    _, _, lines = message.partition("\n")
    return lines if lines.strip() else message.partition(" ")[2]


def end_words(reason: str, code: int | None) -> str:
    """The end of a container in words.

    The container runtime gives the reason OOMKilled once any process of the container was killed for its memory, such
    as a child of a handler, whatever the container itself ended with later. Only exit code 137 says that it hit the
    container's first process.
    """
    if reason == OOM_KILLED and code != KILLED:
        return f"exit code {code}; a process that it had started was killed for its memory"
    return f"{reason or 'Unknown'}, exit code {'unknown' if code is None else code}"


def _exit_reason(container: ContainerState) -> Reason:
    code = container.exit_code
    if code == ExitCode.DATA:
        return _data_reason(container.ended_message)
    return next((reason for known, reason in _EXIT_REASONS.items() if known == code), Reason.CRASH_LOOP)


def _data_reason(message: str) -> Reason:
    if "differs from the flow" in message:
        return Reason.SHAPE_MISMATCH
    missing = "has no flow" in message or "has no queue" in message or "db install" in message
    return Reason.SCHEMA_MISSING if missing else Reason.SCHEMA_UNSUPPORTED


def _fault(reason: Reason, what: str, words: str) -> Fault:
    detail = redact(words.strip(), limit=LONGEST_ERROR)
    return Fault(reason=reason, message=f"{what}: {detail}" if detail else what)
