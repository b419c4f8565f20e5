"""Connection strings as people write them wrongly: passwords not encoded, in every place a string has for one."""

import random
import string
from dataclasses import dataclass

SECRET_ALPHABET = "".join(sorted(set(string.ascii_uppercase) - set("AEIOUY"))) + string.digits
"""Letters of passwords; all else in a string is written in small letters, so that a fragment gives itself away. Vowels
are left out, because messages have words in capitals."""

MARKS = "/#?@:&=%+ [],;!$'\"\\|~^*()<>{}`.-_"
"""What passwords hold between letters."""

FRAGMENT = 4
"""Characters; so much of a password must never be shown."""

HOSTS = ("127.0.0.1:1", "localhost:1", "[::1]:1", "127.0.0.1:1,127.0.0.1:2", "127.0.0.1", "")
SCHEMES = ("postgresql://", "postgres://", "POSTGRESQL://", "postgresql:/", "postgresql:", "jdbc:postgresql://", "",
           "mysql://", "postgresql+asyncpg://")  # fmt: skip
QUERIES = ("", "?sslmode=disable", "?application_name=x&connect_timeout=2", "?options=-c%20geqo%3Doff", "?nope=x",
           "#frag", "?")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """One string, and the password that is in it somewhere."""

    dsn: str
    password: str

    def fragments_in(self, text: str) -> list[str]:
        """The parts of the password that a text shows: letters of it, so many in a row, with the marks between them."""
        grams = (self.password[at : at + FRAGMENT] for at in range(len(self.password) - FRAGMENT + 1))
        return [gram for gram in grams if _reveals(gram) and gram in text]


def shape(chance: random.Random) -> Shape:
    """A string of a random shape."""
    password = _password(chance)
    written = password if chance.random() < 0.8 else "".join(f"%{ord(one):02X}" for one in password)
    user, database = chance.choice(("app", "", "app.tenant")), chance.choice(("/main", "", "/", "/a/b"))
    host, query = chance.choice(HOSTS), chance.choice(QUERIES)
    scheme = chance.choice(SCHEMES) if chance.random() < 0.4 else "postgresql://"
    match chance.randrange(10):
        case 0:
            dsn = f"{scheme}{host}{database}?user={user}&password={written}"
        case 1:
            dsn = f"{scheme}{host}{database}?password={written}&sslmode=disable"
        case 2:
            dsn = f"host=127.0.0.1 port=1 user=app password={written} dbname=main"
        case 3:
            dsn = f"{scheme}{user}:{written}@{host}{database}?password={written}"
        case 4:
            dsn = f"{scheme}{user}:{written}@{written}@{host}{database}{query}"
        case _:
            dsn = f"{scheme}{user}:{written}@{host}{database}{query}"
    match chance.randrange(12):
        case 0:
            dsn = f'"{dsn}"'
        case 1:
            dsn = f" {dsn}\n"
        case 2:
            dsn = dsn.replace(":", "%3A", 2)
        case _:
            pass
    return Shape(dsn, password)


def _password(chance: random.Random) -> str:
    def word() -> str:
        return "".join(chance.choices(SECRET_ALPHABET, k=chance.randint(1, 8)))

    parts = [word()]
    for _ in range(chance.randint(0, 4)):
        parts += ["".join(chance.choices(MARKS, k=chance.choice((1, 1, 1, 2)))), word()]
    password = "".join(parts)
    return password if len(password) >= FRAGMENT else password + word() * FRAGMENT


def _reveals(gram: str) -> bool:
    """Whether it is so much of a password that it cannot be there by chance: more letters of it than marks."""
    return sum(character in SECRET_ALPHABET for character in gram) > FRAGMENT // 2
