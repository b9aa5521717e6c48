"""The one tree of errors. Each message says what is wrong, where, and the way out.

ClipUnlearnError            exit code 1
├── InputError              exit code 2: what the user gave
│   ├── RequestError        names: empty, duplicate, overlapping
│   ├── SettingError        a setting or recipe key: unknown, out of range
│   │   └── DivergedError   training that gives no numbers with the settings
│   ├── UnknownNameError    a method, probe, model, data set or class nobody knows
│   ├── DataError           images, tables, lists
│   │   └── UndefinedError  a measurement that these data do not define
│   ├── WeightsError        checkpoint and patch files
│   ├── OutputError         the output folder
│   └── UnsupportedError    a method that needs what this model or request lacks
└── StorageError            exit code 4: disk full, permission, input/output
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ClipUnlearnError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(ClipUnlearnError):
    """Something the user gave cannot be used."""

    exit_code = 2


class RequestError(InputError):
    """The names to forget or retain are empty, duplicate or overlapping."""


class SettingError(InputError):
    """A setting or recipe key is unknown, malformed or out of range."""


class DivergedError(SettingError):
    """Training gave no numbers with these settings; nothing was written."""


class UnknownNameError(InputError):
    """No method, probe, model, data set or class has this name."""


class DataError(InputError):
    """Images, tables or lists cannot be read or do not fit together."""


class UndefinedError(DataError):
    """A measurement is not defined on these data; a run records that, with the reason, and goes on."""


class WeightsError(InputError):
    """A checkpoint or patch file is missing, damaged or of an unsafe kind."""


class OutputError(InputError):
    """The output folder cannot be used as asked."""


class UnsupportedError(InputError):
    """The method needs something that this model or request does not offer."""


class StorageError(ClipUnlearnError):
    """The disk is full, read-only or failing."""

    exit_code = 4


def nearest(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the closest option, or "" when none is close.

    Closeness is difflib's ratio of matching characters, at least 0.6, upper and lower case alike.
    """
    by_key = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), by_key, n=1, cutoff=0.6)
    return f" Did you mean '{by_key[close[0]]}'?" if close else ""
