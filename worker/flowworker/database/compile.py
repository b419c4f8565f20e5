"""Bring flows and queues into the database, or check that they are there as the code has them.

Creating is all that happens unasked: a flow of another shape is reported, never changed, and options that differ are
reported, and written only by `update_options`. pgflow's own `ensure_flow_compiled`
is not called even where it exists, because on a database that it takes for a development one it deletes the flow with
all its runs. The comparison and the creation are ours on every core, under the lock that pgflow's compilation takes.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import asyncpg

from flowworker.database.capabilities import Capabilities
from flowworker.database.connection import Connection, describe
from flowworker.database.grants import refuse_missing_functions
from flowworker.database.statements import load
from flowworker.definition.conditions import PLAIN, Conditions, Consequence, canonical
from flowworker.definition.flow import Flow
from flowworker.definition.options import FlowOptions, StepOptions
from flowworker.definition.queue import Queue
from flowworker.definition.shape import FlowShape, StepShape, differences, option_changes, shape_of
from flowworker.definition.slugs import slug_advice
from flowworker.definition.step import StepKind
from flowworker.errors import (
    DataError,
    MissingRightsError,
    ShapeMismatchError,
    UnknownFlowError,
    UnknownQueueError,
    UnsupportedSchemaError,
)
from flowworker.option_change import OptionChange
from flowworker.worker_options import CompileMode

REFUSALS = (asyncpg.IntegrityConstraintViolationError, asyncpg.PLPGSQLError)
"""What pgflow's constraints and functions raise about a definition."""


class Compiled(StrEnum):
    """What became of a flow or queue."""

    CREATED = "created"
    VERIFIED = "verified"
    UPDATED = "updated"
    """It was there, and has the code's options now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What became of a flow."""

    outcome: Compiled
    changes: Sequence[OptionChange] = ()
    """Options that differed; in force are the database's, unless the outcome is that they were updated."""


async def ensure_compiled(
    connection: Connection, flow: Flow, capabilities: Capabilities, *, mode: CompileMode = CompileMode.AUTO
) -> Compilation:
    """Make sure that a flow is in the database with the shape it has in code.

    Raises:
        ShapeMismatchError: it is there with another shape.
        UnknownFlowError: it is not there, and the mode is to verify.
        DataError: pgflow refuses it, as 0.17 does names that older cores take.
        MissingRightsError: it is not there, and the role may not create it, or may not even look.
        UnsupportedSchemaError: the database has no pgflow, or one that knows no conditions, which the flow has.
    """
    if not capabilities.pgflow:
        raise UnsupportedSchemaError("the database has no pgflow: run `flowworker db install` as its owner")
    refuse_missing_functions(
        capabilities.denied_functions, role=capabilities.role, schemas=("pgflow", "pgmq", "realtime")
    )
    code = shape_of(flow)
    _refuse_unknown_conditions(code, capabilities)
    try:
        if (found := await _agreeing(connection, code)) is not None:
            return _verified(code, found)
        if mode is CompileMode.VERIFY:
            raise UnknownFlowError(f"the database has no flow {code.slug!r}: create it with `flowworker flows compile`")
        if not capabilities.can_compile:
            raise _may_not_create(f"flow {code.slug!r}", "`flowworker flows compile`")
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(load("compile/lock"), code.slug)
            if (found := await _agreeing(connection, code)) is not None:
                return _verified(code, found)
            await _create(connection, code)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _missing_rights(error) from error
    except REFUSALS as error:
        raise _refused("create", code, error) from error
    return Compilation(outcome=Compiled.CREATED)


