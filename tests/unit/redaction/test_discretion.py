"""What one process hides its child processes hide as well."""

import json
import subprocess
import sys

PROGRAM = """
import json, pickle, sys
from flowworker.redaction import adopt, current_discretion, redact, remember, remember_whole
if sys.argv[1:]:
    adopt(pickle.loads(bytes.fromhex(sys.argv[1])))
else:
    remember("word-of-parent-zq")
    remember_whole("postgres://no password here, but private")
text = "word-of-parent-zq and postgres://no password here, but private"
print(json.dumps([pickle.dumps(current_discretion()).hex(), redact(text)]))
"""


def said_by(*arguments: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_a_child_hides_passwords_and_whole_connection_strings_of_its_parent() -> None:
    discretion, hidden = said_by()
    assert hidden == "*** and ***"
    assert said_by(discretion) == [discretion, hidden]
