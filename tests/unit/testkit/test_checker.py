"""The checker passes good histories and finds what is wrong in bad ones, each made by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from testkit.support.checker import SECOND, Rule, check
from testkit.support.history import (
    COMPLETED,
    FAILED,
    QUEUED,
    STARTED,
    Execution,
    Fault,
    History,
    Key,
    Life,
    Transition,
)

RUN = "run 1"
FIRST, SECOND_STEP = Key(owner=RUN, step="first"), Key(owner=RUN, step="second")


def at(seconds: float) -> int:
    return int(seconds * SECOND)


def execution(
    name: str, key: Key, began: float, ended: float | None, *, attempt: int = 1, worker: str = "a"
) -> Execution:
    last = None if ended is None else at(ended)
    return Execution(id=name, key=key, attempt=attempt, worker=worker, began=at(began), ended=last)


def claimed(key: Key, when: float, *, attempt: int = 1, worker: str = "a") -> Transition:
    return Transition(key=key, status=STARTED, attempt=attempt, at=at(when), worker=worker)


def queued(key: Key, when: float, *, attempt: int = 0, name: str | None = None) -> Transition:
    return Transition(key=key, status=QUEUED, attempt=attempt, at=at(when), execution=name)


def ended(
    key: Key, when: float, name: str, *, attempt: int = 1, worker: str = "a", status: str = COMPLETED
) -> Transition:
    return Transition(
        key=key, status=status, attempt=attempt, at=at(when), worker=worker, execution=name, output=name.encode()
    )


GOOD = History(
    started={RUN},
    ends={RUN: COMPLETED},
    dependencies={"first": (), "second": ("first",)},
    executions=(execution("e1", FIRST, 2, 3), execution("e2", SECOND_STEP, 6, 7)),
    transitions=(
        queued(FIRST, 0),
        claimed(FIRST, 1),
        ended(FIRST, 4, "e1"),
        queued(SECOND_STEP, 4),
        claimed(SECOND_STEP, 5),
        ended(SECOND_STEP, 8, "e2"),
    ),
)
"""Two steps, one after the other, without a fault."""

KILLED = History(
    started={RUN},
    ends={RUN: COMPLETED},
    dependencies={"first": ()},
    executions=(execution("e1", FIRST, 2, None), execution("e2", FIRST, 14, 15, worker="b")),
    transitions=(
        queued(FIRST, 0),
        claimed(FIRST, 1),
        queued(FIRST, 13),
        claimed(FIRST, 13.5, worker="b"),
        ended(FIRST, 16, "e2", worker="b"),
    ),
    faults=(Fault(name="kill", began=at(3), ended=at(3), workers=frozenset({"a"}), rerun_within=20),),
)
"""One step whose worker is killed, and its next run elsewhere."""

RETRIED = History(
    started={RUN},
    ends={RUN: COMPLETED},
    dependencies={"first": ()},
    executions=(execution("e1", FIRST, 2, 3), execution("e2", FIRST, 6, 7, attempt=2)),
    transitions=(
        queued(FIRST, 0),
        claimed(FIRST, 1),
        queued(FIRST, 4, attempt=1, name="e1"),
        claimed(FIRST, 5, attempt=2),
        ended(FIRST, 8, "e2", attempt=2),
    ),
)
"""One step that fails once."""

SILENCED = replace(
    KILLED,
    lives=(
        Life(incarnation="a1", worker="a", serves="flow", born=at(0), lost=at(13)),
        Life(incarnation="b1", worker="b", serves="flow", born=at(0)),
    ),
    transitions=(
        queued(FIRST, 0),
        replace(claimed(FIRST, 1), incarnation="a1"),
        queued(FIRST, 13),
        replace(claimed(FIRST, 13.5, worker="b"), incarnation="b1"),
        ended(FIRST, 16, "e2", worker="b"),
    ),
    faults=(Fault(name="cut beat", began=at(3), ended=at(20), workers=frozenset({"a"}), only_by_death=True),),
)
"""One step whose worker's beats are cut off, which is declared lost, and its next run elsewhere."""

