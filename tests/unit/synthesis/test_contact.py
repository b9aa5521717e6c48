"""The contact sheet: one row per name, its first pictures, red frames for those that were not accepted."""

import torch

from clip_unlearn.synthesis.album import Album
from clip_unlearn.synthesis.contact import MOST, SIDE, as_image, contact_sheet

BLUE, RED = (51, 102, 255), (200, 0, 0)


def album(counts: tuple[int, ...], *, side: tuple[int, int] = (8, 8)) -> Album:
    """Return an album of blue pictures; every second one was accepted."""
    count = sum(counts)
    pixels = torch.tensor(BLUE).view(1, 3, 1, 1).expand(count, 3, *side) / 255
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return Album(
        names=tuple("name, " + "鳥" * index for index in range(len(counts))),
        pixels=pixels,
        embeddings=torch.ones(count, 2),
        labels=labels,
        probabilities=torch.ones(count),
        accepted=torch.arange(count) % 2 == 0,
        steps=torch.ones(count),
        threshold=0.5,
        most_steps=9,
    )


def test_pixels_become_levels():
    pixels = torch.tensor([[[0.0, 0.2, 1.0]], [[0.501, 0.4, 0.0]], [[1.0, 1.0, 0.1]]])
    image = as_image(pixels)
    assert image.size == (3, 1)
    assert [image.getpixel((column, 0)) for column in range(3)] == [(0, 128, 255), (51, 102, 255), (255, 0, 26)]


def test_a_row_for_every_name():
    sheet = contact_sheet(album((5, 3)))
    row = sheet.height // 2
    found = [
        sum(sheet.getpixel((2 + place * (SIDE + 2) + SIDE // 2, top + 16 + SIDE // 2)) == BLUE for place in range(5))
        for top in (0, row)
    ]
    assert found == [5, 3]


def test_what_was_not_accepted_is_framed():
    sheet = contact_sheet(album((4,)))
    corners = [sheet.getpixel((3 + place * (SIDE + 2), 17)) for place in range(4)]
    assert corners == [BLUE, RED, BLUE, RED]


def test_long_rows_are_cut_and_wide_pictures_keep_their_shape():
    long = contact_sheet(album((MOST + 9,)))
    assert long.width == MOST * (SIDE + 2) + 2
    wide = contact_sheet(album((4,), side=(4, 8)))
    assert wide.height == 16 + SIDE // 2 + 2


def test_an_album_without_pictures():
    assert contact_sheet(album((0, 0))).height == 2 * (16 + SIDE + 2)
