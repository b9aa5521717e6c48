"""Which process writes."""

import pytest

from clip_unlearn.core.processes import is_main


@pytest.mark.parametrize(("rank", "main"), [(None, True), ("0", True), ("1", False), ("3", False)])
def test_the_first_process_is_the_main_one(monkeypatch, rank, main):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_main() is main