FREED = replace(
    SILENCED,
    executions=(execution("e1", FIRST, 20.5, None), execution("e2", FIRST, 22, 23, worker="b")),
    lives=(replace(SILENCED.lives[0], lost=at(21)), SILENCED.lives[1]),
    transitions=(
        queued(FIRST, 0),
        replace(claimed(FIRST, 20.4), incarnation="a1"),
        queued(FIRST, 21),
        replace(claimed(FIRST, 21.5, worker="b"), incarnation="b1"),
        ended(FIRST, 24, "e2", worker="b"),
    ),
)
"""Its worker may beat again and begins it, but is declared lost for its silence before the first beat."""

CROSSED = replace(
    FREED,
    executions=(execution("e1", FIRST, 22.2, None), execution("e2", FIRST, 22, 23, worker="b")),
    lives=(replace(SILENCED.lives[0], lost=at(21.5)), SILENCED.lives[1]),
    transitions=(
        queued(FIRST, 0),
        replace(claimed(FIRST, 21.4), incarnation="a1"),
        queued(FIRST, 21.6),
        replace(claimed(FIRST, 21.8, worker="b"), incarnation="b1"),
        ended(FIRST, 24, "e2", worker="b"),
    ),
)
"""The same, and the answer to its claim arrives when the other worker has begun the task already."""

JOBS = History(
    started={"mail:7"},
    ends={"mail:7": COMPLETED},
    dependencies={"mail": ()},
    executions=(execution("e1", Key(owner="mail", step="mail", index=7), 2, 3),),
    transitions=(
        queued(Key(owner="mail", step="mail", index=7), 0),
        claimed(Key(owner="mail", step="mail", index=7), 1, attempt=4),
        ended(Key(owner="mail", step="mail", index=7), 4, "e1", attempt=4),
    ),
    charges=False,
)


@pytest.mark.parametrize(
    "history",
    [GOOD, KILLED, SILENCED, FREED, CROSSED, RETRIED, JOBS],
    ids=["plain", "killed", "silenced", "freed", "crossed", "retried", "jobs"],
)
def test_good_histories_pass(history: History) -> None:
    assert check(history) == []


def test_a_start_in_doubt_may_have_happened_or_not() -> None:
    assert check(replace(GOOD, started=(), in_doubt={RUN, "run 2"})) == []


def an_acknowledged_run_is_gone() -> History:
    return replace(GOOD, started={RUN, "run 2"})


def a_run_never_ends() -> History:
    return replace(GOOD, ends={RUN: "started"})


def a_completed_run_leaves_its_message() -> History:
    return replace(GOOD, messages={RUN})


def a_completed_run_has_a_task_that_did_not() -> History:
    return replace(GOOD, transitions=GOOD.transitions[:-1])


def a_run_that_was_not_started() -> History:
    return replace(GOOD, started=())


def a_step_that_is_not_defined() -> History:
    return replace(GOOD, dependencies={"second": ()})


def an_execution_without_a_claim() -> History:
    return replace(GOOD, executions=(*GOOD.executions, execution("e3", SECOND_STEP, 4.5, 4.6, worker="b")))


def a_task_completes_twice() -> History:
    return replace(GOOD, transitions=(*GOOD.transitions, ended(SECOND_STEP, 9, "e3")))


def an_output_changes_after_the_completion() -> History:
    return replace(GOOD, transitions=(*GOOD.transitions, replace(ended(SECOND_STEP, 9, "e2"), output=b"other")))


def a_completed_task_is_queued_again() -> History:
    return replace(GOOD, transitions=(*GOOD.transitions, queued(SECOND_STEP, 9)))


def a_handler_runs_after_the_completion() -> History:
    return replace(
        GOOD,
        executions=(*GOOD.executions, execution("e3", SECOND_STEP, 10, 11)),
        faults=(Fault(name="outage", began=at(5), ended=at(11)),),
    )


def a_task_completes_before_its_handler_ends() -> History:
    return replace(GOOD, executions=(GOOD.executions[0], execution("e2", SECOND_STEP, 6, 9)))


