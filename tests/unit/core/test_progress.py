"""Progress goes to whoever listens, and nowhere otherwise."""

from clip_unlearn.core import progress


def test_only_the_innermost_reporter_hears():
    outer, inner = [], []
    progress.report("silent", 0, 1)
    with progress.reporting(lambda *said: outer.append(said)):
        progress.report("embed", 1, 3)
        with progress.reporting(lambda *said: inner.append(said)):
            progress.report("embed", 2, 3)
        progress.report("embed", 3, 3)
    progress.report("silent", 1, 1)
    assert outer == [("embed", 1, 3), ("embed", 3, 3)]
    assert inner == [("embed", 2, 3)]
