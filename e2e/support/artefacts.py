"""What a failed scenario leaves for the developer who has to find out why."""

import asyncio
import os
from pathlib import Path

from e2e.support.release import NAMESPACE, SELECTOR
from testkit.support.programs import Programs

FOLDER_VARIABLE = "FLOWWORKER_TEST_ARTEFACTS"
"""Directory that keeps them; unset: nothing is kept."""

WORKERS = "app.kubernetes.io/managed-by=flowworker-operator"
LINES = "--tail=5000"


async def keep(programs: Programs, namespace: str) -> None:
    """Write the state of a namespace and the logs of its workers and of the operator into files."""
    if not (chosen := os.environ.get(FOLDER_VARIABLE)):
        return
    folder = Path(chosen) / namespace
    folder.mkdir(parents=True, exist_ok=True)
    objects = "flowworkers,deployments,pods,poddisruptionbudgets,events"
    commands = {
        "objects.yaml": ("-n", namespace, "get", objects, "-o", "yaml"),
        "described.txt": ("-n", namespace, "describe", "flowworkers,pods"),
        "workers.log": ("-n", namespace, "logs", "-l", WORKERS, "--prefix", LINES),
        "operator.log": ("-n", NAMESPACE, "logs", "-l", SELECTOR, "--prefix", LINES),
        "operator-before.log": ("-n", NAMESPACE, "logs", "-l", SELECTOR, "--prefix", LINES, "--previous"),
        "operator.txt": ("-n", NAMESPACE, "describe", "pods"),
    }
    said = await asyncio.gather(*(_try(programs, command) for command in commands.values()))
    for name, text in zip(commands, said, strict=True):
        (folder / name).write_text(text)


async def _try(programs: Programs, command: tuple[str, ...]) -> str:
    try:
        return await programs.kubectl(*command)
    except (AssertionError, TimeoutError) as error:
        return str(error)
