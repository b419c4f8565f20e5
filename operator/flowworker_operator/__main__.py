"""`python -m flowworker_operator`: the operator, configured by environment variables."""

import asyncio
import sys

from flowworker.stop_signals import end_at_sigterm

end_at_sigterm()  # importing the rest takes a second

import structlog

from flowworker.errors import ExitCode, FlowWorkerError
from flowworker.redaction import redact
from flowworker_operator.app import run
from flowworker_operator.logs import configure_logging
from flowworker_operator.settings import load_settings


def main() -> int:
    """Operate; the exit code is 0 after SIGTERM, else that of what went wrong."""
    try:
        settings = load_settings()
        configure_logging(level=settings.log_level, log_format=settings.log_format)
        return asyncio.run(run(settings))
    except FlowWorkerError as error:
        sys.stderr.write(redact(f"flowworker-operator: {error}\n"))
        return error.exit_code
    except Exception:  # noqa: BLE001 - last resort: log it and exit
        structlog.stdlib.get_logger(__name__).exception("the operator cannot go on")
        return ExitCode.INTERNAL


if __name__ == "__main__":
    sys.exit(main())
