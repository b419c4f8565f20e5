"""What can go wrong between the operator and the API server.

ClusterError
├── Conflict        the object is not the one that was looked at: look again
├── AlreadyExists   another client created it first
├── NotFound        no such object, namespace or kind
├── Refused         the request is wrong or not allowed: asking again changes nothing
└── Unavailable     no answer, or not now: ask again later
    └── TooLarge    more than is read at once: ask for less
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar, cast

import orjson

from flowworker.errors import ExitCode, FlowWorkerError
from flowworker.redaction import redact

LONGEST_MESSAGE = 2000
"""Characters; some refusals quote the whole object before they come to the point."""

BLAMES_THE_REQUEST = ("failed to create typed patch object", "failed calling webhook")
"""Refused with status 500 although the server is well: a server-side apply with a wrong field, and a request that a
webhook which does not answer would have to admit. Other requests go through."""


class ClusterError(FlowWorkerError):
    """A request to the API server failed."""

    def __init__(self, status: int, reason: str, message: str, *, where: str = "") -> None:
        """Describe the failure.

        Args:
            status: of HTTP; 0 where no server answered.
            reason: one word of the API's vocabulary, for example `Invalid`.
            message: in the server's words.
            where: the request.
        """
        self.status = status
        self.reason = reason
        self.message = message
        self.where = where
        said = f"{message} ({status} {reason})" if status else f"{message} ({reason})"
        super().__init__(f"{where}: {said}" if where else said)


class Conflict(ClusterError):  # noqa: N818 - an outcome to deal with, named as the API names it
    """A precondition does not hold, or another client wrote at the same time."""


class AlreadyExists(ClusterError):  # noqa: N818 - as above
    """An object of this name exists."""


class NotFound(ClusterError):  # noqa: N818 - as above
    """What was asked for does not exist."""

    def __init__(self, status: int, reason: str, message: str, *, where: str = "", named: bool = True) -> None:
        """Describe what is missing; `named` is False when the server does not even know the kind."""
        super().__init__(status, reason, message, where=where)
        self.named = named


class Refused(ClusterError):  # noqa: N818 - as above
    """Invalid, forbidden, beyond a quota, or by the wrong user; the message is fit for a condition."""

    exit_code: ClassVar[ExitCode] = ExitCode.ACCESS

    def __init__(self, status: int, reason: str, message: str, *, where: str = "", go_on: str = "") -> None:
        """Describe the refusal; `go_on` continues a list whose pages were of a version that the server has let go."""
        super().__init__(status, reason, message, where=where)
        self.go_on = go_on


class Unavailable(ClusterError):  # noqa: N818 - as above
    """No answer in time, too many requests, or a fault of the server."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNAVAILABLE

    def __init__(
        self, status: int, reason: str, message: str, *, where: str = "", retry_after: float | None = None
    ) -> None:
        """Describe the failure; `retry_after` is the wait in seconds that the server asked for."""
        super().__init__(status, reason, message, where=where)
        self.retry_after = retry_after


class TooLarge(Unavailable):
    """An answer has more bytes than are read at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response that is no success."""

    status: int
    body: bytes
    retry_after: str | None = None
    """The header, as it is."""


def error_of(answer: Answer, where: str) -> ClusterError:
    """The error that an answer means."""
    stated = _status_object(answer.body)
    status, reason = answer.status, str(stated.get("reason") or "") or _phrase(answer.status)
    message = _message(stated, answer.body)
    if status == HTTPStatus.CONFLICT:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(status, reason, message, where=where)
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(status, reason, message, where=where, named=bool(_details(stated).get("name")))
    if _another_uid(status, stated):
        return Conflict(status, reason, message, where=where)
    if _may_pass(status, message):
        return Unavailable(status, reason, message, where=where, retry_after=_retry_after(answer, stated))
    listed = cast("Mapping[str, Any]", stated.get("metadata") or {})
    return Refused(status, reason, message, where=where, go_on=str(listed.get("continue") or ""))


def _may_pass(status: int, message: str) -> bool:
    if status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT}:
        return True
    return status >= HTTPStatus.INTERNAL_SERVER_ERROR and not any(words in message for words in BLAMES_THE_REQUEST)


def _another_uid(status: int, stated: Mapping[str, Any]) -> bool:
    """Whether a patch was rejected as a change of the uid, which means that the object with its uid is gone."""
    return status == HTTPStatus.UNPROCESSABLE_ENTITY and any(
        cause.get("field") == "metadata.uid" for cause in _causes(stated)
    )


def _status_object(body: bytes) -> Mapping[str, Any]:
    """The `Status` in a body, empty if something else, a proxy for instance, answered."""
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return cast("Mapping[str, Any]", found) if isinstance(found, dict) else {}


def _message(stated: Mapping[str, Any], body: bytes) -> str:
    said = str(stated.get("message") or "") or body.decode(errors="replace").strip() or "no explanation"
    causes = (f"{cause.get('field') or 'request'}: {cause.get('message')}" for cause in _causes(stated))
    unsaid = [cause for cause in dict.fromkeys(causes) if cause not in said]
    return _shortened("; ".join((said, *unsaid)))


def _shortened(message: str) -> str:
    """Both ends: what it is about, and what is wrong with it."""
    if len(message) <= LONGEST_MESSAGE:
        return message
    half = LONGEST_MESSAGE // 2
    return f"{redact(message, limit=half)} {redact(message, limit=half, keep_end=True)}"


def _details(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", stated.get("details") or {})


def _causes(stated: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return cast("Sequence[Mapping[str, Any]]", _details(stated).get("causes") or ())


def _retry_after(answer: Answer, stated: Mapping[str, Any]) -> float | None:
    seconds = answer.retry_after or str(_details(stated).get("retryAfterSeconds") or "")
    return float(seconds) if seconds.isdecimal() else None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.replace(" ", "")
    except ValueError:
        return "Unknown"
