"""The main program of a child process: runs handlers one at a time for the worker that started it.

Standard input and output are the wire to the worker; before any user code runs they are moved away, so that what a
handler prints goes to standard error. When the worker dies the wire closes, and the child ends even within a handler,
with everything it started. Stop signals are the worker's affair: here they have no effect.
"""

from flowworker.stop_signals import copies_begin_afresh, outlast_stop_signals

outlast_stop_signals()  # importing the rest takes a while

import os
import queue
import select
import sys
import threading
import time
from typing import BinaryIO, assert_never

from flowworker.database.records import Failed
from flowworker.definition.child import find_handler, run_reference
from flowworker.redaction import adopt
from flowworker.runtime.execution.failures import describe_failure
from flowworker.runtime.execution.families import kill_family
from flowworker.runtime.execution.forks import NoCopyReturns
from flowworker.runtime.execution.frames import LENGTH, Answer, Greeting, Prepare, Request, pack, unpack
from flowworker.runtime.malloc import IdleTrimmer, system_trim
from flowworker.telemetry.json_lines import running
from flowworker.telemetry.logs import LogForm, apply_form

PARENT_CHECK = 5.0
"""Seconds between two looks whether the worker lives. The wire says so at once, unless something that the worker forked
holds its other end open."""


def main() -> None:
    """Answer requests until the worker closes the wire."""
    incoming, outgoing = _take_wire()
    copies_begin_afresh(lambda: True, then=lambda: _leave_wire(incoming, outgoing))
    greeting = _read(incoming)
    if not isinstance(greeting, Greeting):
        return  # the worker has gone already
    sys.path[:] = greeting.sys_path
    adopt(greeting.discretion)
    _log(greeting.log_form)
    requests: queue.SimpleQueue[Prepare | Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    trimmer = IdleTrimmer(system_trim())
    while True:
        try:
            request = requests.get(timeout=trimmer.due_in)
        except queue.Empty:
            trimmer.give_back()
            continue
        result = _answer(request, greeting.log_form)
        outgoing.write(pack(Answer(result=result)))
        outgoing.flush()
        trimmer.count(_weight(request, result))
        del request, result  # the wait for the next one may be long


def _weight(request: Prepare | Request, result: bytes | Failed) -> int:
    """Bytes of payload that were handled."""
    output = len(result) if isinstance(result, bytes) else 0
    match request:
        case Prepare():
            return output
        case Request():
            return len(request.input) + len(request.flow_input or b"") + output
        case _:
            assert_never(request)


def _answer(request: Prepare | Request, log_form: LogForm | None) -> bytes | Failed:
    began = time.monotonic()
    try:
        match request:
            case Prepare(reference=reference):
                find_handler(reference)
                _log(log_form)  # the module may have configured logging, or imported structlog
                return b""
            case Request():
                return _run(request)
            case _:
                assert_never(request)
    except BaseException as error:  # noqa: BLE001 - SystemExit ends the attempt; the child stays for the next one
        return describe_failure(error, duration=time.monotonic() - began)


def _run(request: Request) -> bytes:
    """Run one handler; what it changes of the process's own state is gone for the next one."""
    outlast_stop_signals()  # the module or the last handler may have set handlers of its own
    folder, umask = _folder(), os.umask(0o022)
    os.umask(umask)
    token = running.set(request.ids)
    try:
        with NoCopyReturns():
            return run_reference(request.reference, request.input, request.flow_input, request.context)
    finally:
        running.reset(token)
        os.umask(umask)
        if folder is not None and folder != _folder():
            os.chdir(folder)


def _folder() -> str | None:
    """The current folder; None when it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _log(form: LogForm | None) -> None:
    if form is not None:
        apply_form(form)


def _listen(incoming: BinaryIO, requests: "queue.SimpleQueue[Prepare | Request]") -> None:
    worker = os.getppid()
    while _arrives(incoming, worker) and isinstance(frame := _read(incoming), Prepare | Request):
        requests.put(frame)
        del frame  # its input may be large
    kill_family(os.getpid())


def _arrives(incoming: BinaryIO, worker: int) -> bool:
    """Wait for the next frame, or the end of the wire; False when the worker is gone all the same."""
    poll = select.poll()
    poll.register(incoming, select.POLLIN)
    while not poll.poll(PARENT_CHECK * 1000):
        if os.getppid() != worker:
            return False
    return True


def _read(incoming: BinaryIO) -> Greeting | Prepare | Request | None:
    """The next frame; None when the worker is gone."""
    head = _exactly(incoming, LENGTH.size)
    if head is None:
        return None
    (length,) = LENGTH.unpack(head)
    body = _exactly(incoming, length)
    return None if body is None else unpack(body)


def _exactly(incoming: BinaryIO, size: int) -> bytes | None:
    """So many bytes of an unbuffered stream; None at its end."""
    chunks: list[bytes] = []
    while size > 0:
        chunk = incoming.read(min(size, 1 << 20))
        if not chunk:
            return None
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _leave_wire(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """A copy is no second party on the wire."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for end in (incoming, outgoing):
        os.dup2(nothing, end.fileno(), inheritable=False)  # not closed: the number would soon be another file's
    os.close(nothing)


def _take_wire() -> tuple[BinaryIO, BinaryIO]:
    incoming, outgoing = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return incoming, outgoing


if __name__ == "__main__":
    main()
