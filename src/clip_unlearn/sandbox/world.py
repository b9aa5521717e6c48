"""Draws the pictures of the world: every one is a pure function of class, domain, split and index."""

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clip_unlearn.sandbox.canvas import DRAWING_SIDE, Pose, place_parts
from clip_unlearn.sandbox.classes import CLASS_NAMES, COLORS, DOMAINS, PLACES, SPLITS, find_class
from clip_unlearn.sandbox.media import Scene, draw_painting, draw_photo, draw_sketch
from clip_unlearn.sandbox.shapes import animals, buildings, fruits, garments, tools, vehicles, vessels
from clip_unlearn.sandbox.shapes.parts import Part

Shape: TypeAlias = Callable[[np.random.Generator], tuple[Part, ...]]

_SEED: Final = 20_240
_SHAPES: Final[dict[str, Shape]] = {
    name: getattr(module, name)
    for module in (vessels, animals, vehicles, fruits, tools, garments, buildings)
    for name in CLASS_NAMES
    if hasattr(module, name)
}
_MEDIA: Final[dict[str, Callable[[Scene, np.random.Generator], NDArray[np.uint8]]]] = {
    "photo": draw_photo,
    "painting": draw_painting,
    "sketch": draw_sketch,
}
_UPRIGHT_TURN: Final = 0.3
_FREE_TURN: Final = 0.75


@final
@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture and what is in it."""

    pixels: NDArray[np.uint8]
    """RGB [side, side, 3]."""

    class_name: str
    domain: str
    split: str
    index: int
    color: str
    """Colour word of the thing. A sketch is grey whatever this says."""

    place: str
    """Word for what it stands on. A sketch shows plain paper whatever this says."""

    size: str
    """`small`, `medium` or `large`."""


def render(class_name: str, domain: str, split: str, index: int) -> Picture:
    """Return one picture; the same arguments give the same bytes in every process.

    Raises:
        ValueError: if the class, domain or split is unknown, or `index` is negative.
    """
    find_class(class_name)
    if domain not in DOMAINS:
        raise ValueError(f"The world has no domain {domain!r}. Use one of: {', '.join(DOMAINS)}.")
    if split not in SPLITS:
        raise ValueError(f"The world has no split {split!r}. Use one of: {', '.join(SPLITS)}.")
    if index < 0:
        raise ValueError(f"A picture's index counts from 0; {index} is negative.")
    key = (_SEED, CLASS_NAMES.index(class_name), DOMAINS.index(domain), SPLITS.index(split), index)
    random = np.random.default_rng(key)
    color = list(COLORS)[int(random.integers(len(COLORS)))]
    place = PLACES[int(random.integers(len(PLACES)))]
    size, pose = _pose(find_class(class_name).group, random)
    parts = _SHAPES[class_name](random)
    wobble = random.normal(0.0, 0.7, (sum(len(part.points) for part in parts), 2))
    scene = Scene(parts=tuple(place_parts(parts, pose, wobble)), pose=pose, color=COLORS[color], place=place)
    pixels = _MEDIA[domain](scene, random)
    pixels.flags.writeable = False
    return Picture(
        pixels=pixels, class_name=class_name, domain=domain, split=split, index=index,
        color=color, place=place, size=size,
    )  # fmt: skip


@functools.cache
def digest() -> str:
    """Return the sha256, in hexadecimal, of the sources that decide pictures and sentences."""
    folder = Path(__file__).parent
    names = ("classes.py", "textures.py", "canvas.py", "media.py", "sentences.py", "world.py")
    total = hashlib.sha256()
    for path in [*(folder / name for name in names), *sorted((folder / "shapes").glob("*.py"))]:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def _pose(group: str, random: np.random.Generator) -> tuple[str, Pose]:
    fraction = random.uniform(0.58, 0.94)
    size = "small" if fraction < 0.69 else "large" if fraction > 0.83 else "medium"
    radius = fraction * DRAWING_SIDE / 2
    room = (DRAWING_SIDE / 2 - radius) + 4
    limit = _FREE_TURN if group in ("tool", "fruit") else _UPRIGHT_TURN
    pose = Pose(
        x=DRAWING_SIDE / 2 + random.uniform(-room, room),
        y=DRAWING_SIDE / 2 + random.uniform(-room, room),
        radius=radius,
        stretch=math.exp(random.uniform(-0.13, 0.13)),
        turn=random.uniform(-limit, limit),
        flipped=bool(random.random() < 0.5),
    )
    return size, pose


def as_image(picture: Picture) -> Image.Image:
    """Return the picture as a Pillow image."""
    return Image.fromarray(np.ascontiguousarray(picture.pixels))
