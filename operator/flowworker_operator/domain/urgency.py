"""Whether a change is expected in the database, so that it is worth reading it more often."""

from collections.abc import Iterable

from flowworker_operator.domain.snapshot import PodState, WorkerState

_OVER = frozenset({WorkerState.DRAINED, WorkerState.STOPPED, WorkerState.LOST})


def urgent(pods: Iterable[PodState]) -> bool:
    """Whether no worker is ready, or a ready worker is about to report or to finish its drain."""
    ready = [pod for pod in pods if pod.ready]
    return not ready or any(_is_awaited(pod) for pod in ready)


def _is_awaited(pod: PodState) -> bool:
    if pod.report is None or pod.report.state is WorkerState.STARTING:
        return True
    return pod.lease is not None and pod.report.state not in _OVER
