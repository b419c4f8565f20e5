"""What is legal in a flow today, yet worth a warning."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from flowworker.definition.slugs import can_notify, slug_advice
from flowworker.definition.step import AnyStep


def advice_for(flow_slug: str, steps: Iterable[AnyStep]) -> list[str]:
    """One sentence per piece of advice."""
    given = list(steps)
    found = [
        f"slug {slug!r}: {hint}" for slug in (flow_slug, *(step.slug for step in given)) if (hint := slug_advice(slug))
    ]
    if not can_notify(flow_slug):
        found.append(
            f"slug {flow_slug!r}: pgmq never notifies for a queue with capitals, which pgflow before 0.17 gives it; "
            "workers will poll"
        )
    return [*found, *_alike(given), *_misspelt(given)]


def _alike(steps: Sequence[AnyStep]) -> list[str]:
    seen: dict[str, str] = {}
    found: list[str] = []
    for step in steps:
        other = seen.setdefault(step.slug.lower(), step.slug)
        if other != step.slug:
            found.append(f"steps {other!r} and {step.slug!r}: pgflow 0.17 refuses slugs that differ only in case")
    return found


def _misspelt(steps: Sequence[AnyStep]) -> list[str]:
    """A misspelt step name is taken for the run's input, and nothing else can notice it."""
    slugs = [step.slug for step in steps]
    return [
        f"step {step.slug!r}: parameter {name!r} takes the run's input; if step {close[0]!r} was meant, rename it"
        for step in steps
        if step.handler.run_input is not None
        for name in (step.handler.run_input.name,)
        if (close := get_close_matches(name, slugs, n=1, cutoff=0.75))
    ]
