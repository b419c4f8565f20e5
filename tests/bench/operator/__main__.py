"""`python -m tests.bench.operator`: measure the operator on a control plane and a PostgreSQL of its own."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import orjson
import typer
import yaml
from testkit.cluster.binaries import build
from testkit.cluster.control_plane import running
from testkit.cluster.programs import CONTROL_PLANE
from tests.bench.operator.promises import figures_of
from tests.bench.operator.scenarios import FULL, MOST_TENANTS, QUICK, SCENARIOS, Extent, Site
from tests.chaos.arena import new_arena
from tests.control_plane.conftest import DEFINITION

from flowworker.bench.processes import NO_BYTE_CODE
from flowworker.cli.bench import FIGURES
from flowworker.cli.output import Output, note, show


def main(
    only: Annotated[list[str] | None, typer.Option("--only", help=f"One of {', '.join(SCENARIOS)}.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few samples, a small crowd; the figures are rough.")] = False,
    output_directory: Annotated[Path | None, typer.Option("--output-directory", help="Write operator.json.")] = None,
) -> None:
    """Measure how soon the operator acts, and what it costs."""
    values = _measure(list(SCENARIOS) if only is None else only, QUICK if quick else FULL)
    figures = figures_of(values)
    if output_directory is not None:
        output_directory.mkdir(parents=True, exist_ok=True)
        report = {"figures": figures, "measurements": values, "processors": os.cpu_count(), "quick": quick}
        (output_directory / "operator.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    show(FIGURES, figures, Output.TABLE)


def _measure(chosen: Sequence[str], extent: Extent) -> dict[str, object]:
    programs = build(CONTROL_PLANE)
    values: dict[str, object] = {}
    with _byte_code(), ExitStack() as stack:
        began = time.monotonic()
        control_plane = stack.enter_context(running(programs))
        control_plane.install(yaml.safe_load(DEFINITION.read_text()))
        values["start"] = time.monotonic() - began
        site = Site(
            control_plane=control_plane, arena=stack.enter_context(new_arena(max_connections=str(MOST_TENANTS + 200)))
        )
        for name in chosen:
            note(f"{name}: load average {os.getloadavg()[0]:.1f}")
            values |= asyncio.run(SCENARIOS[name](site, extent))
    return values


@contextmanager
def _byte_code() -> Generator[None]:
    """Let all processes find byte code, as in an image: to compile at each start costs memory that stays."""
    with tempfile.TemporaryDirectory(prefix="flowworker-bench-") as folder:
        os.environ.pop(NO_BYTE_CODE, None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        subprocess.run([sys.executable, "-c", "import flowworker_operator.app"], check=True)
        yield


if __name__ == "__main__":
    typer.run(main)
