"""Sources that are opened once while something lasts."""

from pathlib import Path

from PIL import Image

from clip_unlearn.data.open import open_data, opened_once


def test_what_is_open_is_not_opened_again(tmp_path: Path) -> None:
    """A set is the same until the context ends, whatever becomes of the files; each part is a set of its own."""
    for name in ("cat", "mug"):
        (tmp_path / name).mkdir()
        for place in range(4):
            Image.new("RGB", (8, 8), (place, len(name), ord(name[0]))).save(tmp_path / name / f"{place}.png")
    with opened_once():
        images = open_data(str(tmp_path))
        (tmp_path / "cat" / "0.png").unlink()
        assert open_data(str(tmp_path)) is images
        assert open_data(str(tmp_path), split="stop") is not images
    assert len(open_data(str(tmp_path))) == len(images) - 1
