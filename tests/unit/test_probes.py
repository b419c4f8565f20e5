"""The probes: status codes, content, and independence from everything else in the process."""

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, Counter

from flowworker import probes
from flowworker.errors import ExitCode, UsageError
from flowworker.probes import Health, ProbeServer

WELL = Health(ok=True, reason="all is well")
ILL = Health(ok=False, reason="the last heartbeat is 12 s old")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def fetch(
    server: ProbeServer, path: str, *, method: str = "GET", accept: str = "*/*", host: str = "127.0.0.1"
) -> Reply:
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", method=method, headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return Reply(reply.status, dict(reply.headers), reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers), error.read())


Serve = Callable[..., ProbeServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[ProbeServer] = []

    def make(
        *,
        live: Callable[[], Health] = lambda: WELL,
        ready: Callable[[], Health] = lambda: WELL,
        state: Callable[[], object] = dict,
        registry: CollectorRegistry | None = None,
        host: str | None = "127.0.0.1",
        port: int = 0,
    ) -> ProbeServer:
        server = ProbeServer(
            port=port, live=live, ready=ready, state=state, registry=registry or CollectorRegistry(), host=host
        )
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.stop()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
@pytest.mark.parametrize(("health", "status"), [(WELL, 200), (ILL, 503)])
def test_health_is_a_status_code_and_a_reason(path: str, health: Health, status: int, serve: Serve) -> None:
    reply = fetch(serve(live=lambda: health, ready=lambda: health), path)
    assert reply.status == status
    assert reply.body == health.reason.encode() + b"\n"


def test_live_and_ready_are_two_questions(serve: Serve) -> None:
    server = serve(live=lambda: WELL, ready=lambda: ILL)
    assert fetch(server, "/livez").status == 200
    assert fetch(server, "/readyz").status == 503


def test_metrics_are_those_of_the_registry_as_text_or_as_openmetrics(serve: Serve) -> None:
    registry = CollectorRegistry()
    Counter("eggs_total", "Eggs.", registry=registry).inc(3)
    server = serve(registry=registry)
    plain = fetch(server, "/metrics")
    assert b"eggs_total 3.0" in plain.body
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert fetch(server, "/metrics", accept="application/openmetrics-text; version=1.0.0").body.endswith(b"# EOF\n")


def test_state_is_json_whatever_it_holds(serve: Serve) -> None:
    @dataclass(frozen=True)
    class State:
        worker_id: UUID
        handle: object
        by_number: dict[int, str]

    server = serve(state=lambda: State(UUID(int=1), threading.Lock(), {1: "one"}))
    reply = fetch(server, "/state")
    assert reply.headers["Content-Type"] == "application/json"
    content = json.loads(reply.body)
    assert content["worker_id"] == str(UUID(int=1))
    assert content["by_number"] == {"1": "one"}
    assert "lock" in content["handle"]


def test_an_unknown_path_is_not_found_and_lists_what_is_there(serve: Serve) -> None:
    reply = fetch(serve(), "/healthz")
    assert reply.status == 404
    assert b"/livez, /readyz, /metrics, /state" in reply.body


def test_a_query_string_is_ignored(serve: Serve) -> None:
    assert fetch(serve(), "/livez?verbose=1").status == 200


def test_head_answers_without_a_body(serve: Serve) -> None:
    reply = fetch(serve(), "/livez", method="HEAD")
    assert (reply.status, reply.body) == (200, b"")


def test_other_methods_are_refused(serve: Serve) -> None:
    assert fetch(serve(), "/livez", method="POST").status == 501


def test_a_fault_in_one_answer_is_a_500_and_the_others_go_on(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> object:
        raise ValueError("postgres://u:hunter2@h/d")

    server = serve(state=broken)
    reply = fetch(server, "/state")
    assert reply.status == 500
    assert reply.body == b"ValueError while answering /state\n"
    assert "the probe /state failed" in caplog.text
    assert fetch(server, "/livez").status == 200


def test_a_blocked_main_thread_does_not_keep_the_probes_from_answering(serve: Serve) -> None:
    """The caller's thread waits in a lock here, as an event loop does that a handler blocks."""
    server, answered = serve(), threading.Event()

    def ask() -> None:
        if fetch(server, "/livez").status == 200:
            answered.set()

    thread = threading.Thread(target=ask)
    thread.start()
    assert answered.wait(timeout=10)
    thread.join()


def test_a_slow_answer_does_not_hold_up_the_next_asker(serve: Serve) -> None:
    gate = threading.Event()

    def slow() -> object:
        gate.wait(timeout=10)
        return {}

    server = serve(state=slow)
    thread = threading.Thread(target=fetch, args=(server, "/state"))
    thread.start()
    assert fetch(server, "/livez").status == 200
    gate.set()
    thread.join()


def test_a_silent_client_does_not_hold_up_the_next_asker_nor_the_stop(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "REQUEST_TIMEOUT", 3600)
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port)):
        assert fetch(server, "/livez").status == 200
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        stopping.join(timeout=30)
        assert not stopping.is_alive()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_without_a_host_both_ip_versions_are_served(serve: Serve) -> None:
    server = serve(host=None)
    assert fetch(server, "/livez", host="127.0.0.1").status == 200
    assert fetch(server, "/livez", host="[::1]").status == 200


def test_port_0_picks_a_free_port(serve: Serve) -> None:
    assert serve().port != serve().port


def test_a_port_in_use_is_an_error_that_says_what_to_do(serve: Serve) -> None:
    taken = serve().port
    with pytest.raises(
        UsageError, match=f"port {taken}: Address already in use. Choose another --probe-port"
    ) as caught:
        serve(port=taken)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_host_that_is_not_ours_is_an_error(serve: Serve) -> None:
    with pytest.raises(UsageError, match=r"the probes cannot listen on 192\.0\.2\.1 port \d+: "):
        serve(host="192.0.2.1")


def test_a_stopped_server_answers_no_client_and_its_port_is_free_again(serve: Serve) -> None:
    server = serve()
    port = server.port
    server.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=10)
    assert fetch(serve(port=port), "/livez").status == 200


def test_starting_twice_and_stopping_twice_are_harmless(serve: Serve) -> None:
    server = serve()
    port = server.port
    server.start()
    assert server.port == port
    server.stop()
    server.stop()


def test_stopping_before_the_start_is_harmless() -> None:
    ProbeServer(port=0, live=lambda: WELL, ready=lambda: WELL, state=dict, registry=CollectorRegistry()).stop()
