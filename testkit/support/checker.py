"""Judges a history, in the manner of Jepsen: nothing lost, nothing unexpected, every duplicate explained by a fault."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

from testkit.support.history import (
    COMPLETED,
    FAILED,
    QUEUED,
    STARTED,
    TERMINAL,
    Execution,
    Fault,
    History,
    Key,
    Life,
    Transition,
    owner_of,
)

SECOND = 1_000_000_000
SLACK = SECOND // 100
"""Between the clocks of the witnesses."""

SILENCE = 7 * SECOND
"""The shortest time for which a fault must have kept beats away from peers who then declare their worker lost: they
wait 10 s, and the last beat may be as old as the pause between two.
"""

AFTERMATH = 5 * SECOND
"""For how long after its end a fault still explains a death: the next beat is due, the reconnection takes its pause.
What the worker begins until then is in flight when it is declared lost."""

UNDER_WAY = SECOND
"""What was claimed when its worker was declared lost has begun by then."""


class Rule(StrEnum):
    """What every history must keep to."""

    LOST = "lost"
    UNEXPECTED = "unexpected"
    SINGLE_COMPLETION = "single completion"
    WORK_FIRST = "work before completion"
    UNEXPLAINED_DUPLICATE = "unexplained duplicate"
    CHARGED = "attempt charged for a loss"
    ORDER = "dependency order"
    FENCE = "fence"
    BOUND = "time to run again"
    FALSE_DEATH = "false death"
    LOST_WORKER = "work of a lost worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that was broken, and where."""

    rule: Rule
    subject: str
    explanation: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.explanation}"


def check(history: History) -> list[Violation]:
    """Everything that is wrong with a history; empty when it is good."""
    return [violation for rule in RULES for violation in rule(Case(history))]


class Case:
    """A history, indexed."""

    def __init__(self, history: History) -> None:
        """Look at this history."""
        self.history = history

    @cached_property
    def executions(self) -> Mapping[Key, Sequence[Execution]]:
        """By task, in order of their begin."""
        found: dict[Key, list[Execution]] = defaultdict(list)
        for execution in sorted(self.history.executions, key=lambda one: one.began):
            found[execution.key].append(execution)
        return found

    @cached_property
    def transitions(self) -> Mapping[Key, Sequence[Transition]]:
        """By task, in commit order."""
        found: dict[Key, list[Transition]] = defaultdict(list)
        for transition in self.history.transitions:
            found[transition.key].append(transition)
        return found

    @cached_property
    def by_id(self) -> Mapping[str, Execution]:
        """Executions by their id."""
        return {execution.id: execution for execution in self.history.executions}

    def settled(self, execution: Execution) -> Transition | None:
        """The write that carries this execution's output or error."""
        return next((one for one in self.transitions[execution.key] if one.execution == execution.id), None)

    def claim(self, execution: Execution) -> int | None:
        """Position of the claim that this execution belongs to: its process's last one before it began."""
        return max(
            (
                position
                for position, one in enumerate(self.transitions[execution.key])
                if one.status == STARTED
                and one.at <= execution.began + SLACK
                and one.worker in {None, execution.worker}
            ),
            default=None,
        )

    def in_flight(self, execution: Execution, fault: Fault) -> bool:
        """Whether a fault hit this execution before its outcome was written."""
        hit = fault.workers is None or execution.worker in fault.workers
        settled = self.settled(execution)
        open_then = settled is None or settled.at >= fault.began - SLACK
        last = fault.ended + (AFTERMATH if fault.only_by_death else SLACK)
        return hit and execution.began <= last and open_then


def lost(case: Case) -> Iterator[Violation]:
    """Every acknowledged start ends, with all its tasks, and leaves no message."""
    history = case.history
    for owner in history.started:
        end = history.ends.get(owner)
        if end not in TERMINAL:
            yield Violation(rule=Rule.LOST, subject=owner, explanation=f"it was started and is {end or 'gone'}")
        if end == COMPLETED and owner in history.messages:
            yield Violation(rule=Rule.LOST, subject=owner, explanation="it completed and its message is still queued")
    for key, transitions in case.transitions.items():
        last = transitions[-1].status
        owner = owner_of(key, charges=history.charges)
        if history.ends.get(owner) == COMPLETED and last != COMPLETED:
            yield Violation(rule=Rule.LOST, subject=str(key), explanation=f"its run completed, it is {last}")


