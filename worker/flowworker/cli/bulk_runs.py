"""Many runs on the command line: which ones, what would be done, a question, how far it has come, what came of it."""

import sys
from datetime import UTC, datetime

import typer

from flowworker.cli.options import actor_or_login
from flowworker.cli.output import Output, as_json, as_table, note, one_line, say, stamp
from flowworker.cli.runs_view import run_columns
from flowworker.client import Client
from flowworker.database.bulk import BulkAction, BulkPreview, BulkProgress, BulkResult
from flowworker.database.run_search import RunFilter
from flowworker.errors import UsageError

NOT_ALL_DONE = 1
"""Exit code when runs were refused, locked by others, or not wanted after all."""

SHOWN = 10
"""Refused runs that are named."""

DONE = {BulkAction.RETRY: "retried", BulkAction.CANCEL: "cancelled"}
FOUND = {BulkAction.RETRY: "failed", BulkAction.CANCEL: "under way"}


async def act_on_many(
    client: Client,
    action: BulkAction,
    which: RunFilter,
    *,
    reason: str | None,
    actor: str | None,
    dry_run: bool,
    yes: bool,
    timeout: float,
    output: Output,
) -> int:
    """Show what would be done, ask, and do it; gives the exit code.

    Raises:
        UsageError: there is no terminal to ask at, and `yes` is not given.
    """
    plan = await client.preview_runs(action, which, timeout=timeout)
    is_table = output is Output.TABLE
    if dry_run:
        say(preview_text(plan, datetime.now(UTC)) if is_table else as_json(plan))
        return 0
    (say if is_table else note)(preview_text(plan, datetime.now(UTC)))
    if plan.runs and not yes and not _agreed(plan):
        note("nothing was done")
        return NOT_ALL_DONE
    perform = client.retry_runs if action is BulkAction.RETRY else client.cancel_runs
    result = await perform(plan, reason=reason, actor=actor_or_login(actor), progress=show_progress, timeout=timeout)
    say(result_text(result) if is_table else as_json(result))
    return NOT_ALL_DONE if result.refused or result.locked else 0


def preview_text(plan: BulkPreview, now: datetime) -> str:
    """How many runs there are of each flow, and the newest of them."""
    flows = ", ".join(f"{count} of {flow}" for flow, count in plan.flows.items())
    lines = [f"{count_of(plan.runs)} {FOUND[plan.action]} to {plan.action}{f': {flows}' if flows else ''}"]
    if (request := plan.unfinished) is not None:
        lines.append(
            f"this goes on with request {request.request_id} of {stamp(request.requested_at)} by {request.actor}, "
            f"which was for {count_of(request.runs)}"
        )
    if plan.sample:
        lines += ["", as_table(run_columns(now), plan.sample)]
    if plan.runs > len(plan.sample):
        lines.append(f"and {plan.runs - len(plan.sample)} more")
    return "\n".join(lines)


def result_text(result: BulkResult) -> str:
    """What came of it."""
    if result.request_id is None:
        return "nothing to do"
    lines = [f"request {result.request_id}: {count_of(result.runs)} {DONE[result.action]}"]
    if result.refused:
        lines.append(f"refused: {count_of(len(result.refused))}")
        lines += [f"  {run.run_id}  {one_line(run.error)}" for run in result.refused[:SHOWN]]
    if result.locked:
        lines.append(f"locked by other transactions: {count_of(result.locked)}; repeat the command for them")
    return "\n".join(lines)


def count_of(runs: int) -> str:
    """So many runs."""
    return "1 run" if runs == 1 else f"{runs} runs"


def _agreed(plan: BulkPreview) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"add --yes to {plan.action} {count_of(plan.runs)}, or --dry-run to look at them only")
    return typer.confirm(f"{plan.action} {count_of(plan.runs)}?", err=True)


def show_progress(progress: BulkProgress) -> None:
    """One line for each batch."""
    note(f"request {progress.request_id}: {progress.done} of {progress.runs}")
