"""An option of a flow that the database has otherwise than the code, in words that worker and operator share."""

from dataclasses import dataclass

REMEDY = "`flowworker flows compile --update-options` writes the code's"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionChange:
    """One option that differs."""

    step: str | None
    """None: the flow itself."""
    option: str
    code: int | None
    """None: a step inherits the flow's."""
    database: int | None

    def __str__(self) -> str:
        """In words."""
        place = "the flow" if self.step is None else f"step {self.step!r}"
        return f"{self.option} of {place} is {_said(self.code)} in the code, {_said(self.database)} in the database"


def _said(value: int | None) -> str:
    return "inherited" if value is None else str(value)
