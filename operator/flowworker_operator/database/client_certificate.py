"""A client's certificate and its private key, as a tenant's Secret gives them, for the operator's own connections.

Python takes them from files alone: they get one that has no name and lies in memory, for as long as they are read. The
arithmetic of a handshake is done by the event loop, so the key is looked at first: with RSA a tenant chooses
numbers of any size. What OpenSSL is given is written anew from what was looked at.
"""

import base64
import binascii
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from flowworker.errors import UsageError

FIELD = "spec.database.clientCertificateRef"

LONGEST_CHAIN = 65_536
LONGEST_KEY = 8192
"""Characters in PEM; a key of RSA with 4096 bits has 3300."""
MOST_BITS = 4096
"""Of each number of a key of RSA; a signature then takes the event loop some milliseconds."""

_KEY = re.compile(r"-----BEGIN ((?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----([A-Za-z0-9+/=\s]*+)-----END \1-----")

_INTEGER, _OCTETS, _NAME, _SEQUENCE, _PARAMETERS = 0x02, 0x04, 0x06, 0x30, 0xA0
_RSA = bytes.fromhex("2a864886f70d010101")
_ELLIPTIC = bytes.fromhex("2a8648ce3d0201")
_ED25519 = bytes.fromhex("2b6570")
_CURVES = frozenset(bytes.fromhex(one) for one in ("2a8648ce3d030107", "2b81040022", "2b81040023"))
"""P-256, P-384 and P-521."""
_RSA_NUMBERS = 8
"""After the version, of a key with two primes."""

_Element = tuple[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCertificate:
    """What is shown to a server that asks who connects."""

    chain: str
    """In PEM, the client's own certificate first."""
    key: str = field(repr=False)
    """In PEM, without a passphrase."""

    def shown_by(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """The context, which from now on shows it.

        Raises:
            UsageError: it cannot be used; nothing of it is quoted.
        """
        if len(self.chain) > LONGEST_CHAIN:
            raise UsageError(f"{FIELD}: tls.crt has more than {LONGEST_CHAIN} characters")
        file = os.memfd_create("flowworker")
        try:
            os.write(file, f"{checked_key(self.key)}\n{self.chain}\n".encode())
            context.load_cert_chain(f"/proc/self/fd/{file}", password="")
        except ssl.SSLError as error:
            raise UsageError(f"{FIELD}: tls.crt and tls.key cannot be used: {_words(error)}") from None
        finally:
            os.close(file)
        return context


def checked_key(key: str) -> str:
    """The first private key of a text in PEM, and nothing else of it.

    Raises:
        UsageError: there is none, or it is none whose use takes little time.
    """
    if len(key) > LONGEST_KEY:
        raise UsageError(f"{FIELD}: tls.key has more than {LONGEST_KEY} characters")
    found = _KEY.search(key)
    if found is None:
        raise UsageError(f"{FIELD}: tls.key holds no private key in PEM")
    kind = found[1]
    if kind.startswith("ENCRYPTED"):
        raise UsageError(f"{FIELD}: tls.key has a passphrase, which the operator does not know: give it without")
    try:
        content = base64.b64decode("".join(found[2].split()), validate=True)
        usable = _is_usable(kind, content)
    except (binascii.Error, ValueError, IndexError):
        raise UsageError(f"{FIELD}: tls.key is broken") from None
    if not usable:
        raise UsageError(
            f"{FIELD}: tls.key is of a kind that the operator does not take: it takes RSA up to {MOST_BITS} bits, "
            "Ed25519, and the curves P-256, P-384 and P-521"
        )
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----"


def _is_usable(kind: str, content: bytes) -> bool:
    match kind:
        case "RSA PRIVATE KEY":
            return _is_small_rsa(content)
        case "EC PRIVATE KEY":
            return _is_known_curve(content, None)
        case _:
            _, (_, algorithm), (_, inner), *_ = _members(content)
            (_, name), *parameters = _elements(algorithm)
            if name == _RSA:
                return _is_small_rsa(inner)
            if name == _ELLIPTIC:
                return bool(parameters) and _is_known_curve(inner, parameters[0])
            return name == _ED25519


def _is_small_rsa(content: bytes) -> bool:
    (_, version), *numbers = _members(content)
    small = all(tag == _INTEGER and int.from_bytes(one).bit_length() <= MOST_BITS for tag, one in numbers)
    return version == b"\0" and len(numbers) == _RSA_NUMBERS and small


def _is_known_curve(content: bytes, curve: _Element | None) -> bool:
    """A curve may stand beside the key, in it, or both."""
    inside = [_elements(one)[0] for tag, one in _members(content) if tag == _PARAMETERS]
    curves = [*inside, *([] if curve is None else [curve])]
    return bool(curves) and all(tag == _NAME and one in _CURVES for tag, one in curves)


def _members(content: bytes) -> Sequence[_Element]:
    ((tag, inner),) = _elements(content)
    if tag != _SEQUENCE:
        raise ValueError("no sequence")
    return _elements(inner)


def _elements(content: bytes) -> Sequence[_Element]:
    """Tags and contents of elements in DER; lengths in any longer or open form are refused."""
    found: list[_Element] = []
    at = 0
    while at < len(content):
        tag, length, at = content[at], int.from_bytes(content[at + 1 : at + 2]), at + 2
        if length >= 0x80:
            size = length - 0x80
            length, at = int.from_bytes(content[at : at + size]), at + size
            if size not in (1, 2) or length < 0x80 or (size == 2 and length < 0x100):
                raise ValueError("a length that is not in DER")
        if tag & 0x1F == 0x1F or at + length > len(content):
            raise ValueError("a long tag, or a length beyond the end")
        found.append((tag, content[at : at + length]))
        at += length
    return found


def _words(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "they do not belong together"
    return (error.reason or "they are no PEM").replace("_", " ").lower()