async def update_options(connection: Connection, flow: Flow) -> Compilation:
    """Give a flow that is in the database the options it has in code; attempts that are under way keep theirs.

    Raises:
        ShapeMismatchError: it has another shape there.
        UnknownFlowError: it is not there.
        MissingRightsError: the role may not change flows.
        DataError: pgflow refuses it; see `ensure_compiled`.
    """
    code = shape_of(flow)
    try:
        async with connection.transaction(isolation="read_committed"):
            await connection.execute(load("compile/lock"), code.slug)
            found = await _agreeing(connection, code)
            if found is None:
                raise UnknownFlowError(f"the database has no flow {code.slug!r}")
            verified = _verified(code, found)
            if verified.changes:
                await _write_options(connection, code)
    except asyncpg.InsufficientPrivilegeError as error:
        raise MissingRightsError(
            f"this role may not change the options of flow {code.slug!r}: run `flowworker flows compile "
            "--update-options` with the owner's connection"
        ) from error
    except REFUSALS as error:
        raise _refused("change", code, error) from error
    return replace(verified, outcome=Compiled.UPDATED) if verified.changes else verified


async def ensure_queue(
    connection: Connection, queue: Queue, capabilities: Capabilities, *, mode: CompileMode = CompileMode.AUTO
) -> Compiled:
    """Make sure that a plain pgmq queue exists.

    Raises:
        UnknownQueueError: it does not and the mode is to verify, or another queue would share its table, or it is the
            queue of a flow.
        MissingRightsError: it does not, and the role may not create it, or may not even look.
        UnsupportedSchemaError: the database has no pgmq.
    """
    name = queue.name
    if not capabilities.pgmq:
        raise UnsupportedSchemaError("the database has no pgmq: run `flowworker db install` as its owner")
    refuse_missing_functions(capabilities.denied_functions, role=capabilities.role, schemas=("pgmq",))
    try:
        await _refuse_queue_of_flow(connection, name, capabilities)
        if await _queue_exists(connection, name):
            return Compiled.VERIFIED
        if mode is CompileMode.VERIFY:
            raise UnknownQueueError(f"the database has no queue {name!r}: create it with SELECT pgmq.create('{name}')")
        if not capabilities.can_create_queue:
            raise _may_not_create(f"queue {name!r}", f"SELECT pgmq.create('{name}')")
        await connection.execute(load("compile/create_queue"), name)
    except asyncpg.InsufficientPrivilegeError as error:
        raise _missing_rights(error) from error
    return Compiled.CREATED


async def database_shape(connection: Connection, slug: str) -> FlowShape | None:
    """The shape a flow has in the database; None when there is no such flow.

    Raises:
        ShapeMismatchError: the flow has one queue per step, which no shape of ours can say.
    """
    rows = await connection.fetch(load("compile/flow"), slug)
    flow = next((row for row in rows if row["flow_slug"] == slug), None)
    if flow is None:
        return None
    if flow["queue_mode"] != "flow":
        raise ShapeMismatchError(slug, ["it has one queue per step in the database, one for all steps in the code"])
    steps = await connection.fetch(load("compile/shape"), slug)
    options = FlowOptions(
        max_attempts=flow["opt_max_attempts"], base_delay=flow["opt_base_delay"], timeout=flow["opt_timeout"]
    )
    return FlowShape(slug=slug, steps=tuple(_step_shape(step) for step in steps), options=options)


async def _agreeing(connection: Connection, code: FlowShape) -> FlowShape | None:
    """The flow in the database where it has the code's shape; None where it does not exist."""
    database = await database_shape(connection, code.slug)
    found = [] if database is None else differences(code, database)
    if found:
        raise ShapeMismatchError(code.slug, found)
    return database


def _verified(code: FlowShape, database: FlowShape) -> Compilation:
    return Compilation(outcome=Compiled.VERIFIED, changes=option_changes(code, database))


async def _write_options(connection: Connection, code: FlowShape) -> None:
    options = code.options
    await connection.execute(
        load("compile/update_flow"), code.slug, options.max_attempts, options.base_delay, options.timeout
    )
    for step in code.steps:
        options = step.options
        await connection.execute(
            load("compile/update_step"), code.slug, step.slug, options.max_attempts, options.base_delay,
            options.timeout, options.start_delay,
        )  # fmt: skip


