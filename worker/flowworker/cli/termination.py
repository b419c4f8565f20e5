"""Leaving the reason of the end where Kubernetes looks for it."""

import logging
from pathlib import Path

from flowworker.redaction import redact

logger = logging.getLogger(__name__)

REASON_LIMIT = 2048
"""Characters; what Kubernetes keeps of a termination message."""


def leave_reason(path: Path, reason: str) -> None:
    """Write the reason, without secrets, to a file that exists already; a file that does not is left alone."""
    if not path.exists():
        return
    try:
        path.write_text(redact(reason, limit=REASON_LIMIT) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("cannot write the termination message to %s: %s", path, error)
