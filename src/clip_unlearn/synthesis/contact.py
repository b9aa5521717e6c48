"""Synthetic pictures to look at: as 8-bit images, and as a sheet with one row per name. n pictures, h x w a picture."""

from typing import Final

from PIL import Image, ImageDraw
from torch import Tensor

from clip_unlearn.synthesis.album import Album

SIDE: Final = 96
"""Longer side of a picture on the sheet."""

MOST: Final = 16
"""Pictures of each name on the sheet."""

_GAP: Final = 2
_HEADING: Final = 16
_LEAST_WIDTH: Final = 320
_WHITE, _BLACK, _RED = (255, 255, 255), (0, 0, 0), (200, 0, 0)


def as_image(pixels: Tensor) -> Image.Image:
    """Return a picture [3, h, w] in [0, 1] with 8 bits per channel."""
    levels = (pixels * 255).round().byte()
    height, width = levels.shape[1:]
    return Image.frombytes("RGB", (width, height), bytes(levels.permute(1, 2, 0).flatten().tolist()))


def contact_sheet(album: Album) -> Image.Image:
    """Return one sheet: for every name a heading and its first 16 pictures, those that were not accepted in red."""
    height, width = album.pixels.shape[2:]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    groups = [(album.labels == index).nonzero().flatten().tolist() for index in range(len(album.names))]
    columns = max(1, min(MOST, max(map(len, groups), default=0)))
    row, column = _HEADING + size[1] + _GAP, size[0] + _GAP
    sheet = Image.new("RGB", (max(_LEAST_WIDTH, columns * column + _GAP), max(1, row * len(groups))), _WHITE)
    draw = ImageDraw.Draw(sheet)
    for number, (name, group) in enumerate(zip(album.names, groups, strict=True)):
        accepted = int(album.accepted[group].sum())
        draw.text((_GAP, number * row + 2), f"{name}: {accepted} of {len(group)} accepted", fill=_BLACK)
        for place, index in enumerate(group[:MOST]):
            left, top = _GAP + place * column, number * row + _HEADING
            sheet.paste(as_image(album.pixels[index]).resize(size, Image.Resampling.LANCZOS), (left, top))
            if not album.accepted[index]:
                draw.rectangle((left, top, left + size[0] - 1, top + size[1] - 1), outline=_RED, width=3)
    return sheet
