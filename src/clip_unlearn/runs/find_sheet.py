"""Found images to look at: one sheet with those chosen and those just below the threshold."""

from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageDraw

from clip_unlearn.data.images import ImageSet

SIDE: Final = 96
"""Longer side of a picture on the sheet."""

COLUMNS: Final = 12

MOST: Final = 60
"""Chosen pictures on the sheet; of more, the most and the least probable."""

BELOW: Final = 24
"""Pictures below the threshold on the sheet."""

_GAP: Final = 4
_LINE: Final = 14
_WHITE, _BLACK, _RED = (255, 255, 255), (0, 0, 0), (200, 0, 0)


def found_sheet(
    images: ImageSet, chosen: Sequence[tuple[int, float]], below: Sequence[tuple[int, float]], title: str
) -> Image.Image:
    """Return one sheet: the chosen images in the order given, then those below in red, each under its probability.

    `chosen` and `below` are rows of the set with probabilities, most probable first.
    """
    groups = [(f"{title}: {len(chosen)} chosen", part, _BLACK) for part in [chosen[:MOST]]]
    if len(chosen) > MOST:
        half = MOST // 2
        groups = [
            (f"{title}: {len(chosen)} chosen, the {half} most probable", chosen[:half], _BLACK),
            (f"the {half} least probable of them", chosen[-half:], _BLACK),
        ]
    if below:
        shown = below[:BELOW]
        groups.append((f"not chosen: the {len(shown)} next ones", shown, _RED))
    heights = [_LINE + _GAP + _rows(part) * (SIDE + _LINE + _GAP) for _, part, _ in groups]
    sheet = Image.new("RGB", (COLUMNS * (SIDE + _GAP) + _GAP, sum(heights)), _WHITE)
    top = 0
    for (heading, part, colour), height in zip(groups, heights, strict=True):
        ImageDraw.Draw(sheet).text((_GAP, top + 2), _plain(heading), fill=colour)
        _draw(sheet, images, part, top + _LINE + _GAP, colour)
        top += height
    return sheet


def _draw(
    sheet: Image.Image, images: ImageSet, part: Sequence[tuple[int, float]], top: int, colour: tuple[int, int, int]
) -> None:
    draw = ImageDraw.Draw(sheet)
    for place, (row, probability) in enumerate(part):
        left, above = _GAP + place % COLUMNS * (SIDE + _GAP), top + place // COLUMNS * (SIDE + _LINE + _GAP)
        picture = images.picture(row)
        scale = SIDE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        draw.text((left, above), f"{probability:.3f}", fill=colour)
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, above + _LINE))
        if colour == _RED:
            draw.rectangle(
                (left, above + _LINE, left + size[0] - 1, above + _LINE + size[1] - 1), outline=_RED, width=3
            )


def _rows(part: Sequence[tuple[int, float]]) -> int:
    return -(-len(part) // COLUMNS)


def _plain(text: str) -> str:
    """Return the text with the letters that the built-in font has; others become question marks."""
    return text.encode("latin-1", errors="replace").decode("latin-1")
