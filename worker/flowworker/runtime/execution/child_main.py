"""The main program of a child process: runs handlers one at a time for the worker that started it.

Standard input and output are the wire to the worker; before any user code runs they are moved away, so that what a
handler prints goes to standard error. When the worker dies the wire closes, and the child ends even within a handler.
"""

import os
import queue
import sys
import threading
import time
from typing import BinaryIO, assert_never

from flowworker.database.records import Failed
from flowworker.definition.child import find_handler, run_reference
from flowworker.runtime.execution.failures import describe_failure
from flowworker.runtime.execution.frames import LENGTH, Answer, Greeting, Prepare, Request, pack, unpack


def main() -> None:
    """Answer requests until the worker closes the wire."""
    incoming, outgoing = _take_wire()
    greeting = _read(incoming)
    assert isinstance(greeting, Greeting)
    sys.path[:] = greeting.sys_path
    requests: queue.SimpleQueue[Prepare | Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, requests), daemon=True).start()
    while True:
        outgoing.write(pack(Answer(result=_answer(requests.get()))))
        outgoing.flush()


def _answer(request: Prepare | Request) -> bytes | Failed:
    began = time.monotonic()
    try:
        match request:
            case Prepare(reference=reference):
                find_handler(reference)
                return b""
            case Request():
                return run_reference(request.reference, request.input, request.flow_input, request.context)
            case _:
                assert_never(request)
    except BaseException as error:  # noqa: BLE001 - SystemExit ends the attempt; the child stays for the next one
        return describe_failure(error, duration=time.monotonic() - began)


def _listen(incoming: BinaryIO, requests: "queue.SimpleQueue[Prepare | Request]") -> None:
    while isinstance(frame := _read(incoming), Prepare | Request):
        requests.put(frame)
    os._exit(0)


def _read(incoming: BinaryIO) -> Greeting | Prepare | Request | None:
    """The next frame; None when the worker is gone."""
    head = incoming.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    body = incoming.read(length)
    return unpack(body) if len(body) == length else None


def _take_wire() -> tuple[BinaryIO, BinaryIO]:
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return incoming, outgoing


if __name__ == "__main__":
    main()