def a_task_completes_although_its_handler_never_ended() -> History:
    return replace(GOOD, executions=(GOOD.executions[0], execution("e2", SECOND_STEP, 6, None)))


def a_task_completes_without_any_work() -> History:
    return replace(GOOD, executions=GOOD.executions[:1])


def a_task_runs_twice_without_a_fault() -> History:
    return replace(KILLED, faults=())


def a_task_runs_twice_and_the_fault_hit_another_worker() -> History:
    return replace(KILLED, faults=(Fault(name="kill", began=at(3), ended=at(3), workers=frozenset({"c"})),))


def a_task_runs_twice_and_the_fault_came_later() -> History:
    return replace(KILLED, faults=(Fault(name="kill", began=at(15), ended=at(15), workers=frozenset({"a"})),))


def two_executions_of_two_attempts_overlap() -> History:
    return replace(RETRIED, executions=(execution("e1", FIRST, 2, 6.5), RETRIED.executions[1]))


def a_loss_costs_an_attempt() -> History:
    return replace(
        KILLED,
        executions=(KILLED.executions[0], replace(KILLED.executions[1], attempt=2)),
        transitions=(*KILLED.transitions[:2], queued(FIRST, 13, attempt=1), *KILLED.transitions[3:]),
    )


def a_step_begins_before_its_dependency_is_committed() -> History:
    return replace(GOOD, transitions=(*GOOD.transitions[:2], ended(FIRST, 6.5, "e1"), *GOOD.transitions[3:]))


def a_step_begins_although_its_dependency_never_ran() -> History:
    return replace(GOOD, executions=GOOD.executions[1:], transitions=GOOD.transitions[3:])


def a_zombie_completes_the_task_of_its_heir() -> History:
    zombie = replace(KILLED.executions[0], ended=at(14.5))
    return replace(
        KILLED,
        executions=(zombie, KILLED.executions[1]),
        transitions=(*KILLED.transitions[:4], ended(FIRST, 16, "e1", worker="b")),
    )


def a_zombie_fails_the_attempt_of_its_heir() -> History:
    zombie = replace(KILLED.executions[0], ended=at(14.5))
    return replace(
        KILLED,
        ends={RUN: FAILED},
        executions=(zombie, KILLED.executions[1]),
        transitions=(*KILLED.transitions[:4], ended(FIRST, 14.8, "e1", worker="b", status=FAILED)),
    )


def a_task_waits_too_long_after_a_kill() -> History:
    return replace(KILLED, faults=(replace(KILLED.faults[0], rerun_within=10),))


def a_task_never_runs_again_after_a_kill() -> History:
    return replace(KILLED, executions=KILLED.executions[:1], transitions=KILLED.transitions[:2])


def a_job_is_lost() -> History:
    return replace(JOBS, ends={"mail:7": "started"}, transitions=JOBS.transitions[:2])


def a_job_runs_twice_without_a_fault() -> History:
    again = execution("e2", JOBS.executions[0].key, 3.2, 3.5)
    return replace(JOBS, executions=(*JOBS.executions, again))


def a_worker_is_declared_lost_without_a_fault() -> History:
    return replace(SILENCED, faults=(Fault(name="cut claim", began=at(3), ended=at(20), silences=False),))


def a_worker_is_declared_lost_before_its_peers_had_waited() -> History:
    return replace(SILENCED, faults=(replace(SILENCED.faults[0], began=at(8)),))


def a_worker_is_declared_lost_long_after_the_fault() -> History:
    return replace(SILENCED, faults=(replace(SILENCED.faults[0], ended=at(7)),))


def a_task_runs_twice_while_the_beat_is_cut_and_its_worker_is_not_lost() -> History:
    return replace(SILENCED, lives=(replace(SILENCED.lives[0], lost=None), SILENCED.lives[1]))


def a_task_runs_twice_before_its_worker_is_declared_lost() -> History:
    return replace(SILENCED, lives=(replace(SILENCED.lives[0], lost=at(15)), SILENCED.lives[1]))


