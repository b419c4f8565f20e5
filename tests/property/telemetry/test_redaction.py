"""Laws of hiding secrets: whatever the password, it does not survive; what is no secret does."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flowworker.redaction import HIDDEN, redact

VISIBLE = st.characters(exclude_categories=("Z", "C"))
"""Anything that one can type without a space."""

PASSWORDS = st.text(VISIBLE, min_size=6).filter(lambda text: set(text) - set("*"))
PLAIN_WORDS = st.text(st.characters(categories=("Ll", "Lu", "Nd")), min_size=1, max_size=12)
SURROUNDINGS = st.lists(PLAIN_WORDS, max_size=5).map(" ".join)


def survives(password: str, hidden: str, *around: str) -> bool:
    """Whether the password is to be read in the text although nothing around it would spell it anyway."""
    assume(not any(password in text for text in around))
    return password in hidden


@given(before=SURROUNDINGS, user=PLAIN_WORDS, password=PASSWORDS, host=PLAIN_WORDS, after=SURROUNDINGS)
def test_the_password_of_a_uri_never_survives_even_unencoded(
    before: str, user: str, password: str, host: str, after: str
) -> None:
    hidden = redact(f"{before} postgresql://{user}:{password}@{host}/db {after}")
    assert not survives(password, hidden, before, user, host, after, "postgresql", HIDDEN)
    assert hidden == f"{before} postgresql://{user}:{HIDDEN}@{host}/db {after}"


@given(
    name=st.sampled_from(["password", "PASSWORD", "PGPASSWORD", "sslpassword", "passwd", "pwd", "secret", "api_key"]),
    separator=st.sampled_from(["=", " = ", ": ", "="]),
    password=PASSWORDS,
    after=SURROUNDINGS,
)
def test_the_value_of_a_name_that_means_a_secret_never_survives(
    name: str, separator: str, password: str, after: str
) -> None:
    assume(password[0] not in "'\"")
    hidden = redact(f"host=db {name}{separator}{password} {after}")
    shown = f"host=db {name}{separator}{HIDDEN}"
    assert hidden.rstrip() in {shown, f"{shown} {after}".rstrip()}
    if separator == "=":  # after a space a password may have several words
        assert hidden.endswith(after)


@given(password=st.text(min_size=6).filter(lambda text: set(text) - set("*")), quote=st.sampled_from("'\""))
def test_a_quoted_secret_never_survives_whatever_is_in_it(password: str, quote: str) -> None:
    escaped = password.replace("\\", "\\\\").replace(quote, "\\" + quote)
    hidden = redact(f"password={quote}{escaped}{quote} user=app")
    assert hidden == f"password={HIDDEN} user=app"


@given(text=st.text())
def test_hiding_twice_is_hiding_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(words=st.lists(PLAIN_WORDS))
def test_text_without_secrets_stays_as_it_is(words: list[str]) -> None:
    text = " ".join(words)
    assume("=" not in text and ":" not in text)
    assume(not {"bearer", "basic", "digest", "negotiate", "apikey"} & {word.lower() for word in words})
    assert redact(text) == text


@given(text=st.text(), limit=st.integers(0, 600))
def test_a_limit_is_never_exceeded_and_a_cut_is_marked(text: str, limit: int) -> None:
    hidden, short = redact(text), redact(text, limit=limit)
    assert len(short) <= limit
    assert short == hidden or limit == 0 or short.endswith("…")


@given(padding=st.integers(0, 520), password=st.text(st.sampled_from("abcdef"), min_size=8, max_size=40))
def test_a_cut_never_leaves_half_a_password(padding: int, password: str) -> None:
    short = redact("x" * padding + f" postgresql://app:{password}@db", limit=512)
    assert password[:4] not in short


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('password authentication failed for user "app"', None),
        ("https://example.com:8443/path", None),
        ("see https://example.com/a:b for more", None),
        ("postgresql://app@db/main", None),
        ("postgresql://app@db/main?password=abc&sslmode=require", "postgresql://app@db/main?password=***"),
        ("postgres://app:a@b@c/d:e@db:5432,db2/main", "postgres://app:***@db:5432,db2/main"),
        ("redis://:abc@cache", "redis://:***@cache"),
        ("postgresql://pw:abc@db/main", "postgresql://pw:***@db/main"),
        ('{"password": "a b", "user": "app"}', '{"password": ***, "user": "app"}'),
        ("password='not closed", "password=***"),
    ],
)
def test_examples(text: str, hidden: str | None) -> None:
    assert redact(text) == (text if hidden is None else hidden)


CANARY = "canary-4fQ9x"

SHAPES = {
    "quoted, with spaces": f"login failed: password='{CANARY} horse {CANARY}' user=app",
    "after a colon, with spaces": f"password: correct {CANARY} battery {CANARY}",
    "up to a semicolon": f"Server=db;Password=my {CANARY};User Id=app",
    "up to the next pair": f"password=correct {CANARY} user=app",
    "a quote that is not closed": f'{{"password": "correct {CANARY}',
    "an option and its value": f"psql --password {CANARY} --host db",
    "an option of more words": f"tool --api-key '{CANARY} {CANARY}'",
    "an option with equals": f"tool --client-secret={CANARY}",
    "a list of arguments": f"['tool', '--password', '{CANARY}']",
    "a list of bytes": f"[b'--password', b'{CANARY}']",
    "a tuple": f"('password', '{CANARY}')",
    "a tuple among others": f"[('user', 'app'), ('api_key', '{CANARY} {CANARY}')]",
    "a repr": f"Login(user='app', password='{CANARY}')",
    "a dataclass within a dict": f"{{'login': Login(secret_key='{CANARY}', port=1)}}",
    "JSON": f'{{"client_secret": "{CANARY}"}}',
    "JSON within JSON": f'{{"body": "{{\\"password\\": \\"a {CANARY}\\"}}"}}',
    "a pair of fields": f'{{"name": "DB_PASSWORD", "value": "{CANARY}"}}',
    "a pair of lines": f"- name: DB_PASSWORD\n  value: {CANARY}",
    "an encoded URI": f"next=postgresql%3A%2F%2Fapp%3A{CANARY}%40db%2Fmain",
    "a URI encoded twice": f"next=postgresql%253A%252F%252Fapp%253A{CANARY}%2540db",
    "an encoded pair": f"body=user%3Dapp%26password%3D{CANARY}",
    "a URI with a space in its password": f"postgresql://app:my {CANARY}@db/main",
    "bearer": f"Authorization: Bearer {CANARY}",
    "bearer alone": f"sent 'Bearer {CANARY}' to it",
    "basic": f"Proxy-Authorization: Basic {CANARY}==",
    "basic alone": f"curl -H Basic {CANARY}",
    "headers as tuples": f"[('Authorization', 'Bearer {CANARY}'), ('Accept', '*/*')]",
    "headers as bytes": f"{{b'authorization': b'Bearer {CANARY}'}}",
    "a header with another scheme": f"authorization: AWS4-HMAC-SHA256 Credential=A, Signature={CANARY}",
    "a cookie": f"Cookie: id=1; session={CANARY}",
    "x-api-key": f"x-api-key: {CANARY}",
    "a password file": f"db.example.com:5432:main:app:{CANARY}",
    "a password file with stars": f"line 3 is wrong: *:*:*:app:{CANARY}",
    "XML": f"<login><password>my {CANARY}</password></login>",
    "XML with a prefix": f"<wsse:Password Type='text'>{CANARY}</wsse:Password>",
    "XML as CDATA": f"<secret><![CDATA[<{CANARY}>]]></secret>",
    "XML attributes": f'<add key="password" value="{CANARY}"/>',
    "an attribute": f"<login password='{CANARY}'/>",
    "YAML": f"password:   {CANARY}",
    "a Ruby hash": f":password => '{CANARY}'",
    "an environment": f"AWS_SECRET_ACCESS_KEY={CANARY}",
    "an account key": f"DefaultEndpointsProtocol=https;AccountKey={CANARY};x",
    "a signed URL": f"https://blob/x?sv=1&sig={CANARY}&se=2",
    "a signed URL of AWS": f"https://s3/x?X-Amz-Signature={CANARY}",
    "a private key": f"-----BEGIN RSA PRIVATE KEY-----\n{CANARY}\n-----END RSA PRIVATE KEY-----",
    "a private key that was cut": f"-----BEGIN PRIVATE KEY-----\\n{CANARY}",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_secret_survives(shape: str) -> None:
    text = SHAPES[shape]
    assert CANARY in text
    hidden = redact(text)
    assert CANARY not in hidden
    assert HIDDEN in hidden


@pytest.mark.parametrize(
    "key",
    [
        "AKIA" + "Q" * 16,
        "ASIA" + "7Z" * 8,
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "xoxb-" + "12-ab" * 4,
        "AIza" + "a1" * 18,
        "sk_live_" + "a1" * 12,
        "sk-" + "a1" * 20,
        "npm_" + "a1" * 18,
        "hf_" + "a1" * 17,
        "hvs." + "a1" * 20,
        "SG." + "a1" * 8 + "." + "b2" * 8,
        "eyJ" + "hb" * 10 + "." + "eyJ" + "c3" * 10 + "." + "s1" * 10,
    ],
)
def test_a_key_of_a_cloud_is_found_without_a_name(key: str) -> None:
    assert redact(f"it was refused ({key}), try again") == f"it was refused ({HIDDEN}), try again"


INNOCENT = [
    'password authentication failed for user "app"',
    "the server asks for basic authentication",
    "invalid token at line 3",
    "Unexpected end of JSON input",
    "used 512 tokens, 12 keys in 3 partitions",
    "listening on 127.0.0.1:8080 and [2001:db8:1:2:3:4:5:6]:80",
    "2026-01-01T10:20:30.123Z took 00:00:01",
    'File "/app/flows.py", line 12, in work',
    "https://example.com/a%3Ab%2Fc?page=2#top",
    "<site><name>token ring</name></site>",
    "key=value, sort_key=name",
    "passing tests: 12, passed: 3",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit",
    [
        "://",
        "a://b:",
        "password=",
        "password='",
        '"',
        "password" + " " * 50,
        "x@:",
        "password: ",
        "password= ",
        "password= x ",
        "<password>",
        "name='password' ",
        "bearer ",
        "'password',",
        "--password ",
        "input_value=",
        "a:1:b:c:",
        "postgres://a:b ",
        "\\'",
        "cookie: ",
        "%3A%2F%2F",
        "-----BEGIN PRIVATE KEY-----",
        "eyJ",
        "secret_",
    ],
)
def test_a_hostile_text_takes_time_in_proportion_to_its_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        begin = time.thread_time()
        redact(text)
        return time.thread_time() - begin

    short = min(seconds(20_000) for _ in range(3))
    assert min(seconds(320_000) for _ in range(3)) < max(short, 0.005) * 100
