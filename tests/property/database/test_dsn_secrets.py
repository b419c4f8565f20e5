"""10,000 connection strings of all shapes: a password arrives whole, or nothing of the refused string is shown."""

import random
from dataclasses import replace

from testkit.support.dsn_shapes import Shape, shape

from flowworker.database.dsn import ConnectArguments, prepare
from flowworker.errors import UsageError
from flowworker.redaction import redact
from flowworker.redaction.known import Known

SHAPES = 10_000


def test_no_shape_of_a_connection_string_shows_a_part_of_its_password() -> None:
    chance = random.Random(20_260_101)
    made = [shape(chance) for _ in range(SHAPES)]
    said = [answer_to(one) for one in made]
    assert [one for one, (_, text) in zip(made, said, strict=True) if one.fragments_in(text)] == []
    taken = sum(is_taken for is_taken, _ in said)
    assert SHAPES // 10 < taken < SHAPES - SHAPES // 10


def answer_to(made: Shape) -> tuple[bool, str]:
    """Whether a string is taken, and all that messages may hold of it: where it leads, or why it is refused."""
    try:
        return True, shown_of(prepare(made.dsn))
    except UsageError as error:
        return False, f"{error} {error.__cause__} {error.__context__}"


def shown_of(arguments: ConnectArguments) -> str:
    """What messages may hold of a string that was taken: all but its password."""
    options = {name: value for name, value in arguments.options.items() if name not in {"password", "dsn"}}
    return f"{options} {dict(arguments.server_settings)} {replace(arguments, socket_options=())!r}"


def test_no_shape_shows_a_part_of_its_password_in_a_text_that_quotes_it() -> None:
    chance = random.Random(20_260_102)
    made = [one for one in (shape(chance) for _ in range(SHAPES)) if "://" in one.dsn and " " not in one.dsn.strip()]
    assert len(made) > SHAPES // 3
    assert [one for one in made if one.fragments_in(redact(f"it is wrong ({one.dsn}), see above"))] == []


def test_what_is_known_is_hidden_in_all_forms_in_which_it_travels() -> None:
    chance = random.Random(20_260_103)
    for made in (shape(chance) for _ in range(SHAPES // 10)):
        known = Known({})
        known.add(made.dsn)
        for text in (made.dsn, repr(made.dsn), f"({made.dsn!r}, 1)"):
            assert made.fragments_in(known.hide(f"Got unexpected extra argument {text}")) == [], made
