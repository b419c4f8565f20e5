"""kubectl and helm, run as a user runs them."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testkit.support.kube import Object

DEADLINE = 60.0
"""Seconds for one command."""


class ProgramError(AssertionError):
    """A program ended with an error.

    Attributes:
        said: everything that it has printed.
    """

    def __init__(self, command: Sequence[str], code: int, said: str) -> None:
        """Keep what it has said, and show all."""
        self.said = said
        super().__init__(f"{' '.join(command)} ended with {code}: {said}")


@dataclass(frozen=True, slots=True)
class Programs:
    """Commands against one cluster."""

    kubeconfig: Path
    kubectl_path: str = "kubectl"
    helm_path: str = "helm"

    async def kubectl(self, *arguments: str, stdin: Object | None = None, deadline: float = DEADLINE) -> str:
        """Run kubectl; gives what it prints, and fails with what it complains about."""
        text = None if stdin is None else json.dumps(stdin)
        return await self.run([self.kubectl_path, *arguments], stdin=text, deadline=deadline)

    async def helm(self, *arguments: str, deadline: float = DEADLINE) -> str:
        """Run helm; gives what it prints, and fails with what it complains about."""
        return await self.run([self.helm_path, *arguments], deadline=deadline)

    async def run(self, command: Sequence[str], *, stdin: str | None = None, deadline: float = DEADLINE) -> str:
        """Run any program with this cluster's kubeconfig; gives what it prints.

        Raises:
            ProgramError: it ended with an error.
            TimeoutError: it took longer than the deadline.
        """
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.environment,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(deadline):
                output, errors = await process.communicate(None if stdin is None else stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        said = output.decode(errors="replace")
        if process.returncode:
            raise ProgramError(command, process.returncode, said + errors.decode(errors="replace"))
        return said

    @property
    def environment(self) -> dict[str, str]:
        """Of every command."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
