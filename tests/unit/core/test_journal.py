"""Steps of long work: computed once, the same bytes from the disk, gone when the work is done."""

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies
from torch import Tensor

from clip_unlearn.core.journal import journaling, step

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
