"""Which certificates of clients the operator takes from a tenant's Secret, and what it leaves behind: nothing."""

import base64
import os
import ssl
import subprocess
from pathlib import Path

import pytest
from testkit.support.tls import RSA, self_signed

from flowworker.errors import UsageError
from flowworker_operator.database.client_certificate import (
    LONGEST_CHAIN,
    LONGEST_KEY,
    ClientCertificate,
    checked_key,
)
from flowworker_operator.database.endpoint import parse_endpoint

DSN = "postgresql://u:p@db/app?sslmode=require"
KINDS = {
    "RSA": RSA,
    "P-256": ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "P-384": ("ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"),
    "P-521": ("ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"),
    "Ed25519": ("ed25519",),
}


def openssl(*arguments: str, given: str | None = None) -> str:
    return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True, text=True).stdout


def made(folder: Path, kind: str = "P-256") -> ClientCertificate:
    certificate, key = self_signed(folder, KINDS[kind])
    return ClientCertificate(chain=certificate.read_text(), key=key.read_text())


def refusal(client: ClientCertificate, dsn: str = DSN) -> str:
    with pytest.raises(UsageError) as caught:
        parse_endpoint(dsn, client=client)
    assert "spec.database.clientCertificateRef" in str(caught.value)
    assert not any(line in str(caught.value) for line in client.key.splitlines() if line)
    return str(caught.value)


def element(tag: int, content: bytes) -> bytes:
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag]) + (length if len(content) < 0x80 else bytes([0x80 + len(length)]) + length) + content


def rsa(*bits: int, version: int = 0) -> str:
    """A key of RSA whose numbers have so many bits; nothing else of it is right."""
    numbers = b"".join(element(0x02, b"\0" + (1 << bit - 1).to_bytes((bit + 7) // 8)) for bit in bits)
    return pem("RSA PRIVATE KEY", element(0x30, element(0x02, bytes([version])) + numbers))


def pem(kind: str, content: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{base64.encodebytes(content).decode()}-----END {kind}-----\n"


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_is_shown_and_leaves_no_file_behind(tmp_path: Path, kind: str) -> None:
    client = made(tmp_path, kind)
    before = os.listdir("/proc/self/fd")
    context = parse_endpoint(DSN, client=client).arguments().options["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert client.key.splitlines()[1] not in repr(client)


@pytest.mark.parametrize("kind", ["RSA", "P-256"])
def test_the_older_form_of_a_key_is_taken(tmp_path: Path, kind: str) -> None:
    client = made(tmp_path, kind)
    older = openssl("rsa" if kind == "RSA" else "ec", *(["-traditional"] if kind == "RSA" else []), given=client.key)
    assert "BEGIN PRIVATE KEY" not in older
    parse_endpoint(DSN, client=ClientCertificate(chain=client.chain, key=older))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert "belong together" in refusal(ClientCertificate(chain=made(one).chain, key=made(other).key))


@pytest.mark.parametrize(
    ("numbers", "version"),
    [
        ((4097, 17, 4096, 2048, 2048, 2048, 2048, 2048), 0),
        ((4096, 17, 8192, 2048, 2048, 2048, 2048, 2048), 0),
        ((2048, 17, 2048, 1024, 1024, 1024, 1024, 1024), 1),
        ((2048, 17, 2048), 0),
        ((2048,) * 9, 0),
    ],
)
def test_a_key_whose_use_would_keep_the_event_loop_is_refused(
    tmp_path: Path, numbers: tuple[int, ...], version: int
) -> None:
    chain = made(tmp_path, "RSA").chain
    assert "4096 bits" in refusal(ClientCertificate(chain=chain, key=rsa(*numbers, version=version)))


def test_a_key_that_brings_a_curve_of_its_own_is_refused(tmp_path: Path) -> None:
    own = openssl("ecparam", "-name", "prime256v1", "-genkey", "-param_enc", "explicit", "-noout")
    modern = openssl("pkcs8", "-topk8", "-nocrypt", given=own)
    for key in (own, modern):
        assert "curves" in refusal(ClientCertificate(chain=made(tmp_path).chain, key=key))


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    key = openssl("genpkey", "-algorithm", "x25519")
    assert "Ed25519" in refusal(ClientCertificate(chain=made(tmp_path).chain, key=key))


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    client = made(tmp_path)
    locked = openssl("pkcs8", "-topk8", "-passout", "pass:geheim", given=client.key)
    assert "passphrase" in refusal(ClientCertificate(chain=client.chain, key=locked))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x30", b"\x30\x80\x00\x00", b"\x30\x03\x02\x01\x00", b"\x30\x81\x01\x00", b"\x1f\x00", b"\x30\xff" * 90,
        b"\x30\x82\xff\xff\x02", b"\x02\x01\x00", b"\x30\x09\x02\x01\x01\x04\x00\xa0\x02\x30\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])
def test_what_is_no_key_is_refused(tmp_path: Path, kind: str, content: bytes) -> None:
    refusal(ClientCertificate(chain=made(tmp_path).chain, key=pem(kind, content)))


def test_what_is_too_long_or_no_text_of_a_key_is_refused(tmp_path: Path) -> None:
    client = made(tmp_path)
    assert "tls.key" in refusal(ClientCertificate(chain=client.chain, key=client.key + " " * LONGEST_KEY))
    assert "tls.crt" in refusal(ClientCertificate(chain=client.chain + " " * LONGEST_CHAIN, key=client.key))
    assert "tls.key" in refusal(ClientCertificate(chain=client.chain, key="nonsense"))
    assert "tls.crt" in refusal(ClientCertificate(chain="nonsense", key=client.key))


def test_of_the_text_of_a_key_only_the_key_reaches_openssl(tmp_path: Path) -> None:
    client = made(tmp_path)
    other = tmp_path / "more"
    other.mkdir()
    both = f"before\n{client.key}after\n{made(other).key}"
    assert "".join(checked_key(both).split()) == "".join(client.key.split())
    parse_endpoint(DSN, client=ClientCertificate(chain=client.chain, key=both))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
def test_a_certificate_without_sure_encryption_is_refused(tmp_path: Path, mode: str) -> None:
    assert f"it is {mode}" in refusal(made(tmp_path), f"postgresql://u:p@db/app?sslmode={mode}")


def test_another_certificate_is_another_endpoint_and_another_context(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    client = made(one)
    assert parse_endpoint(DSN, client=client) == parse_endpoint(DSN, client=client)
    assert parse_endpoint(DSN, client=client) != parse_endpoint(DSN, client=made(other))
    assert parse_endpoint(DSN, client=client) != parse_endpoint(DSN)
    shown, plain = (parse_endpoint(DSN, client=one).arguments().options["ssl"] for one in (client, None))
    assert shown is not plain


def test_the_parameters_of_a_connection_string_that_name_files_lead_to_the_field() -> None:
    for name in ("sslcert", "sslkey", "sslpassword"):
        with pytest.raises(UsageError, match=rf"holds {name}, .*clientCertificateRef"):
            parse_endpoint(f"{DSN}&{name}=/etc/passwd")
