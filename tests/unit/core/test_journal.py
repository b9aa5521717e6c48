"""Steps of long work: computed once, the same bytes from the disk, gone when the work is done."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor

from clip_unlearn.core.journal import active, journaling, keep, last, step

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]


def counted(value: Tensor) -> tuple[Callable[[], dict[str, Tensor]], list[int]]:
    """Return a computation of a value, and a list that grows by one whenever it is carried out."""
    calls: list[int] = []

    def compute() -> dict[str, Tensor]:
        calls.append(1)
        return {"value": value}

    return compute, calls


def interrupted(folder: Path, key: object, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Take one step and be interrupted after it."""
    with pytest.raises(KeyboardInterrupt), journaling(folder, resume=True):
        found = step(key, compute)
        raise KeyboardInterrupt
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_comes_back_bit_for_bit(tmp_path: Path, kind: torch.dtype) -> None:
    value = (3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(1))).to(kind)
    compute, calls = counted(value)
    first, second = (interrupted(tmp_path / "journal", ["a", 1], compute)["value"] for _ in range(2))
    assert len(calls) == 1
    assert first.dtype == second.dtype == kind
    assert first.contiguous().view(torch.uint8).equal(second.view(torch.uint8))


def test_results_are_plain_on_both_ways(tmp_path: Path) -> None:
    """On the CPU, in order, without gradients, whether computed, with or without a journal, or read."""
    turned = torch.randn(3, 2, requires_grad=True).T
    compute, _ = counted(turned)
    found = [step("key", compute)["value"]]
    found += [interrupted(tmp_path / "journal", "key", compute)["value"] for _ in range(2)]
    for value in found:
        assert not value.requires_grad
        assert value.is_contiguous()
        assert torch.equal(value, turned.detach())


def test_without_a_journal_steps_are_computed(tmp_path: Path) -> None:
    compute, calls = counted(torch.ones(2))
    assert torch.equal(step("key", compute)["value"], torch.ones(2))
    step("key", compute)
    assert len(calls) == 2
    with journaling(tmp_path / "journal", resume=True):
        pass
    step("key", compute)
    assert len(calls) == 3
    assert list(tmp_path.iterdir()) == []


@hypothesis.given(
    first=strategies.lists(strategies.integers() | strategies.text(max_size=3), max_size=3),
    second=strategies.lists(strategies.integers() | strategies.text(max_size=3), max_size=3),
)
def test_keys_tell_steps_apart(tmp_path_factory: pytest.TempPathFactory, first: list[object], second: object) -> None:
    compute, calls = counted(torch.ones(1))
    with journaling(tmp_path_factory.mktemp("keys") / "journal", resume=True):
        step(first, compute)
        step(second, compute)
    assert len(calls) == (1 if first == second else 2)


@pytest.mark.parametrize("damage", [b"", b"nonsense", None], ids=["empty", "nonsense", "cut"])
def test_a_damaged_step_is_computed_again(tmp_path: Path, damage: bytes | None) -> None:
    compute, calls = counted(torch.arange(5.0))
    interrupted(tmp_path / "journal", "key", compute)
    (file,) = (tmp_path / "journal").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-3] if damage is None else damage)
    assert torch.equal(interrupted(tmp_path / "journal", "key", compute)["value"], torch.arange(5.0))
    assert len(calls) == 2
    assert file.read_bytes() == whole
    interrupted(tmp_path / "journal", "key", compute)
    assert len(calls) == 2


