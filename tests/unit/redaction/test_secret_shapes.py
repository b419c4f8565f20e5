"""Each way to write a secret that was once shown, and everyday texts that look alike and stay."""

import pytest

from flowworker.redaction import HIDDEN, redact

CANARY = "canary-4fQ9x"
LETTERS = "CanaryCanaryCanaryCanary4fQ9x"
CODE = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0" * 2

SHAPES = {
    "SQL: a role's password": f"ALTER ROLE app PASSWORD '{CANARY}'",
    "SQL: an encrypted password": f"ALTER ROLE app WITH ENCRYPTED PASSWORD '{CANARY}' VALID UNTIL 'infinity'",
    "SQL: a new user": f"CREATE USER app WITH LOGIN PASSWORD '{CANARY}'",
    "SQL: in small letters": f"create user app password '{CANARY}'",
    "SQL: identified by": f"CREATE USER app IDENTIFIED BY '{CANARY}'",
    "SQL: identified with a plugin": f"CREATE USER app IDENTIFIED WITH caching_sha2_password BY '{CANARY}'",
    "SQL: identified by a word": f"ALTER USER app IDENTIFIED BY {LETTERS};",
    "SQL: a function": f"SET PASSWORD FOR app = PASSWORD('{CANARY}')",
    "SQL: a doubled quote": f"ALTER ROLE app PASSWORD 'it''s {CANARY}'",
    "SQL: an escape string": f"ALTER ROLE app PASSWORD E'{CANARY}'",
    "SQL: dollars": f"ALTER ROLE app PASSWORD $x${CANARY}$x$",
    "SQL: a foreign server": f"CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'app', password '{CANARY}')",
    "SQL: quoted by a server": f"STATEMENT:  ALTER ROLE \"app\" PASSWORD '{CANARY}';",
    "a doubled quote after a name": f"password='it''s {CANARY}' user=app",
    "a URI with a token alone": f"cannot reach redis://{CANARY}@cache:6379/0",
    "a URI of a forge": f"fatal: unable to access 'https://{CANARY}@github.com/a/b.git/'",
    "a URI of a forge, encoded": f"next=https%3A%2F%2F{CANARY}%40github.com%2Fa",
    "a URI of a forge, encoded twice": f"next=https%253A%252F%252F{CANARY}%2540github.com",
    "a URI in a URI": f"https://example.com/?next=https://{CANARY}@github.com/a",
    "a URI of an error tracker": f"dial https://{LETTERS}@o1.ingest.example.com/1",
    "a broker": f"amqp://app:{CANARY}@broker/vhost",
    "a broker, alone": f"amqps://{CANARY}@broker/vhost",
    "a document store": f"mongodb+srv://app:{CANARY}@db.example.com/main",
    "Oracle over JDBC": f"jdbc:oracle:thin:scott/{CANARY}@db:1521/x",
    "sqlplus": f"sqlplus scott/{CANARY}@db",
    "a web hook": f"POST https://hooks.slack.com/services/T000/B000/{LETTERS} failed",
    "a bot's address": f"https://api.telegram.org/bot123:{LETTERS}/getMe",
    "a bot's token": f"the token 1234567890:AA{LETTERS}abcd of a bot",
    "a secret of an application": f"client abc8Q~{LETTERS}abcd was refused",
    "a signature at the start": f"sig={CODE}&se=2",
    "a signature, encoded": f"url%3Fsv%3D1%26sig%3D{CODE}",
    "curl -u": f"curl -u app:{CANARY} https://example.com",
    "curl -u, together": f"curl -sSf -uapp:{CANARY} https://example.com",
    "curl -u, quoted": f"curl -u 'app:my {CANARY}' https://example.com",
    "curl -u, digits": "curl -u app:40249024 https://example.com",
    "curl --user": f"curl --user app:{CANARY} https://example.com",
    "curl --proxy-user": f"curl --proxy-user=app:{CANARY} https://example.com",
    "curl as a list": f"Command '['curl', '-u', 'app:{CANARY}']' returned non-zero exit status 22.",
    "mysql -p": f"mysql -h db -uapp -p{CANARY} main",
    "mysql -p and a space": f"mysql -h db -p {CANARY}",
    "mysqldump as a list": f"Command '['mysqldump', '-p{CANARY}', 'main']' returned non-zero exit status 2.",
    "sshpass": f"sshpass -p {CANARY} ssh host",
    "docker login": f"docker login -u app -p {CANARY} registry.example.com",
    "redis-cli": f"redis-cli -h cache -a {CANARY} ping",
    "redis.conf": f"requirepass {CANARY}",
    "sqlcmd": f"sqlcmd -S db -U app -P {CANARY} -Q 'SELECT 1'",
    "ldapsearch": f"ldapsearch -x -D cn=app -w {CANARY}",
    "openssl": f"openssl rsa -in key.pem -passin pass:{CANARY}",
    "keytool": f"keytool -list -storepass {CANARY}",
    "a variable and a space": f"PGPASSWORD {CANARY}",
    "a variable and small letters": "PGPASSWORD hunter",
    "a line of a Dockerfile": f"ENV DB_PASSWORD {CANARY}",
    "a variable before a command": f"PGPASSWORD={CANARY} psql -h db",
    "a variable of the shell": f"set -x API_TOKEN {CANARY}",
    "netrc": f"machine example.com login app password {CANARY}",
    "netrc in lines": f"machine example.com\n  login app\n  password {CANARY}\n",
    "a name of two words": f"api key: {CANARY}",
    "a name of two words in a sentence": f"the access key = {CANARY} was refused",
    "pw": f"user=app pw={CANARY}",
    "pw in a name": f"db_pw: {CANARY}",
    "pwd": f"Server=db;Uid=app;Pwd={CANARY};",
    "a passphrase": f"passphrase: correct {CANARY} battery",
    "plural": f"passwords: ['a', '{CANARY}']",
    "camel case": f'{{"passwordValue": "{CANARY}"}}',
    "a key of a dict": f"environ['DB_PASSWORD'] = '{CANARY}'",
    "a field of a form": f"user[password]={CANARY}",
    "a field of a form, encoded": f"user%5Bpassword%5D={CANARY}",
    "an assertion": f"assert password == '{CANARY}'",
    "a sentence": f"the password is '{CANARY}'",
    "three quotes": f'password="""my {CANARY}"""',
    "backticks": f"password=`my {CANARY}`",
    "braces": f"PWD={{my {CANARY}}};Server=db",
    "an object": f'"credentials": {{"user": "app", "value": "{CANARY}"}}',
    "a key in German": f"Kennwort: {CANARY}",
    "the value before the name": f'{{"value": "{CANARY}", "name": "password"}}',
    "the value before the name, in Python": f"{{'value': 'my {CANARY}', 'name': 'DB_PASSWORD'}}",
    "the value before the name, in YAML": f"- value: {CANARY}\n  name: DB_PASSWORD",
    "the value before the name, in JSON in JSON": f'"{{\\"value\\": \\"{CANARY}\\", \\"name\\": \\"password\\"}}"',
    "a field between name and value": f'{{"name": "password", "type": "string", "value": "{CANARY}"}}',
    "a model": f"V1EnvVar(name='DB_PASSWORD', value='{CANARY}', value_from=None)",
    "a zero-width space in the name": f"pass\u200bword={CANARY}",
    "a soft hyphen in the name": f"pass\xadword: {CANARY}",
    "a mark of direction before the sign": f"password\u200e= {CANARY}",
    "a joiner in a scheme": f"postgres:\u2060//app:{CANARY}@db",
    "colours": f"\x1b[36mpassword\x1b[0m=\x1b[35m{CANARY}\x1b[0m",
    "wide letters": f"\uff50\uff41\uff53\uff53\uff57\uff4f\uff52\uff44={CANARY}",
    "a wide colon": f"password\uff1a{CANARY}",
    "a cookie that is set": f"Set-Cookie: session={CANARY}; Path=/; HttpOnly",
    "a cookie in a jar": f"<RequestsCookieJar[<Cookie session={CANARY} for example.com/>]>",
    "a session": f"GET /x;jsessionid={CANARY}",
    "a session of PHP": f"PHPSESSID={CANARY}",
    "an encrypted web token": f"got eyJ{LETTERS}.{LETTERS}.{LETTERS}.{LETTERS}.{LETTERS}!",
    "a PGP key": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{CANARY}\n-----END PGP PRIVATE KEY BLOCK-----",
    "a private key without its first line": f"{CODE}\n{LETTERS}\n-----END RSA PRIVATE KEY-----",
    "a key of PuTTY": f"Private-Lines: 2\n{CODE}\n{LETTERS}\nPrivate-MAC: 12",
    "a web key": f'{{"kty": "EC", "x": "abc", "d": "{LETTERS}"}}',
    "a registry's login": f'{{"auths": {{"r.example.com": {{"auth": "{LETTERS}="}}}}}}',
    "a registry's login in npm": f"//registry.example.com/:_auth={LETTERS}",
    "a token beside a word that is no password": f"https://{CANARY}:x-oauth-basic@github.com/a",
    "a token without a password": f"https://{CANARY}:@api.example.com",
    "mysql -p, quoted": f"mysql -p'my {CANARY}' main",
    "lines of YAML": f"data:\n  password: |\n    {CANARY}\n    {CANARY}\nother: 1",
    "folded lines of YAML": f"token: >-\n  {CANARY}",
    "a field in JSON, encoded": f"q=%7B%22password%22%3A%22{CANARY}%22%7D",
    "a blank, encoded": f"password%20=%20{CANARY}",
    "an attribute of a span": f'{{"key": "password", "stringValue": "{CANARY}"}}',
    "a sentence with a colon": f"the password is: {CANARY}",
    "an answer of an API": f"Incorrect API key provided: {CANARY}.",
    "an element with a name": f'<string name="password">my {CANARY}</string>',
    "elements of name and value": f"<property><name>db.password</name>\n<value>{CANARY}</value></property>",
    "XML as long CDATA": f"<password><![CDATA[{'x' * 5000}{CANARY}]]></password>",
    "XML as open CDATA": f"<password><![CDATA[{CANARY}",
    "a row without its end": f"Failing row contains (1, {CANARY}",
    "a key with a line in it": f"Key (name)=(a\n{CANARY}) already exists.",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_a_secret_survives(shape: str) -> None:
    text = SHAPES[shape]
    hidden = redact(text)
    assert HIDDEN in hidden
    assert [part for part in (CANARY, LETTERS, CODE, "40249024", "hunter") if part in hidden] == []


@pytest.mark.parametrize(
    "key",
    [
        "AKIA" + "Q7" * 8 + ":" + "wJ/7+" * 8,
        "AKIA" + "Q7" * 8 + ", " + "wJ/7+" * 8,
        "gldt-" + "a1" * 10,
        "glrt-" + "a1" * 10,
        "xapp-1-" + "A1" * 10,
        "whsec_" + "a1" * 16,
        "hvb." + "a1" * 20,
        "dckr_pat_" + "a1" * 13,
        "shpat_" + "a1" * 16,
        "dapi" + "a1" * 16,
        "glsa_" + "a1" * 16,
        "GOCSPX-" + "a1" * 14,
        "sb_secret_" + "a1" * 12,
        "npg_" + "a1" * 8,
        "key-" + "a1" * 16,
        "$2b$12$" + "a1" * 26,
        "$6$rounds=5000$" + "a1" * 20,
        "SCRAM-SHA-256$4096:" + "c2Fs" * 4 + "$" + "a1" * 20 + "=:" + "b2" * 20 + "=",
        "eyJhb-eyJhbGciOi.eyJzdWIiOiIx.c2ln",
    ],
)
def test_a_key_is_found_without_a_name(key: str) -> None:
    assert redact(f"it was refused ({key}), try again") == f"it was refused ({HIDDEN}), try again"


def test_a_list_of_variables_loses_only_the_values_of_secrets() -> None:
    text = (
        '[{"value": "5432", "name": "PGPORT"}, {"value": "hunter2", "name": "PGPASSWORD"}, {"value": "b", "name": "x"}]'
    )
    assert redact(text) == text.replace('"hunter2"', HIDDEN)


INNOCENT = [
    # log lines
    "task completed in 0.012s: flow=site_report step=fetch task_index=3",
    "worker started: max_concurrency=10 batch_size=10 signal_strategy=polling",
    "claimed 10 tasks in 0.004 s, 3 keys in 2 partitions",
    'GET /metrics HTTP/1.1" 200 5123 "-" "Prometheus/3.0.1"',
    '10.0.0.1 - - [01/Jan/2026:10:00:00 +0000] "GET / HTTP/1.1" 200',
    "listening on 127.0.0.1:8080 and [::]:8080",
    "used 512 tokens, max_tokens=1024",
    "PGPASSWORD is not set",
    "the variable DB_PASSWORD must be set",
    "API_TOKEN environment variable missing",
    "retrying in 1.5s: connection reset by peer",
    "Basic information about the run, Digest mismatch of layer 3",
    "the caller is identified by 'run_id'",
    "the task is identified by run_id and step_slug",
    "default login shell, machine learning model",
    "Signal SIGTERM received, sig=SIGTERM",
    # addresses and images
    "postgresql://app@db:5432/main?sslmode=require",
    "postgresql+asyncpg://app@db/main",
    "git clone ssh://git@github.com/a/b.git, git@github.com:a/b.git",
    "https://example.com/@user/post?x=1#frag",
    "https://packages.example.com/@scope/package",
    "write to team@example.com or see https://example.com/a",
    "pulled registry.example.com/app:1.4@sha256:" + "ab" * 32,
    "docker run -u 1000:1000 -p 8080:80 --name web nginx",
    "docker run --name mysql -p 3306:3306 mysql:8",
    "psql -U app -p 5432 -h db main",
    "python -u worker.py, sort -u, git push -u origin main",
    "mkdir -p /var/lib/mysql/data",
    # words of PostgreSQL
    'password authentication failed for user "app"',
    'no password was provided for user "app"',
    'null value in column "password" of relation "users" violates not-null constraint',
    'column "token" does not exist',
    'relation "pgmq.q_mail" does not exist',
    'syntax error at or near "PASSWORD"',
    "permission denied for table access_keys",
    'duplicate key value violates unique constraint "users_pkey"',
    'insert or update on table "a" violates foreign key constraint "a_b_fkey"',
    "canceling statement due to statement timeout",
    'role "password" does not exist',
    "SELECT id, name FROM users WHERE primary_key = 5 ORDER BY sort_key",
    "ALTER ROLE app PASSWORD NULL",
    # words of Kubernetes
    'MountVolume.SetUp failed for volume "database" : secret "postgres-app" not found',
    "couldn't find key uri in Secret default/postgres-app",
    'secrets "postgres-app" is forbidden: User "system:serviceaccount:a:b" cannot get resource "secrets"',
    'Back-off pulling image "registry.example.com/app:1.4"',
    '{"name": "PGPORT", "value": "5432"}, {"value": "db", "name": "PGHOST"}',
    # words of Python
    'Traceback (most recent call last):\n  File "/app/flows.py", line 12, in work\n    raise ValueError(text)\n'
    "ValueError: invalid literal for int() with base 10: 'abc'",
    "KeyError: 'name'",
    "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
    "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "SyntaxError: Unexpected token '}' in JSON at position 5",
    "AttributeError: 'NoneType' object has no attribute 'session'",
    "x = sorted(rows, key=lambda row: row.name)",
    "    for key, value in items.items():",
    "passing tests: 12, passed: 3, bypass=on, compass=north",
    "costs $5, or $1$ at most; ${HOME}/bin",
    "\x1b[32mok\x1b[0m 12 \U0001f468\u200d\U0001f469\u200d\U0001f467 \uff21",
    "<site><name>token ring</name></site>",
    '<string name="title">the token ring</string><name>db.port</name><value>5432</value>',
    "the password is wrong, the token was used, an API key is missing",
]


@pytest.mark.parametrize("text", INNOCENT)
def test_what_only_resembles_a_secret_stays(text: str) -> None:
    assert redact(text) == text
