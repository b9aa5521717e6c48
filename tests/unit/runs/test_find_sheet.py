"""The sheet of found images: what is on it and where."""

import numpy as np
from PIL import Image

from clip_unlearn.data.images import ImageSet
from clip_unlearn.runs.find_sheet import BELOW, COLUMNS, MOST, SIDE, found_sheet

WIDE = COLUMNS * (SIDE + 4) + 4
HEADING, ROW = 18, SIDE + 18


def images_of(count: int, size: tuple[int, int] = (8, 8)) -> ImageSet:
    """Return pictures of one colour each: green says which."""
    return ImageSet(
        where="here",
        keys=tuple(map(str, range(count))),
        picture=lambda row: Image.new("RGB", size, (0, row, 200)),
        content=str,
    )


def rows(start: int, stop: int) -> list[tuple[int, float]]:
    return [(row, 1 - row / 200) for row in range(start, stop)]


def shown(sheet: Image.Image, top: int, count: int) -> list[int]:
    """Return which pictures are in a part of the sheet, by the colour in the middle of each place."""
    found = []
    for place in range(count):
        left = 4 + place % COLUMNS * (SIDE + 4)
        middle = top + HEADING + 14 + place // COLUMNS * ROW
        red, green, blue = sheet.getpixel((left + SIDE // 2, middle + SIDE // 2))
        assert (red, blue) == (0, 200)
        found.append(green)
    return found


def reds(sheet: Image.Image, top: int, bottom: int) -> int:
    """Return how many pixels of a part are the red of what was not chosen."""
    part = np.asarray(sheet)[top:bottom]
    return int((part == (200, 0, 0)).all(axis=2).sum())


def test_chosen_and_those_below() -> None:
    sheet = found_sheet(images_of(30), rows(0, 13), rows(13, 20), "mug")
    first = HEADING + 2 * ROW
    assert sheet.size == (WIDE, first + HEADING + ROW)
    assert shown(sheet, 0, 13) == list(range(13))
    assert shown(sheet, first, 7) == list(range(13, 20))
    assert reds(sheet, 0, first) == 0
    frame = SIDE**2 - (SIDE - 6) ** 2
    assert 7 * frame <= reds(sheet, first, sheet.height) < 7 * frame + 7 * 400


def test_of_many_chosen_the_most_and_the_least_probable_are_shown() -> None:
    sheet = found_sheet(images_of(120), rows(0, MOST + 1), rows(MOST + 1, 120), "mug")
    half = HEADING + 3 * ROW
    assert sheet.size == (WIDE, 2 * half + HEADING + 2 * ROW)
    assert shown(sheet, 0, 30) == list(range(30))
    assert shown(sheet, half, 30) == list(range(31, 61))
    assert shown(sheet, 2 * half, BELOW) == list(range(61, 61 + 24))
    full = found_sheet(images_of(120), rows(0, MOST), [], "mug")
    assert full.size == (WIDE, HEADING + 5 * ROW)
    assert shown(full, 0, MOST) == list(range(60))


def test_pictures_keep_their_shape() -> None:
    sheet = found_sheet(images_of(2, (200, 50)), rows(1, 2), [], "mug")
    picture = np.asarray(sheet)[HEADING + 14 : HEADING + 14 + SIDE, 4 : 4 + SIDE]
    blue = (picture == (0, 1, 200)).all(axis=2)
    assert blue.sum() == 96 * 24
    assert blue[:24].all()
    thin = found_sheet(images_of(1, (1, 500)), rows(0, 1), [], "mug")
    assert thin.size == (WIDE, HEADING + ROW)


def test_a_title_in_any_script() -> None:
    assert found_sheet(images_of(1), rows(0, 1), [], "чашка 茶杯 ﷽").size == (WIDE, HEADING + ROW)
