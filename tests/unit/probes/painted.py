"""Pictures of one colour each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def paint(folder: Path, shown: Mapping[str, Sequence[str]], mark: int = 7) -> str:
    """Write pictures of the given colours for each class, no two with the same bytes, and return where they are.

    Pictures of another `mark` have other bytes.
    """
    for place, (name, colours) in enumerate(shown.items()):
        (folder / name).mkdir(parents=True)
        for number, colour in enumerate(colours):
            picture = Image.new("RGB", (8, 8), COLOURS[colour])
            picture.putpixel((0, 0), (number, place, mark))
            picture.save(folder / name / f"{number}.png")
    return str(folder)
