"""What each answer of an API server means; the shapes are those of Kubernetes 1.36."""

from typing import Any

import orjson
import pytest

from flowworker_operator.cluster.errors import (
    LONGEST_MESSAGE,
    AlreadyExists,
    Answer,
    ClusterError,
    Conflict,
    NotFound,
    Refused,
    Unavailable,
    error_of,
)


def refusal(status: int, *, retry_after: str | None = None, **said: Any) -> ClusterError:
    body = orjson.dumps({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, **said})
    return error_of(Answer(status=status, body=body, retry_after=retry_after), "PATCH /somewhere")


UNTYPED = "failed to create typed patch object (default/d1; apps/v1, Kind=Deployment): .spec.foo: field not declared"
OTHER_UID = {"causes": [{"reason": "FieldValueInvalid", "message": "field is immutable", "field": "metadata.uid"}]}


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (409, {"reason": "Conflict"}, Conflict),
        (409, {"reason": "AlreadyExists"}, AlreadyExists),
        (404, {"reason": "NotFound"}, NotFound),
        (400, {"reason": "BadRequest"}, Refused),
        (401, {"reason": "Unauthorized"}, Refused),
        (403, {"reason": "Forbidden"}, Refused),
        (410, {"reason": "Expired"}, Refused),
        (413, {"reason": "RequestEntityTooLarge"}, Refused),
        (422, {"reason": "Invalid"}, Refused),
        (422, {"reason": "Invalid", "details": OTHER_UID}, Conflict),
        (500, {"message": UNTYPED}, Refused),
        (500, {"message": "etcdserver: request timed out"}, Unavailable),
        (500, {"reason": "InternalError", "message": "failed calling webhook"}, Refused),
        (429, {"reason": "TooManyRequests"}, Unavailable),
        (408, {}, Unavailable),
        (503, {"reason": "ServiceUnavailable"}, Unavailable),
        (504, {"reason": "Timeout"}, Unavailable),
    ],
)
def test_each_answer_is_one_kind_of_error(status: int, said: dict[str, Any], kind: type[ClusterError]) -> None:
    error = refusal(status, **said)

    assert type(error) is kind
    assert error.status == status


def test_an_error_says_what_was_asked_and_what_was_answered() -> None:
    error = refusal(403, reason="Forbidden", message="pods is forbidden")

    assert str(error) == "PATCH /somewhere: pods is forbidden (403 Forbidden)"
    assert (error.reason, error.message, error.where) == ("Forbidden", "pods is forbidden", "PATCH /somewhere")


def test_causes_are_named_once() -> None:
    causes = [
        {"field": "spec.a", "message": "Required value"},
        {"field": "spec.b", "message": "Too long"},
        {"field": "spec.b", "message": "Too long"},
    ]
    error = refusal(422, reason="Invalid", message="x is invalid: spec.a: Required value", details={"causes": causes})

    assert error.message == "x is invalid: spec.a: Required value; spec.b: Too long"


def test_a_message_that_quotes_an_object_keeps_both_ends() -> None:
    error = refusal(422, reason="Invalid", message=f"patch: Invalid value: {'x' * 100_000}: parsing time failed")

    assert len(error.message) < LONGEST_MESSAGE + 10
    assert error.message.startswith("patch: Invalid value")
    assert error.message.endswith("parsing time failed")


def test_a_secret_where_a_message_is_cut_is_not_shown_in_part() -> None:
    for before in range(960, 1010):
        text = "x" * before + " postgresql://app:hunter2-secret@db/app " + "word " * 2000
        assert "hunter" not in refusal(422, reason="Invalid", message=text).message


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [("7", {}, 7), (None, {"retryAfterSeconds": 3}, 3), (None, {}, None), ("Wed, 21 Oct 2026 07:28:00 GMT", {}, None)],
)
def test_a_server_that_wants_peace_says_for_how_long(
    header: str | None, details: dict[str, Any], seconds: float | None
) -> None:
    error = refusal(429, retry_after=header, reason="TooManyRequests", details=details)

    assert isinstance(error, Unavailable)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("body", "message", "reason"),
    [
        (b"404 page not found\n", "404 page not found", "NotFound"),
        (b"", "no explanation", "NotFound"),
        (b"[1]", "[1]", "NotFound"),
        (b"\xff", "\ufffd", "NotFound"),
    ],
)
def test_an_answer_in_other_words_is_understood_too(body: bytes, message: str, reason: str) -> None:
    error = error_of(Answer(status=404, body=body), "GET /nowhere")

    assert (error.message, error.reason) == (message, reason)


@pytest.mark.parametrize(("details", "named"), [({"name": "web", "kind": "pods"}, True), ({}, False)])
def test_a_missing_object_is_distinguished_from_a_missing_kind(details: dict[str, Any], named: bool) -> None:
    error = refusal(404, reason="NotFound", details=details)

    assert isinstance(error, NotFound)
    assert error.named == named


def test_a_status_without_a_name_is_an_error_all_the_same() -> None:
    assert refusal(599).reason == "Unknown"
