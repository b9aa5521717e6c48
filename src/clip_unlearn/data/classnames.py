"""Class names as data sources give them, to class names as a model is shown them."""

from collections.abc import Sequence

from clip_unlearn.core.request import clean_name, key
from clip_unlearn.errors import DataError, RequestError


def displayed(names: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the names with spaces for underscores, in their order.

    Raises:
        DataError: if a name is empty, too long, holds control characters, is not Unicode, or stands twice.
    """
    shown = tuple(_display(name, where) for name in names)
    seen: dict[str, str] = {}
    for name in shown:
        if key(name) in seen:
            raise DataError(f"{where}: classes '{seen[key(name)]}' and '{name}' are the same name. Rename one.")
        seen[key(name)] = name
    return shown


def from_words(words: Sequence[str], where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the distinct words as sorted class names, and the label of every word.

    Words that differ in case, spaces or underscores only are one class, shown as the first of them in the order.

    Raises:
        DataError: if a name cannot be used; see `displayed`.
    """
    shown = {word: _display(word, where) for word in sorted(set(words))}
    first = {key(name): name for name in reversed(shown.values())}
    classes = tuple(sorted(first.values()))
    index = {key(name): position for position, name in enumerate(classes)}
    return classes, tuple(index[key(shown[word])] for word in words)


def _display(name: str, where: str) -> str:
    try:
        name.encode()
        return clean_name(name.replace("_", " "))
    except (RequestError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: class name {name[:40]!r} cannot be used. {error}") from error
