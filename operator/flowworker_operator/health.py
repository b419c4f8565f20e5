"""Health and metrics over HTTP.

    /livez    200 while rounds get done and watches deliver, else 503: only a new process would help
    /readyz   200 once what can be read was read and is watched, else 503; names what is refused
    /metrics  Prometheus (or OpenMetrics, by the Accept header)

Served by the event loop that does the work: when it does not turn any more there is no answer, which is the right one.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from flowworker.errors import UsageError

STUCK_AFTER = 180.0
"""Seconds that a round may run: one that is cut short ends well before."""
BLIND_AFTER = 300.0
"""Seconds in which every re-list found changes that no watch had delivered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    """What health is judged by."""

    stuck_for: float
    """Seconds that the longest of the rounds which run has taken."""
    blind_for: float
    """Seconds for which re-lists have found changes that no watch delivered."""
    unwatched_for: float
    """Seconds since which a watch of something that can be read has not begun."""
    watching: bool
    """Whether all that can be read is watched."""
    synced: bool
    """Whether everything was asked for at least once."""
    able: bool
    """Whether there is a namespace to serve."""
    barred: tuple[str, ...] = ()
    """What cannot be read and is not served, each in a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answer to a health check."""

    ok: bool
    reason: str
    """What is wrong, or that all is well, and what is not served."""


def live(pulse: Pulse) -> Health:
    """Whether the process should be left alone."""
    if pulse.stuck_for > STUCK_AFTER:
        return Health(ok=False, reason=f"a round has not ended for {pulse.stuck_for:.0f} s")
    if pulse.blind_for > BLIND_AFTER:
        return Health(ok=False, reason=f"the watches have delivered nothing for {pulse.blind_for:.0f} s")
    if pulse.unwatched_for > BLIND_AFTER:
        return Health(ok=False, reason=f"a watch has not begun for {pulse.unwatched_for:.0f} s")
    return Health(ok=True, reason="alive")


def ready(pulse: Pulse) -> Health:
    """Whether the process knows the cluster, or the parts of it that it may know."""
    if not pulse.synced:
        return Health(ok=False, reason="the cluster has not been read yet")
    if not pulse.able:
        return Health(ok=False, reason="\n".join(("nothing can be served", *pulse.barred)))
    if not pulse.watching:
        return Health(ok=False, reason="the watches do not run")
    return Health(ok=True, reason="\n".join(("ready", *pulse.barred)))


class HealthServer:
    """Serves the endpoints until stopped."""

    def __init__(self, *, port: int, pulse: Callable[[], Pulse], registry: CollectorRegistry) -> None:
        """Nothing is bound before `start`; port 0 picks a free one."""
        self._asked = port

        async def livez(_: web.Request) -> web.Response:
            return _answer(live(pulse()))

        async def readyz(_: web.Request) -> web.Response:
            return _answer(ready(pulse()))

        async def metrics(request: web.Request) -> web.Response:
            return _metrics(registry, request)

        application = web.Application()
        application.router.add_get("/livez", livez)
        application.router.add_get("/readyz", readyz)
        application.router.add_get("/metrics", metrics)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)

    @property
    def port(self) -> int:
        """The port in use; the one asked for while not started."""
        addresses = self._runner.addresses
        return addresses[0][1] if addresses else self._asked

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            UsageError: the port cannot be used.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, port=self._asked).start()
        except OSError as error:
            await self.stop()
            raise UsageError(f"cannot listen on port {self._asked}: {error.strerror or error}") from error

    async def stop(self) -> None:
        """Stop serving; does nothing when not started."""
        with suppress(RuntimeError):
            await self._runner.cleanup()


def _answer(health: Health) -> web.Response:
    return web.Response(status=200 if health.ok else 503, text=health.reason + "\n")


def _metrics(registry: CollectorRegistry, request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(registry), headers={"Content-Type": content_type})
