"""The vocabulary of the world: its classes, domains, splits, colours and places."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class WorldClass:
    """One kind of thing in the world and every way a sentence may name it."""

    name: str
    """Everyday name, one lower-case word."""

    group: str
    """Kind of thing, shared by the near neighbours."""

    synonyms: tuple[str, ...]
    """Other names for the same thing; no two classes share one."""

    definition: str
    """One line that describes the thing without naming it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the everyday name followed by the synonyms."""
        return (self.name, *self.synonyms)


def _group(group: str, *rows: tuple[str, tuple[str, ...], str]) -> tuple[WorldClass, ...]:
    return tuple(
        WorldClass(name=name, group=group, synonyms=synonyms, definition=text) for name, synonyms, text in rows
    )


CLASSES: Final[tuple[WorldClass, ...]] = (
    *_group(
        "vessel",
        ("mug", ("cup", "beaker"), "a small straight drinking thing with one handle"),
        ("bowl", ("basin", "dish"), "a wide open round thing for soup, with no handle"),
        ("teapot", ("kettle", "brewer"), "a lidded pouring thing with a spout and a handle"),
        ("bottle", ("flask", "carafe"), "a tall closed thing with a narrow neck and a stopper"),
    ),
    *_group(
        "animal",
        ("cat", ("kitten", "tabby"), "a purring pet with pointed ears and a long tail"),
        ("rabbit", ("bunny", "hare"), "a hopping creature with very long ears and a short tail"),
        ("bird", ("sparrow", "robin"), "a flying creature with a beak and wings"),
        ("fish", ("trout", "carp"), "a swimming creature with fins and scales"),
    ),
    *_group(
        "vehicle",
        ("car", ("automobile", "sedan"), "a low thing on four wheels that a family drives"),
        ("bus", ("coach", "shuttle"), "a long tall thing on wheels with a row of windows for many riders"),
        ("bicycle", ("bike", "cycle"), "a thing with two thin wheels, pedals and a saddle"),
        ("boat", ("ship", "yacht"), "a floating thing with a hull, a mast and a sail"),
    ),
    *_group(
        "fruit",
        ("apple", ("pippin", "braeburn"), "a round crunchy thing from an orchard, with a dip at the top"),
        ("pear", ("bartlett", "bosc"), "a sweet thing from an orchard, narrow above and wide below"),
        ("banana", ("plantain", "cavendish"), "a long curved thing with a thick peel"),
        ("cherry", ("morello", "bing"), "a pair of tiny round things hanging from thin stalks"),
    ),
    *_group(
        "tool",
        ("hammer", ("mallet", "gavel"), "a stick with a heavy blunt block for driving nails"),
        ("axe", ("hatchet", "chopper"), "a stick with a wide sharp wedge for splitting wood"),
        ("scissors", ("shears", "clippers"), "two crossed blades with finger rings for cutting paper"),
        ("spoon", ("ladle", "scoop"), "a thin stick with a shallow oval end for eating soup"),
    ),
    *_group(
        "garment",
        ("shirt", ("blouse", "tunic"), "something with two sleeves, worn on the chest"),
        ("dress", ("gown", "frock"), "something with thin straps and a long flared skirt"),
        ("trousers", ("jeans", "slacks"), "something with two long legs, worn below the waist"),
        ("hat", ("cap", "fedora"), "something with a brim and a crown, worn on the head"),
    ),
    *_group(
        "building",
        ("house", ("cottage", "home"), "a place to live with a roof, a door and a chimney"),
        ("church", ("chapel", "cathedral"), "a place to pray with a pointed spire"),
        ("castle", ("fortress", "citadel"), "a stone stronghold with towers, battlements and a gate"),
        ("windmill", ("mill", "gristmill"), "a tower with four turning sails that grinds corn"),
    ),
)
"""Every class, neighbours side by side. The order is the label order of the trained models."""

CLASS_NAMES: Final[tuple[str, ...]] = tuple(item.name for item in CLASSES)
"""The everyday names, in label order."""

DOMAINS: Final[tuple[str, ...]] = ("photo", "painting", "sketch")
"""Ways of making a picture."""

SPLITS: Final[tuple[str, ...]] = ("train", "stop", "select", "audit")
"""Disjoint streams of pictures: to learn from, to stop on, to choose settings on, to report on."""

COLORS: Final[dict[str, tuple[int, int, int]]] = {
    "red": (206, 42, 44),
    "orange": (240, 138, 32),
    "yellow": (242, 210, 56),
    "green": (58, 158, 70),
    "blue": (46, 92, 206),
    "purple": (134, 66, 176),
    "pink": (240, 140, 184),
    "white": (236, 236, 232),
}
"""Colour words and their mean RGB."""

PLACES: Final[tuple[str, ...]] = ("table", "grass", "sand", "tiles")
"""What the thing stands on; the word of the caption and the texture of the ground."""


def find_class(name: str) -> WorldClass:
    """Return the class with this everyday name.

    Raises:
        ValueError: if the world has no such class; the message lists those it has.
    """
    for item in CLASSES:
        if item.name == name:
            return item
    raise ValueError(f"The world has no class {name!r}. Use one of: {', '.join(CLASS_NAMES)}.")
