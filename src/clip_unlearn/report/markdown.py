"""Text made safe for Markdown: names from outside stay text, whatever characters they hold."""

import re
from typing import final
from urllib.parse import quote

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&$])")


@final
class Raw(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


def escape(value: object) -> object:
    """Return the text with every special character behind a backslash and line breaks turned into spaces."""
    if isinstance(value, Raw) or not isinstance(value, str):
        return value
    return _SPECIAL.sub(r"\\\1", " ".join(value.split()))


def code(text: str) -> Raw:
    """Return the text as an indented block, in which nothing is special."""
    return Raw("\n".join(f"    {line}" for line in text.splitlines()))


def address(path: str) -> Raw:
    """Return a relative path as a link target."""
    return Raw(quote(path))