def a_lost_worker_begins_a_task() -> History:
    return replace(
        SILENCED,
        executions=(*SILENCED.executions, execution("e3", SECOND_STEP, 15, None)),
        transitions=(*SILENCED.transitions, replace(claimed(SECOND_STEP, 12.9), incarnation="a1")),
    )


def a_lost_worker_begins_a_job() -> History:
    lives = (
        Life(incarnation="a1", worker="a", serves="mail", born=at(-9), lost=at(-1)),
        Life(incarnation="a2", worker="a", serves="mail", born=at(2.5)),
    )
    return replace(JOBS, lives=lives)


BAD: list[tuple[Callable[[], History], Rule]] = [
    (an_acknowledged_run_is_gone, Rule.LOST),
    (a_run_never_ends, Rule.LOST),
    (a_completed_run_leaves_its_message, Rule.LOST),
    (a_completed_run_has_a_task_that_did_not, Rule.LOST),
    (a_run_that_was_not_started, Rule.UNEXPECTED),
    (a_step_that_is_not_defined, Rule.UNEXPECTED),
    (an_execution_without_a_claim, Rule.UNEXPECTED),
    (a_task_completes_twice, Rule.SINGLE_COMPLETION),
    (an_output_changes_after_the_completion, Rule.SINGLE_COMPLETION),
    (a_completed_task_is_queued_again, Rule.SINGLE_COMPLETION),
    (a_handler_runs_after_the_completion, Rule.SINGLE_COMPLETION),
    (a_task_completes_before_its_handler_ends, Rule.WORK_FIRST),
    (a_task_completes_although_its_handler_never_ended, Rule.WORK_FIRST),
    (a_task_completes_without_any_work, Rule.WORK_FIRST),
    (a_task_runs_twice_without_a_fault, Rule.UNEXPLAINED_DUPLICATE),
    (a_task_runs_twice_and_the_fault_hit_another_worker, Rule.UNEXPLAINED_DUPLICATE),
    (a_task_runs_twice_and_the_fault_came_later, Rule.UNEXPLAINED_DUPLICATE),
    (two_executions_of_two_attempts_overlap, Rule.UNEXPLAINED_DUPLICATE),
    (a_loss_costs_an_attempt, Rule.CHARGED),
    (a_step_begins_before_its_dependency_is_committed, Rule.ORDER),
    (a_step_begins_although_its_dependency_never_ran, Rule.ORDER),
    (a_zombie_completes_the_task_of_its_heir, Rule.FENCE),
    (a_zombie_fails_the_attempt_of_its_heir, Rule.FENCE),
    (a_task_waits_too_long_after_a_kill, Rule.BOUND),
    (a_task_never_runs_again_after_a_kill, Rule.BOUND),
    (a_worker_is_declared_lost_without_a_fault, Rule.FALSE_DEATH),
    (a_worker_is_declared_lost_before_its_peers_had_waited, Rule.FALSE_DEATH),
    (a_worker_is_declared_lost_long_after_the_fault, Rule.FALSE_DEATH),
    (a_task_runs_twice_while_the_beat_is_cut_and_its_worker_is_not_lost, Rule.UNEXPLAINED_DUPLICATE),
    (a_task_runs_twice_before_its_worker_is_declared_lost, Rule.UNEXPLAINED_DUPLICATE),
    (a_lost_worker_begins_a_task, Rule.LOST_WORKER),
    (a_lost_worker_begins_a_job, Rule.LOST_WORKER),
    (a_job_is_lost, Rule.LOST),
    (a_job_runs_twice_without_a_fault, Rule.UNEXPLAINED_DUPLICATE),
]


@pytest.mark.parametrize(("history", "rule"), BAD, ids=[make.__name__ for make, _ in BAD])
def test_bad_histories_are_found(history: Callable[[], History], rule: Rule) -> None:
    assert rule in {violation.rule for violation in check(history())}


def test_every_rule_has_a_bad_history() -> None:
    assert {rule for _, rule in BAD} == set(Rule)
