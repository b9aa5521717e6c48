"""The folder of synthetic pictures: safe names, true labels, and a fair background."""

from pathlib import Path

import pytest
import torch

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Request
from clip_unlearn.data.open import open_data
from clip_unlearn.models.open import open_model
from clip_unlearn.runs import synthesize as runs
from clip_unlearn.runs.manifest import Order
from clip_unlearn.synthesis.album import Album

NAMES = ("a/b", "a:b", "..", "contact.png", "鳥" * 60, "con.", ".hidden", "Metadata.jsonl", "test")
FOLDERS = ("a_b", "a_b-2", "_", "contact.png-2", "鳥" * 26, "con", "_.hidden", "Metadata.jsonl-2", "test")


def pictures(names: tuple[str, ...], count: int, *, accepted: bool = True) -> Album:
    """Return an album of one grey per picture."""
    total = len(names) * count
    return Album(
        names=names,
        pixels=(torch.arange(total) / total).view(-1, 1, 1, 1).expand(total, 3, 8, 8),
        embeddings=torch.eye(total),
        labels=torch.arange(len(names)).repeat_interleave(count),
        probabilities=torch.full((total,), 0.7),
        accepted=torch.tensor([accepted or place % count == 1 for place in range(total)]),
        steps=torch.full((total,), 4),
        threshold=0.5,
        most_steps=9,
    )


def order(*names: str, count: int) -> Order:
    return Order.model_validate(
        {"model": "sandbox", "names": names, "retain": ["mug"], "count": count, "probability": 0.5}
    )


def test_names_that_no_folder_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are safe and differ; the labels are the names themselves."""
    monkeypatch.setattr(runs, "make_album", lambda *_, **__: pictures(NAMES, 2))
    manifest = runs.synthesize(order(*NAMES, count=2), tmp_path / "out")
    assert tuple(made.folder for made in manifest.made) == FOLDERS
    images = open_data(str(tmp_path / "out"))
    assert images.classes == tuple(sorted(NAMES))
    assert [images.classes[label] for label in images.labels] == [name for name in NAMES for _ in range(2)]
    levels = [images.picture(index).getpixel((3, 3)) for index in range(18)]
    assert levels == [(round(255 * index / 18),) * 3 for index in range(18)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_folder_names_fit_file_systems() -> None:
    found = runs._folders([*NAMES, "A_B", "x" * 200])
    assert len({folder.casefold() for folder in found}) == len(found)
    assert all(len(folder.encode()) <= runs.LONGEST + 2 for folder in found)
    assert not any(set(folder) & set(runs.UNSAFE) or folder.startswith(".") for folder in found)


def test_pictures_that_were_not_accepted_are_told_of_but_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "make_album", lambda *_, **__: pictures(("cat", "dog"), 2, accepted=False))
    manifest = runs.synthesize(order("cat", "dog", count=2), tmp_path / "out")
    assert [picture.file for picture in manifest.pictures] == [None, "cat/0001.png", None, "dog/0001.png"]
    assert [picture.accepted for picture in manifest.pictures] == [False, True, False, True]
    assert [(made.pictures, made.accepted, made.diversity) for made in manifest.made] == [(2, 1, None)] * 2
    assert list(open_data(str(tmp_path / "out")).keys) == ["cat/0001.png", "dog/0001.png"]


def test_nouns_that_the_model_takes_for_the_name_are_no_rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the embedded model "cup" is another word for "mug", and "cupboard" is not."""
    asked: list[Request] = []

    def album(_model: Model, request: Request, names: tuple[str, ...], **_: object) -> Album:
        asked.append(request)
        return pictures(names, 2)

    monkeypatch.setattr(runs, "make_album", album)
    plain = Order.model_validate({"model": "sandbox", "names": ["mug"], "count": 2, "probability": 0.5})
    runs.synthesize(plain, tmp_path / "out")
    (found,) = asked
    assert "cup" not in found.background
    assert "cupboard" in found.background
    assert "mug" not in found.background
    assert len(found.background) > 1100


def test_reference_names_are_those_least_like_any_other() -> None:
    model = open_model("sandbox")
    names = ("mug", "cup", "cat", "kitten", "car", "anchor", "bottle")
    request = Request(forget=("bowl",), retain=names)
    with torch.no_grad():
        rows = model.texts([f"a photo of a {name}." for name in names]).double()
    rows = rows / rows.norm(dim=1, keepdim=True)
    nearest = [
        max(float(rows[one] @ rows[two]) for two in range(len(names)) if two != one) for one in range(len(names))
    ]
    expected = sorted(names, key=lambda name: nearest[names.index(name)])[:4]
    found = runs._distinct(model, request, names)
    assert list(found) == expected
    assert set(found[:3]) == {"car", "anchor", "bottle"}
