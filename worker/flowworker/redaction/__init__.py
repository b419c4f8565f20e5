"""Hiding secrets and private values in text that leaves the process: logs, reports, stored errors, messages.

Drivers, handlers and people put connection strings into error texts, and validators quote the value they refuse. All
such text passes through `redact`: what looks like a secret is hidden by its shape, what the process knows to be one by
its value, and what a message quotes of a payload unless `show_payloads` was asked for. In doubt it hides too much.
"""

from dataclasses import dataclass, field

from flowworker.redaction.known import remember, remember_whole, remembered, without_known
from flowworker.redaction.payloads import payloads_are_shown, show_payloads, without_payloads
from flowworker.redaction.shapes import HIDDEN, names_a_secret, without_secrets

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
    remember(*discretion.known)
    show_payloads(discretion.payloads_are_shown)


def redact(text: str, *, limit: int | None = None) -> str:
    """The text with secrets, and the values of payloads that messages quote, replaced by `***`.

    Args:
        text: anything; stays as it is when it holds nothing that looks like a secret.
        limit: most characters of the answer; a longer one ends with `…`. Cut after hiding, so that no half of a
            password survives.
    """
    hidden = without_secrets(without_known(text))
    if not payloads_are_shown():
        hidden = without_payloads(hidden)
    return hidden if limit is None or len(hidden) <= limit else hidden[: max(limit - 1, 0)] + "…"[:limit]
