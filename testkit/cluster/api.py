"""The few requests that the harness itself makes, as a small blocking client with plain dicts.

One connection per request: a daemon that is killed on purpose leaves no half-dead connection behind.
"""

import base64
import http.client
import json
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from testkit.cluster.errors import ApiError

TIMEOUT = 15.0
"""Seconds until an unanswered request fails."""

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
FIELD_MANAGER = "e2e"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Api:
    """An API server, as one user."""

    server: str
    context: ssl.SSLContext

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Self:
        """The user of a kubeconfig as `certificates` writes them."""
        document = json.loads(path.read_bytes())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]))
            pair.write(base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        return cls(cluster["server"], context)

    def get(self, path: str) -> Object:
        """An object or a list.

        Raises:
            ApiError: the server refused.
        """
        return self.request("GET", path)

    def find(self, path: str) -> Object | None:
        """An object, or None where there is none."""
        try:
            return self.request("GET", path)
        except ApiError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return None
            raise

    def create(self, path: str, manifest: Object) -> Object:
        """Create an object at the path of its collection."""
        return self.request("POST", path, manifest)

    def apply(self, path: str, manifest: Object) -> Object:
        """Create or change an object at its own path, by server-side apply."""
        return self.request("PATCH", f"{path}?fieldManager={FIELD_MANAGER}&force=true", manifest, APPLY)

    def delete(self, path: str) -> None:
        """Delete an object; one that is missing is deleted."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def request(
        self, method: str, path: str, body: Object | None = None, content_type: str = "application/json"
    ) -> Object:
        """Any request that is answered with JSON.

        Raises:
            ApiError: the server refused.
            OSError: the server cannot be reached.
        """
        status, answer = fetch(self.server + path, method, self.context, body, content_type)
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise _refusal(status, answer)
        return json.loads(answer)


def fetch(
    url: str,
    method: str = "GET",
    context: ssl.SSLContext | None = None,
    body: Object | bytes | None = None,
    content_type: str = "application/json",
) -> tuple[int, bytes]:
    """Status and body of the answer to one HTTP request; what is sent may be JSON already."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = (
        http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=TIMEOUT)
        if parts.scheme == "https"
        else http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
    )
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body)
        connection.request(method, target, payload, {"Content-Type": content_type, "Accept": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _refusal(status: int, answer: bytes) -> ApiError:
    """A path that the server does not know at all is answered with plain text."""
    try:
        document: Object = json.loads(answer)
    except ValueError:
        return ApiError(status, http.HTTPStatus(status).phrase, answer.decode(errors="replace").strip())
    return ApiError(status, document.get("reason", ""), document.get("message", ""))