def test_the_folder_goes_when_the_work_is_done(tmp_path: Path) -> None:
    compute, _ = counted(torch.ones(1))
    with journaling(tmp_path / "journal", resume=False):
        step("key", compute)
        assert len(list((tmp_path / "journal").iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_the_folder_stays_when_the_work_fails(tmp_path: Path, problem: type[BaseException]) -> None:
    compute, _ = counted(torch.ones(1))
    with pytest.raises(problem), journaling(tmp_path / "journal", resume=False):
        step("key", compute)
        raise problem
    assert len(list((tmp_path / "journal").iterdir())) == 1


def test_without_resume_old_steps_go(tmp_path: Path) -> None:
    compute, calls = counted(torch.ones(1))
    interrupted(tmp_path / "journal", "old", compute)
    with journaling(tmp_path / "journal", resume=False):
        assert not (tmp_path / "journal").exists()
        step("old", compute)
    assert len(calls) == 2


def test_a_journal_inside_another_gives_way_to_it(tmp_path: Path) -> None:
    compute, calls = counted(torch.ones(1))
    with journaling(tmp_path / "outer", resume=False):
        step("key", compute)
        with journaling(tmp_path / "inner", resume=False):
            step("key", compute)
        step("key", compute)
    assert len(calls) == 2


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_refused(tmp_path: Path, bad: float) -> None:
    compute, _ = counted(torch.tensor([1.0, bad]))
    with pytest.raises(ValueError, match="NaN"), journaling(tmp_path / "journal", resume=False):
        step("key", compute)
    assert not (tmp_path / "journal").exists()


def test_a_step_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> dict[str, Tensor]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"), journaling(tmp_path / "journal", resume=False):
        step("key", fail)
    assert not (tmp_path / "journal").exists()


def left(folder: Path, kept: Callable[[], object]) -> list[Path]:
    """Do something inside a journal, be interrupted, and return what is in its folder."""
    with pytest.raises(KeyboardInterrupt), journaling(folder, resume=True):
        kept()
        raise KeyboardInterrupt
    return sorted(folder.iterdir()) if folder.is_dir() else []


def found_last(folder: Path, keys: list[object]) -> tuple[int, dict[str, Tensor]] | None:
    found: list[tuple[int, dict[str, Tensor]] | None] = []
    left(folder, lambda: found.append(last(keys)))
    return found[0]


def test_a_journal_is_active_inside_its_block(tmp_path: Path) -> None:
    assert not active()
    with journaling(tmp_path / "journal", resume=False):
        assert active()
    assert not active()


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_kept_last_comes_back_bit_for_bit(tmp_path: Path, kind: torch.dtype) -> None:
    value = (3 * torch.randn(4, 3, generator=torch.Generator().manual_seed(2))).to(kind)
    left(tmp_path / "journal", lambda: keep(["a", 1], {"value": value.T, "grown": torch.ones(1, requires_grad=True)}))
    found = found_last(tmp_path / "journal", [["a", 0], ["a", 1], ["a", 2]])
    assert found is not None
    place, tensors = found
    assert place == 1
    assert tensors["value"].dtype == kind
    assert torch.equal(tensors["value"], value.T)
    assert not tensors["grown"].requires_grad


def test_the_last_is_the_last_by_place(tmp_path: Path) -> None:
    for place in (3, 0, 2):
        left(tmp_path / "journal", partial(keep, place, {"value": torch.tensor(place)}))
    keys: list[object] = [0, 1, 2, 3, 4]
    found = found_last(tmp_path / "journal", keys)
    assert found is not None
    assert (found[0], int(found[1]["value"])) == (3, 3)
    found = found_last(tmp_path / "journal", keys[::-1])
    assert found is not None
    assert (found[0], int(found[1]["value"])) == (4, 0)
    assert found_last(tmp_path / "journal", [7, 8]) is None
    assert found_last(tmp_path / "journal", []) is None


def test_a_step_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    (first,) = left(tmp_path / "journal", lambda: keep(1, {"value": torch.ones(1)}))
    (second,) = left(tmp_path / "journal", lambda: keep(2, {"value": torch.ones(2)}, instead_of=1))
    assert first != second
    assert len(left(tmp_path / "journal", lambda: keep(3, {"value": torch.ones(3)}))) == 2
    assert len(left(tmp_path / "journal", lambda: keep(4, {"value": torch.ones(3)}, instead_of=9))) == 3


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_a_damaged_last_step_gives_way_to_the_one_before(tmp_path: Path, damage: bytes) -> None:
    (first,) = left(tmp_path / "journal", lambda: keep(1, {"value": torch.ones(1)}))
    files = left(tmp_path / "journal", lambda: keep(2, {"value": torch.ones(2)}))
    (second,) = set(files) - {first}
    second.write_bytes(damage)
    found = found_last(tmp_path / "journal", [1, 2])
    assert found is not None
    assert (found[0], len(found[1]["value"])) == (0, 1)
    first.write_bytes(damage)
    assert found_last(tmp_path / "journal", [1, 2]) is None


def test_without_a_journal_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keep("key", {"value": torch.ones(1)}, instead_of="other")
    assert last(["key"]) is None
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_starts_anew_takes_no_step_of_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in a process that comes before the main one has removed the folder: all must start at the same step."""
    left(tmp_path / "journal", lambda: keep("key", {"value": torch.ones(1)}))
    monkeypatch.setenv("RANK", "1")
    with journaling(tmp_path / "journal", resume=False):
        assert last(["key"]) is None
    with journaling(tmp_path / "journal", resume=True):
        assert last(["key"]) is not None
    assert (tmp_path / "journal").is_dir(), "the main process removes it"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_numbers_that_are_none_are_not_kept(tmp_path: Path, bad: float) -> None:
    with pytest.raises(ValueError, match="NaN"), journaling(tmp_path / "journal", resume=False):
        keep("key", {"value": torch.tensor([bad])})
    assert not (tmp_path / "journal").exists()
