"""Secrets known by their shape: named values here; URIs, keys that stand alone and commands in modules of their own.

A pattern is tried only where a word stands with which it begins. Texts may be hostile, so a pattern takes time
in proportion to the text: what is of any length is taken whole (`*+`) and directly behind what must be there, and what
is looked for further on is at most a few hundred characters away.
"""

import re

from flowworker.redaction import commands, keys, uris
from flowworker.redaction.places import SHORT, Replacement, Shape, Shapes, compiled, hide, holds, lower
from flowworker.redaction.words import GROUP, HIDDEN, KEY_BEGINS, NAME, NAME_BEGINS, OPEN_STRING, STRING, TAIL, VALUE

_CLOSE = r"""(?:\\{0,8}+["'`\]]|%(?:25)?(?:5d|2[027])){0,3}+"""
"""What may close a name: `"password":`, `environ['PASSWORD'] =`, `user[password]=`."""
_PAIR = r"""(?<![ \t])[ \t]{1,200}+["']?[\w.-]{1,40}+["']?[ \t]{0,40}+(?:=|:(?!//))"""
"""The next pair, in front of which a value with spaces ends."""
_FIELD = r"""\\{0,8}+["']?\s*+[=:]\s*+"""
"""Between the name of a field and its value."""
_NAMES = rf"""\\{{0,8}}+["']?[\w.:-]{{0,40}}?{NAME}[\w.:-]{{0,40}}+\\{{0,8}}+["']?"""
"""A value that names a secret."""

_BENEATH = rf"""(?ix)
    ( (?<![a-z]) (?:name|key|id) {_FIELD} {_NAMES} \s{{0,40}}+ ,? [^{{}}<>]{{0,80}}? value {_FIELD} ) {VALUE}
    """
"""A name and its value as two fields: the environment of a container, `<add key="password" value="…"/>`."""
_ABOVE = rf"""(?ix)
    ( (?<![a-z]) value {_FIELD} )
    (?: '(?:\\.|[^'\\]){{0,4000}}+' | "(?:\\.|[^"\\]){{0,4000}}+" | \\{{1,8}}+".{{0,4000}}?\\{{1,8}}+"
      | [^\s'",]{{1,1000}}+ )
    (?= \s{{0,40}}+ ,? [^{{}}<>]{{0,80}}? (?<![a-z]) (?:name|key|id) {_FIELD} {_NAMES} )
    """
"""The same with the value first."""
_BLOCK = r"""[|>][+-]?\d?[ \t]*+\n(?:[ \t]++[^\n]*+(?:\n|\Z)){1,400}+"""
"""Lines of YAML, and those after it that stand as far to the right."""
_EQUALS = rf"""(?ix)
    ( {NAME}{TAIL} (?:\[\w{{0,20}}\])? {_CLOSE}
      (?: \s*+ (?:=>|:=|->|[!=]=|::[ \t]|[=:]|%(?:25)?3[da]) \s*+
        | [ \t]++ (?:is|was|to|be|provided|given|supplied|used|entered|received)
          [ \t]*+ (?: [=:] [ \t]*+ | (?=['"]) ) ) )
    (?!\*\*\*@) (?: {STRING} | {OPEN_STRING} | {GROUP} | {_BLOCK}
      | \S++ (?: [ \t][^;\n]{{0,200}}?(?=;) | (?:[ \t]{{1,200}}+[^\s=:;,]{{1,400}}+){{1,12}}? (?={_PAIR}) )? )
    """
_PHRASE = rf"""(?ix)
    ( (?:pass(?:word|wd|wort|phrase|code)|(?<![a-z])pwd?(?![a-z])) {_CLOSE} (?::[ \t]++|[ \t]++=[ \t]++) )
    (?=[^\s'"\\`\[{{]) (?!{_BLOCK}) ( [^\n]*+ )
    """
"""As people write a password of several words: after a space, to the end of the line or the next pair."""
_PHRASE_ENDS = rf"""[,;]|{_PAIR}"""
_ITEM = rf"""(?ix)
    ( (?: {NAME}{TAIL} \\{{0,8}}+["'] | (?<=\{{){NAME}{TAIL} (?=,["']) ) \s*+ , \s*+ (?:[\[(]\s*+)? )
    (?: {STRING} | {OPEN_STRING} | [^\s'",\[(]++ )
    """