async def _create(connection: Connection, code: FlowShape) -> None:
    for row in await connection.fetch(load("compile/flow"), code.slug):
        raise ShapeMismatchError(
            code.slug, [f"flow {row['flow_slug']!r} in the database differs only in case and would share its queue"]
        )
    for row in await connection.fetch(load("compile/queue"), code.slug):
        name = row["queue_name"]
        raise ShapeMismatchError(
            code.slug,
            [f"the database has a plain queue {name!r}, whose jobs would share its messages; a leftover without jobs "
             f"goes with SELECT pgmq.drop_queue('{name}')"],
        )  # fmt: skip
    options = code.options
    await connection.execute(
        load("compile/create_flow"), code.slug, options.max_attempts, options.base_delay, options.timeout
    )
    for step in code.steps:
        options, conditions = step.options, step.conditions
        plain = conditions == PLAIN
        await connection.execute(
            load("compile/add_step" if plain else "compile/add_conditional_step"),
            code.slug, step.slug, step.kind.value, list(step.dependencies),
            options.max_attempts, options.base_delay, options.timeout, options.start_delay,
            *(() if plain else _condition_arguments(conditions)),
        )  # fmt: skip


def _condition_arguments(conditions: Conditions) -> tuple[object, ...]:
    patterns = (None if text is None else text.encode() for text in (conditions.when, conditions.unless))
    return *patterns, conditions.when_unmet.value, conditions.when_exhausted.value


def _refuse_unknown_conditions(code: FlowShape, capabilities: Capabilities) -> None:
    conditional = [step.slug for step in code.steps if step.conditions != PLAIN]
    if conditional and not capabilities.skipping:
        raise UnsupportedSchemaError(
            f"flow {code.slug!r}: step {conditional[0]!r} has conditions, which pgflow knows from core 0.14 on; this "
            f"database has {capabilities.core}: upgrade it, or leave out when, unless and when_exhausted"
        )


async def _refuse_queue_of_flow(connection: Connection, name: str, capabilities: Capabilities) -> None:
    """A worker for jobs would archive the messages of the flow's tasks, and its runs would wait for ever."""
    if not capabilities.pgflow:
        return
    with suppress(asyncpg.InsufficientPrivilegeError):  # a role for queues alone may not look at flows
        for row in await connection.fetch(load("compile/flow_of_queue"), name):
            raise UnknownQueueError(
                f"queue {name!r} is the queue of flow {row['flow_slug']!r}, whose tasks a queue of jobs would take: "
                "give the queue another name"
            )


async def _queue_exists(connection: Connection, name: str) -> bool:
    found = [row["queue_name"] for row in await connection.fetch(load("compile/queue"), name)]
    if found and name not in found:
        raise UnknownQueueError(
            f"the database has no queue {name!r}, but {found[0]!r}, and both would share one table: use that name"
        )
    return bool(found)


def _step_shape(row: asyncpg.Record) -> StepShape:
    return StepShape(
        slug=row["step_slug"],
        kind=StepKind(row["step_type"]),
        dependencies=tuple(row["dependencies"]),
        options=StepOptions(
            max_attempts=row["opt_max_attempts"],
            base_delay=row["opt_base_delay"],
            timeout=row["opt_timeout"],
            start_delay=row["opt_start_delay"],
        ),
        conditions=Conditions(
            when=_pattern(row["required_input_pattern"]),
            unless=_pattern(row["forbidden_input_pattern"]),
            when_unmet=Consequence(row["when_unmet"]),
            when_exhausted=Consequence(row["when_exhausted"]),
        ),
    )


def _pattern(text: str | None) -> str | None:
    return None if text is None else canonical(text)


def _may_not_create(what: str, command: str) -> MissingRightsError:
    return MissingRightsError(
        f"the database has no {what}, and this role may not create it: run {command} with the owner's connection"
    )


def _refused(what: str, code: FlowShape, error: Exception) -> DataError:
    """Pgflow's message, after advice that says which name it means: a violated constraint names only itself."""
    slugs = (code.slug, *(step.slug for step in code.steps))
    names = [f"{slug!r}: {advice}" for slug in slugs if (advice := slug_advice(slug))]
    return DataError(f"pgflow refuses to {what} flow {code.slug!r}: {'; '.join([*names, describe(error)])}")


def _missing_rights(error: Exception) -> MissingRightsError:
    return MissingRightsError(
        f"the role lacks a right: {error}. Grant a worker's rights as the owner: `flowworker db install --role ROLE`"
    )