def unexpected(case: Case) -> Iterator[Violation]:
    """Nothing runs that was not asked for, and nothing without a claim."""
    history = case.history
    asked = {*history.started, *history.in_doubt}
    for key in {*case.executions, *case.transitions}:
        if owner_of(key, charges=history.charges) not in asked:
            yield Violation(rule=Rule.UNEXPECTED, subject=str(key), explanation="its run was not started")
        if key.step not in history.dependencies:
            yield Violation(rule=Rule.UNEXPECTED, subject=str(key), explanation="there is no such step")
    for execution in history.executions:
        if case.claim(execution) is None:
            text = f"{execution.worker} ran it without having claimed it"
            yield Violation(rule=Rule.UNEXPECTED, subject=str(execution.key), explanation=text)


def single_completion(case: Case) -> Iterator[Violation]:
    """A task completes once, stays as it is, and does not run again."""
    for key, transitions in case.transitions.items():
        completed = [one for one in transitions if one.status == COMPLETED]
        if not completed:
            continue
        first = completed[0]
        if len(completed) > 1:
            outputs = {one.output for one in completed}
            text = f"it completed {len(completed)} times, with {len(outputs)} outputs"
            yield Violation(rule=Rule.SINGLE_COMPLETION, subject=str(key), explanation=text)
        if transitions[-1].status != COMPLETED:
            text = f"it completed and then became {transitions[-1].status}"
            yield Violation(rule=Rule.SINGLE_COMPLETION, subject=str(key), explanation=text)
        for execution in case.executions.get(key, ()):
            if execution.began > first.at + SLACK:
                text = f"{execution.worker} ran it {_seconds(execution.began - first.at)} after it had completed"
                yield Violation(rule=Rule.SINGLE_COMPLETION, subject=str(key), explanation=text)


def work_first(case: Case) -> Iterator[Violation]:
    """A completion carries the output of an execution that had reached its end."""
    for transition in case.history.transitions:
        if transition.status != COMPLETED:
            continue
        execution = None if transition.execution is None else case.by_id.get(transition.execution)
        if execution is None:
            text = "it completed with the output of no execution"
        elif execution.ended is None or execution.ended > transition.at + SLACK:
            text = "it completed before its handler had ended"
        else:
            continue
        yield Violation(rule=Rule.WORK_FIRST, subject=str(transition.key), explanation=text)


def duplicates_explained(case: Case) -> Iterator[Violation]:
    """A handler runs again for the same attempt only where a fault hit the execution before."""
    for key, executions in case.executions.items():
        for before, again in pairwise(_as_claimed(case, executions)):
            if again.attempt > before.attempt and (before.ended is None or before.ended <= again.began + SLACK):
                continue
            if not any(_explains(case, fault, before, again) for fault in case.history.faults):
                text = (
                    f"attempt {again.attempt} ran on {before.worker} and again on {again.worker}, and no fault hit it"
                )
                yield Violation(rule=Rule.UNEXPLAINED_DUPLICATE, subject=str(key), explanation=text)


def _as_claimed(case: Case, executions: Sequence[Execution]) -> Sequence[Execution]:
    """In the order of their claims: what the first worker claimed may begin when another one has begun it already."""
    claims = {execution.id: case.claim(execution) for execution in executions}
    return sorted(executions, key=lambda one: -1 if (claim := claims[one.id]) is None else claim)


def _explains(case: Case, fault: Fault, before: Execution, again: Execution) -> bool:
    """Whether a fault is the reason for which a handler ran again."""
    if not case.in_flight(before, fault) or fault.began > again.began + SLACK:
        return False
    deaths = [life.lost for life in case.history.lives if life.worker == before.worker and life.lost is not None]
    return not fault.only_by_death or any(
        max(fault.began, before.began - UNDER_WAY) - SLACK <= death <= again.began + SLACK for death in deaths
    )


def false_deaths(case: Case) -> Iterator[Violation]:
    """Only those are declared lost whose beats could not arrive, and not before their peers had waited."""
    for life in case.history.lives:
        if life.lost is not None and not any(_silenced(life, life.lost, fault) for fault in case.history.faults):
            text = f"{life.worker}, which serves {life.serves}, was declared lost, and nothing had kept its beats away"
            yield Violation(rule=Rule.FALSE_DEATH, subject=life.incarnation, explanation=text)


def _silenced(life: Life, lost: int, fault: Fault) -> bool:
    if not fault.silences or not (fault.workers is None or life.worker in fault.workers):
        return False
    if fault.lasts or fault.ended == fault.began:  # a kill, whose successor in the same pod need not wait
        return lost >= fault.began - SLACK
    return fault.began + SILENCE <= lost <= fault.ended + AFTERMATH


