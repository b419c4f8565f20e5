"""A way from the test to a port inside the cluster: `kubectl port-forward`, started anew when it has ended."""

import asyncio
import re
from dataclasses import dataclass, field

from testkit.support.programs import Programs

STARTED = re.compile(rb"Forwarding from 127\.0\.0\.1:(\d+)")
START_TIMEOUT = 15.0


@dataclass(slots=True)
class Forward:
    """Forwards a free local port to a Service for as long as it is needed."""

    programs: Programs
    namespace: str
    service: str
    port: int
    _process: asyncio.subprocess.Process | None = None
    _local: int = 0
    _reader: asyncio.Task[bytes] | None = None
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def open(self) -> int:
        """The local port; kubectl ends when the pod behind it does, and is then started for the next one."""
        async with self._alone:
            if self._process is None or self._process.returncode is not None:
                await self._start()
            return self._local

    async def close(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _start(self) -> None:
        target = (f"service/{self.service}", f":{self.port}")
        process = await asyncio.create_subprocess_exec(
            *(self.programs.kubectl_path, "--namespace", self.namespace, "port-forward", "--address", "127.0.0.1"),
            *target,
            env=self.programs.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        found = STARTED.search(line)
        if found is None:
            if process.returncode is None:
                process.kill()
            await process.wait()
            raise ConnectionRefusedError(f"no way to port {self.port} of {self.service} in {self.namespace} now")
        self._process, self._local = process, int(found[1])
        # It reports every connection; a full pipe would stop it.
        self._reader = asyncio.create_task(process.stdout.read())
