"""Progress of long work, from wherever it happens to whoever shows it; silent by default. Torch-free."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeAlias

Reporter: TypeAlias = Callable[[str, int, int], None]
"""Called with the stage, the steps done and the steps in all."""

_reporter: ContextVar[Reporter | None] = ContextVar("reporter", default=None)


def report(stage: str, done: int, total: int) -> None:
    """Tell the current reporter, if any, how far a stage is."""
    reporter = _reporter.get()
    if reporter is not None:
        reporter(stage, done, total)


@contextlib.contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Send all reports of this context to `reporter` while the block runs."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)
