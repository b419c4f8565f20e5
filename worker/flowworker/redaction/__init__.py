"""Hiding secrets and private values in text that leaves the process: logs, reports, stored errors, messages.

Drivers, handlers and people put connection strings into error texts, and validators quote the value they refuse. All
such text passes through `redact`: what looks like a secret is hidden by its shape, what the process knows to be one by
its value, and what a message quotes of a payload unless `show_payloads` was asked for. In doubt it hides too much.
"""

from dataclasses import dataclass, field

from flowworker.redaction.cutting import Window, window_at_end, window_at_start
from flowworker.redaction.folding import folded
from flowworker.redaction.known import (
    keep,
    longest_known,
    remember,
    remember_whole,
    remembered,
    without_known,
)
from flowworker.redaction.payloads import payloads_are_shown, show_payloads, without_payloads
from flowworker.redaction.shapes import without_secrets
from flowworker.redaction.words import HIDDEN, names_a_secret

__all__ = ["HIDDEN", "Discretion", "adopt", "current_discretion", "names_a_secret", "payloads_are_shown", "redact",
           "remember", "remember_whole", "show_payloads"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Discretion:
    """What a process hides beyond the shapes that all hide; its child processes do the same."""

    known: tuple[str, ...] = field(repr=False)
    payloads_are_shown: bool


def current_discretion() -> Discretion:
    """What this process hides."""
    return Discretion(known=remembered(), payloads_are_shown=payloads_are_shown())


def adopt(discretion: Discretion) -> None:
    """Hide what another process hides."""
    keep(*discretion.known)
    show_payloads(discretion.payloads_are_shown)


def redact(text: str, *, limit: int | None = None, keep_end: bool = False) -> str:
    """The text with secrets, and the values of payloads that messages quote, replaced by `***`.

    Args:
        text: anything, of any length; stays as it is when it holds nothing that looks like a secret.
        limit: most characters of the answer, the cut marked by `…`. A long text is cut before anything is looked for,
            with a margin that is left out afterwards: so it costs no more than a short one, and no half of a secret
            stands at the cut.
        keep_end: of a text that is too long its end is kept, not its beginning.
    """
    if limit is None:
        return _hidden(text)
    margin = longest_known()
    window = window_at_end(text, limit, margin) if keep_end else window_at_start(text, limit, margin)
    return _shortened(window, _hidden(window.text), limit, keep_end=keep_end)


def _hidden(text: str) -> str:
    hidden = _hidden_as_written(text)
    seen = folded(hidden)
    if seen is hidden:
        return hidden
    found = _hidden_as_written(seen)
    return hidden if found == seen else found


def _hidden_as_written(text: str) -> str:
    hidden = without_secrets(without_known(text))
    return hidden if payloads_are_shown() else without_payloads(hidden)


def _shortened(window: Window, hidden: str, limit: int, *, keep_end: bool) -> str:
    sure = window.sure_of(hidden, HIDDEN)
    if not window.is_cut and len(hidden) <= limit:
        return hidden
    mark, length = "…"[:limit], max(min(limit - 1, sure), 0)
    return mark + hidden[len(hidden) - length :] if keep_end else hidden[:length] + mark