"""Neighbours in a tuple or a list of arguments: `('password', 'x')`."""
_OPTION = rf"""(?i)((?<!\S)--?+(?:[\w-]{{1,30}}-|store|key|trust)?{NAME}{TAIL}[ \t]++){VALUE}"""
_XML = rf"""(?ix) ( <(?:[\w.-]{{1,40}}:)?[\w.-]{{0,40}}? {NAME} [\w.-]{{0,40}}+ (?:\s[^<>]{{0,200}}+)? > )
    (?: \s*+ <!\[CDATA\[ (?: [^\]] | \](?!\]>) )*+ (?:\]\]>)? | [^<]++ )"""
_XML_NAMED = rf"""(?ix)
    ( (?<![a-z]) (?:name|key|id)
      (?: {_FIELD} {_NAMES} [^<>]{{0,80}}? (?<!/)> | > [\w.:-]{{0,40}}? {NAME} [\w.:-]{{0,40}}+ </name> )
      \s*+ (?:<value>)? )
    [^<]++"""
"""An element whose attribute, or whose neighbour, names it."""
_HEADER = rf"""(?ix)
    ( (?:(?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{{0,30}}(?:auth|key|token)[\w-]{{0,30}}) {_CLOSE}
      \s*+ (?:[=:,]|%3a) \s*+ )
    (?: {STRING} | [^\s'"][^'"\n]*+ | {OPEN_STRING} )
    """
_NAMING = (*NAME_BEGINS, "key")
"""One of them stands in each name of a secret."""
_ANSWER = r"""(?i)((?<!\w)(?:response|mac|oauth_signature)=")(?=[^"\d]{0,100}\d)[\w+/=-]{8,}+(?=")"""
"""Of a challenge, behind quoted values in a header; for the whole header see `_HEADER`."""
_COOKIE = r"(?i)(<cookie [^\s=<>]{1,80}+=)[^\s<>]++"
"""As the jar of an HTTP client is shown."""
_SCHEME = r"""(?ix) (?<![\w-])
    ( (?: bearer (?:[ \t]++|%20|\+)
        | (?:basic|digest|negotiate|apikey) (?:[ \t]++|%20|\+) (?-i:(?=[\w.~+/=%-]{0,200}?[A-Z0-9=])) ) )
    (?!authenti|authori[sz]|credential|realm|\*\*\*) [\w.~+/=%-]{8,}+"""
"""What is no bearer's must look like a code: people write of basic principles."""


def _without_phrase(found: re.Match[str]) -> str:
    end = compiled(_PHRASE_ENDS).search(found[2])
    return found[1] + HIDDEN + ("" if end is None else found[2][end.start() :])


def _named(pattern: str, replaced_by: Replacement = hide) -> tuple[Shape, Shape]:
    return (
        Shape(begins=NAME_BEGINS, pattern=pattern, replaced_by=replaced_by),
        Shape(begins=KEY_BEGINS, pattern=pattern, replaced_by=replaced_by, hints=("key",)),
    )


_SHAPES = Shapes(
    Shape(begins=("proxy-auth", "auth", "set-cookie", "cookie", "x-"), pattern=_HEADER),
    Shape(begins=("response=", "mac=", "oauth_signature="), pattern=_ANSWER),
    Shape(begins=("<cookie ",), pattern=_COOKIE),
    Shape(begins=("bearer", "basic", "digest", "negotiate", "apikey"), pattern=_SCHEME),
    Shape(begins=("<",), pattern=_XML, hints=_NAMING),
    Shape(begins=("name", "key", "id"), pattern=_XML_NAMED, hints=("</",)),
    Shape(begins=("name", "key", "id"), pattern=_BENEATH, hints=("value",)),
    Shape(begins=("value",), pattern=_ABOVE, hints=_NAMING),
    Shape(begins=("-",), pattern=_OPTION, hints=_NAMING),
    *_named(_ITEM),
    *_named(_PHRASE, _without_phrase),
    *_named(_EQUALS),
)


_WORDS = frozenset(
    {"://", "%3", "%253", "private key", *uris.SHAPES.words, *keys.SHAPES.words, *commands.SHAPES.words, *_SHAPES.words}
)
_ANY = tuple(word for word in _WORDS if not any(other in word for other in _WORDS - {word}))
"""One of them stands in every text with a secret, but a line of a password file."""


def without_secrets(text: str) -> str:
    """The text with everything hidden that has the shape of a secret."""
    if len(text) < SHORT and text.count(":") < uris.PGPASS_COLONS and not holds(lower(text), _ANY):
        return text
    return _SHAPES.hide_in(commands.without_commands(keys.without_keys(uris.without_uris(text))))
