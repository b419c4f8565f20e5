"""The HTTP probes of a worker process, served by threads of their own so that no handler can keep them from answering.

    /livez    200 while the pulse is alive, else 503
    /readyz   200 once started, verified and registered, else 503
    /metrics  Prometheus (or OpenMetrics, by the Accept header)
    /state    what the workers are doing, as JSON; only for this machine unless exposed

The callables given run in the server's threads: they must be safe there and must not wait for the event loop.
"""

import ipaddress
import logging
import socket
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NoReturn, TypeAlias
from urllib.parse import urlsplit

import orjson
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from flowworker.errors import UsageError
from flowworker.redaction.plain_values import plain

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT = 5.0
"""Seconds a client may take to send its request or read the answer."""

STOP_INTERVAL = 0.25
"""Seconds the server may need to notice that it should stop."""

TEXT = "text/plain; charset=utf-8"

PRIVATE = frozenset({"/state"})
"""What other machines do not get unless asked: it names runs and steps and contains the last error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answer to a health check."""

    ok: bool
    reason: str
    """One line: what is wrong, or that all is well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer."""

    status: HTTPStatus
    content_type: str
    body: bytes


Route: TypeAlias = Callable[[str], Answer]
"""From the value of the Accept header to the answer."""


class ProbeServer:
    """Serves the probes until stopped."""

    def __init__(
        self,
        *,
        port: int,
        live: Callable[[], Health],
        ready: Callable[[], Health],
        state: Callable[[], object],
        registry: CollectorRegistry,
        host: str | None = None,
        expose_state: bool = False,
    ) -> None:
        """Nothing is bound before `start`.

        Args:
            port: 0 picks a free one.
            live: whether the process should be left alone; False gets it restarted.
            ready: whether it does its work.
            state: any value; secrets in it are hidden, and what JSON cannot carry becomes text.
            registry: the metrics to show.
            host: address to listen on; None is every address, over IPv4 and IPv6.
            expose_state: answer `/state` to other machines, too.
        """
        self._private = frozenset[str]() if expose_state else PRIVATE
        self._address = (host, port)
        self._routes: dict[str, Route] = {
            "/livez": lambda _: _health(live()),
            "/readyz": lambda _: _health(ready()),
            "/metrics": lambda accept: _metrics(registry, accept),
            "/state": lambda _: _state(state()),
        }
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use; the one asked for while not started."""
        return self._address[1] if self._server is None else self._server.server_address[1]

    def start(self) -> None:
        """Bind and serve in a thread; the second call does nothing.

        Raises:
            UsageError: the address cannot be used.
        """
        if self._server is not None:
            return
        self._server = _bind(*self._address, self._routes, self._private)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_INTERVAL,), name="flowworker-probes", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and free the port; does nothing when not started. Takes at most STOP_INTERVAL."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()


def _health(health: Health) -> Answer:
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status=status, content_type=TEXT, body=health.reason.encode() + b"\n")


def _metrics(registry: CollectorRegistry, accept: str) -> Answer:
    encode, content_type = choose_encoder(accept)
    return Answer(status=HTTPStatus.OK, content_type=content_type, body=encode(registry))


def _state(state: object) -> Answer:
    body = orjson.dumps(plain(state))
    return Answer(status=HTTPStatus.OK, content_type="application/json", body=body)


def _is_local(address: str) -> bool:
    """Whether an address is this machine's own; through IPv6 an IPv4 address comes as one of the former."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _refused(path: str) -> Answer:
    body = f"{path} is answered to this machine only, for example through kubectl port-forward; see --expose-state\n"
    return Answer(status=HTTPStatus.FORBIDDEN, content_type=TEXT, body=body.encode())


def _answer(routes: dict[str, Route], path: str, accept: str) -> Answer:
    route = routes.get(path)
    if route is None:
        body = f"nothing here; there is {', '.join(routes)}\n".encode()
        return Answer(status=HTTPStatus.NOT_FOUND, content_type=TEXT, body=body)
    try:
        return route(accept)
    except Exception as error:
        logger.exception("the probe %s failed", path)
        body = f"{type(error).__name__} while answering {path}\n".encode()
        return Answer(status=HTTPStatus.INTERNAL_SERVER_ERROR, content_type=TEXT, body=body)


def _bind(host: str | None, port: int, routes: dict[str, Route], private: frozenset[str]) -> ThreadingHTTPServer:
    handler = type("ProbeHandler", (_Handler,), {"routes": routes, "private": private})
    try:
        return _server_class(host, port)((host or "", port), handler)
    except OSError as error:
        _refuse(host, port, error.strerror or str(error))


def _server_class(host: str | None, port: int) -> type[ThreadingHTTPServer]:
    if host is None:
        return _DualStackServer if socket.has_dualstack_ipv6() else _Server
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        _refuse(host, port, error.strerror or str(error))
    except UnicodeError:  # Python's own check, before anything is asked
        _refuse(host, port, "it is no name of a host")
    return _Server6 if family is socket.AF_INET6 else _Server


def _refuse(host: str | None, port: int, reason: str) -> NoReturn:
    place = f"port {port}" if host is None else f"{host} port {port}"
    raise UsageError(f"the probes cannot listen on {place}: {reason}. Choose another --probe-port or --probe-host.")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer's own would ask the name service for our host name, which can take seconds.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _DualStackServer(_Server6):
    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _Handler(BaseHTTPRequestHandler):
    routes: dict[str, Route]
    private: frozenset[str]
    server_version = "flowworker"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(REQUEST_TIMEOUT)

    def do_GET(self) -> None:
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        self._reply(with_body=False)

    def _reply(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        if path in self.private and not _is_local(self.client_address[0]):
            answer = _refused(path)
        else:
            answer = _answer(self.routes, path, self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Probes come every few seconds; they are not worth a line."""
