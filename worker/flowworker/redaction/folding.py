"""A text as a reader sees it: without characters that draw nothing and colours, and with letters in their usual form.

`pass<zero width space>word=x`, a coloured `password`, and the wide letters and colons of CJK texts name a secret, too.
"""

import re
import unicodedata

_UNSEEN = re.compile(
    r"\x1b\[[0-9;:?]{0,40}[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad"
    r"\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    r"\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)


def folded(text: str) -> str:
    """The text as it is seen; the very same object where that is no other."""
    if text.isascii() and text.isprintable():
        return text
    seen = _UNSEEN.sub("", text)
    if not seen.isascii():
        seen = unicodedata.normalize("NFKC", seen)
    return text if seen == text else seen
