"""The status of a FlowWorker whose spec cannot be understood."""

from datetime import datetime

from flowworker_operator.api.conditions import ConditionType
from flowworker_operator.api.status import LONGEST_MESSAGE, Condition, FlowWorkerStatus
from flowworker_operator.domain.snapshot import Fault
from flowworker_operator.domain.words import printable

_VERDICTS = {
    ConditionType.READY: "False",
    ConditionType.PROGRESSING: "False",
    ConditionType.STALLED: "True",
}


def rejected(status: FlowWorkerStatus, fault: Fault, *, generation: int, at: datetime) -> FlowWorkerStatus:
    """The previous status with conditions that say what is wrong; its numbers stay, as the workers do.

    Args:
        status: before.
        fault: what is wrong with the spec.
        generation: of the spec.
        at: now.
    """
    others = tuple(one for one in status.conditions if one.type not in _VERDICTS)
    told = tuple(_condition(status, kind, fault, generation, at) for kind in _VERDICTS)
    return status.model_copy(update={"observed_generation": generation, "conditions": (*told, *others)})


def _condition(status: FlowWorkerStatus, kind: ConditionType, fault: Fault, generation: int, at: datetime) -> Condition:
    truth = _VERDICTS[kind]
    before = next((one for one in status.conditions if one.type == kind), None)
    kept = before is not None and before.status == truth
    return Condition.model_validate(
        {
            "type": kind,
            "status": truth,
            "observed_generation": generation,
            "last_transition_time": before.last_transition_time if before and kept else at.replace(microsecond=0),
            "reason": fault.reason,
            "message": printable(fault.message[:LONGEST_MESSAGE]),
        }
    )
