"""Draws every class in every domain on one sheet: `python -m clip_unlearn.sandbox.contact_sheet out.png`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from clip_unlearn.sandbox.canvas import SIDE
from clip_unlearn.sandbox.classes import CLASS_NAMES, DOMAINS
from clip_unlearn.sandbox.world import as_image, render

_LABEL_WIDTH = 64
_GAP = 2


def contact_sheet(split: str = "audit", *, per_domain: int = 4, columns: int = 2, zoom: int = 2) -> Image.Image:
    """Return one sheet: a labelled row of `per_domain` pictures of each domain for every class."""
    cell = SIDE * zoom + _GAP
    rows = -(-len(CLASS_NAMES) // columns)
    block = _LABEL_WIDTH + cell * per_domain * len(DOMAINS)
    sheet = Image.new("RGB", (block * columns, cell * rows), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(CLASS_NAMES):
        left, top = block * (number // rows), cell * (number % rows)
        draw.text((left + 4, top + cell // 2 - 6), name, fill=(0, 0, 0))
        for place in range(per_domain * len(DOMAINS)):
            picture = render(name, DOMAINS[place // per_domain], split, place % per_domain)
            large = as_image(picture).resize((SIDE * zoom, SIDE * zoom), Image.Resampling.NEAREST)
            sheet.paste(large, (left + _LABEL_WIDTH + cell * place, top))
    return sheet


def main(arguments: list[str] | None = None) -> int:
    """Write the sheet to the path given on the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m clip_unlearn.sandbox.contact_sheet", description=__doc__)
    parser.add_argument("path", type=Path, help="PNG file to write")
    parser.add_argument("--per-domain", type=int, default=4)
    parser.add_argument("--zoom", type=int, default=2)
    chosen = parser.parse_args(arguments)
    with tempfile.NamedTemporaryFile(dir=chosen.path.resolve().parent, suffix=".png", delete=False) as part:
        contact_sheet(per_domain=chosen.per_domain, zoom=chosen.zoom).save(part, format="PNG")
    os.replace(part.name, chosen.path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