def lost_workers_begin_nothing(case: Case) -> Iterator[Violation]:
    """A worker that was declared lost begins nothing more, whatever a claim still brings it."""
    for execution in case.history.executions:
        lives = _may_be(case, execution)
        if lives and not any(_alive(life, execution.began) for life in lives):
            text = f"{execution.worker} began it although it had been declared lost"
            yield Violation(rule=Rule.LOST_WORKER, subject=str(execution.key), explanation=text)


def _may_be(case: Case, execution: Execution) -> Sequence[Life]:
    """The incarnations that can have begun this execution: the one that claimed it, or else those of its process."""
    position = case.claim(execution)
    incarnation = None if position is None else case.transitions[execution.key][position].incarnation
    if incarnation is not None:
        return [life for life in case.history.lives if life.incarnation == incarnation]
    whose = (execution.worker, execution.key.step)
    return [life for life in case.history.lives if (life.worker, life.serves) == whose]


def _alive(life: Life, at: int) -> bool:
    return life.born <= at + SLACK and (life.lost is None or at <= life.lost + UNDER_WAY)


def losses_uncharged(case: Case) -> Iterator[Violation]:
    """A higher attempt number needs an attempt that failed: queued again with its attempt kept and its own error."""
    if not case.history.charges:
        return
    for key, executions in case.executions.items():
        failed = {one.attempt for one in case.transitions[key] if one.status == QUEUED and one.execution is not None}
        for before, again in pairwise(executions):
            if again.attempt > before.attempt and before.attempt not in failed:
                text = f"attempt {again.attempt} began although attempt {before.attempt} never failed"
                yield Violation(rule=Rule.CHARGED, subject=str(key), explanation=text)


def dependency_order(case: Case) -> Iterator[Violation]:
    """No step begins before everything it depends on is committed."""
    completed: dict[tuple[str, str], list[Sequence[Transition]]] = defaultdict(list)
    for key, transitions in case.transitions.items():
        completed[key.owner, key.step].append(transitions)
    for execution in case.history.executions:
        for dependency in case.history.dependencies.get(execution.key.step, ()):
            tasks = completed[execution.key.owner, dependency]
            if not tasks or not all(_completed_by(one, execution.began) for one in tasks):
                text = f"it ran on {execution.worker} before {dependency} had completed"
                yield Violation(rule=Rule.ORDER, subject=str(execution.key), explanation=text)


def fencing(case: Case) -> Iterator[Violation]:
    """No outcome is accepted from an execution whose claim was not the last one."""
    for key, transitions in case.transitions.items():
        for position, transition in enumerate(transitions):
            execution = None if transition.execution is None else case.by_id.get(transition.execution)
            if execution is None or transition.status not in {COMPLETED, FAILED, QUEUED}:
                continue
            claims = [before for before, one in enumerate(transitions[:position]) if one.status == STARTED]
            if not claims or case.claim(execution) != claims[-1]:
                text = f"the outcome of {execution.worker} was accepted although a newer claim existed"
                yield Violation(rule=Rule.FENCE, subject=str(key), explanation=text)


def bounds(case: Case) -> Iterator[Violation]:
    """What was in flight at a fault runs again, or ends, in time."""
    for fault in case.history.faults:
        if fault.rerun_within is None:
            continue
        limit = fault.began + int(fault.rerun_within * SECOND)
        for execution in case.history.executions:
            hit = execution.began <= fault.began and case.in_flight(execution, fault)
            if hit and not _goes_on(case, execution, fault, limit):
                text = f"not run again within {fault.rerun_within:g} s of {fault.name}"
                yield Violation(rule=Rule.BOUND, subject=str(execution.key), explanation=text)


def _goes_on(case: Case, execution: Execution, fault: Fault, limit: int) -> bool:
    runs = any(fault.began < one.began <= limit for one in case.executions[execution.key])
    ends = (one.at for one in case.transitions[execution.key] if one.status in TERMINAL)
    return runs or any(fault.began - SLACK <= at <= limit for at in ends)


def _completed_by(transitions: Sequence[Transition], at: int) -> bool:
    return any(one.status == COMPLETED and one.at <= at + SLACK for one in transitions)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds / SECOND:.2f} s"


RULES: Sequence[Callable[[Case], Iterator[Violation]]] = (
    lost,
    unexpected,
    single_completion,
    work_first,
    duplicates_explained,
    losses_uncharged,
    dependency_order,
    fencing,
    bounds,
    false_deaths,
    lost_workers_begin_nothing,
)
