"""Loggers whose lines no configuration of logging can silence.

`logging.config.dictConfig` disables every logger that it does not name, and a program that calls it, or
`logging.basicConfig(force=True)`, or `logging.disable`, means its own lines. A worker that goes silent with it cannot
be operated.
"""

import logging

NAMES = ("flowworker", "asyncio", "concurrent.futures", "py.warnings")
"""Ours, and those of exceptions and warnings that appear nowhere else."""


class SteadyLogger(logging.Logger):
    """A logger that is never disabled; its level counts, and nothing else."""

    @property
    def disabled(self) -> bool:
        """False, whatever it is set to."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Set nothing."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's name
        return level >= self.getEffectiveLevel()


def steady(handler: logging.Handler, level: str) -> None:
    """Give the loggers of NAMES a handler of their own, and keep those that exist below them from being disabled."""
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False
    for name, logger in logging.Logger.manager.loggerDict.items():
        if type(logger) is logging.Logger and name.startswith(NAMES):
            logger.__class__ = SteadyLogger
