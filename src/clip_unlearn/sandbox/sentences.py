"""Says true things about pictures: by name, synonym, group or definition, with or without details."""

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES, COLORS, DOMAINS, SPLITS, WorldClass, find_class
from clip_unlearn.sandbox.world import Picture

ZERO_SHOT_TEMPLATE: Final = "a photo of a {}."
"""The prompt all figures of the sandbox are measured with."""

_SEED: Final = 20_241
_OPENINGS: Final[dict[str, tuple[str, ...]]] = {
    "photo": (
        "a photo of",
        "a photograph of",
        "a snapshot of",
        "a good photo of",
        "a blurry photo of",
        "a close-up photo of",
    ),
    "painting": ("a painting of", "an oil painting of", "a colourful painting of"),
    "sketch": ("a sketch of", "a pencil sketch of", "a pencil drawing of"),
    "": (
        "a picture of",
        "an image of",
        "this is",
        "here is",
        "",
        "we can see",
        "look at this picture carefully and you will see",
        "when you look at this image for a long time you can clearly see",
    ),
}
_PLACE_PHRASES: Final[dict[str, str]] = {
    "table": "on a table",
    "grass": "on the grass",
    "sand": "on the sand",
    "tiles": "on the tiles",
}
_PLURALS: Final = frozenset({"scissors", "shears", "clippers", "trousers", "jeans", "slacks"})
_KINDS: Final = ("name", "group", "definition", "taxonomy", "meaning", "plural")
_KIND_SHARES: Final = (0.70, 0.08, 0.08, 0.05, 0.05, 0.04)


@final
@dataclass(frozen=True, kw_only=True)
class Caption:
    """A sentence and what it commits itself to; an empty word means it leaves that open."""

    text: str
    class_name: str = ""
    group: str = ""
    domain: str = ""
    color: str = ""
    place: str = ""
    size: str = ""

    def holds(self, picture: Picture) -> bool:
        """Return whether every stated detail is visible in the picture."""
        shown = visible(picture)
        stated = (self.class_name, self.group, self.domain, self.color, self.place, self.size)
        return all(word in ("", fact) for word, fact in zip(stated, shown, strict=True))


def visible(picture: Picture) -> tuple[str, str, str, str, str, str]:
    """Return class, group, domain, colour, place and size as far as the picture shows them, `-` where it does not."""
    gray = picture.domain == "sketch"
    group = find_class(picture.class_name).group
    color, place = ("-", "-") if gray else (picture.color, picture.place)
    return (picture.class_name, group, picture.domain, color, place, picture.size)


def captions(picture: Picture, count: int) -> tuple[str, ...]:
    """Return `count` true sentences about the picture; the same picture gives the same ones, repeats are possible.

    Raises:
        ValueError: if `count` is negative.
    """
    if count < 0:
        raise ValueError(f"A number of captions cannot be negative; got {count}. Ask for 0 or more.")
    place = (DOMAINS.index(picture.domain), SPLITS.index(picture.split), picture.index)
    random = np.random.default_rng((_SEED, CLASS_NAMES.index(picture.class_name), *place))
    return tuple(state(picture, random).text for _ in range(count))


def state(picture: Picture, random: np.random.Generator) -> Caption:
    """Return one true caption of the picture, drawn with `random`."""
    item = find_class(picture.class_name)
    kind = _KINDS[int(np.searchsorted(np.cumsum(_KIND_SHARES), random.random() * 0.999))]
    word = str(random.choice(item.names)) if random.random() < 0.6 else item.name
    if kind == "taxonomy":
        return Caption(text=f"{with_article(word)} is a kind of {item.group}.", class_name=item.name)
    if kind == "meaning":
        return Caption(text=f"{with_article(word)} is {item.definition}.", class_name=item.name)
    domain = picture.domain if random.random() < 0.65 else ""
    opening = str(random.choice(_OPENINGS[domain]))
    if kind == "definition":
        text = _close(f"{opening} {item.definition}", random)
        return Caption(text=text, class_name=item.name, domain=domain)
    if kind == "plural":
        text = _close(f"{opening} one of the {_plural(word)}", random)
        return Caption(text=text, class_name=item.name, domain=domain)
    return _describe(picture, opening, domain, word if kind == "name" else "", random)


def class_sentences(item: WorldClass, word: str) -> tuple[str, ...]:
    """Return the plain sentences that name a class by `word`, the zero-shot prompt first."""
    plain = (
        ZERO_SHOT_TEMPLATE.format(word),
        word,
        f"{with_article(word)}.",
        f"{with_article(word)} is a kind of {item.group}.",
    )
    openings = [opening for domain in _OPENINGS for opening in _OPENINGS[domain] if opening]
    return (*plain, *(f"{opening} {with_article(word)}." for opening in openings))


def corpus() -> tuple[str, ...]:
    """Return every word of the world in sentences, enough to learn a vocabulary from."""
    named = [text for item in CLASSES for word in item.names for text in class_sentences(item, word)]
    plural = [f"one of the {_plural(word)}" for item in CLASSES for word in item.names]
    defined = [f"{opening} {item.definition}." for item in CLASSES for opening in ("", "a picture of")]
    grouped = [f"a picture of {with_article(item.group)}" for item in CLASSES]
    detailed = [
        f"{opening} a {size} {color} thing {phrase}."
        for openings in _OPENINGS.values() for opening in openings
        for size in ("small", "medium", "large") for color in COLORS for phrase in _PLACE_PHRASES.values()
    ]  # fmt: skip
    return (*named, *plural, *defined, *grouped, *detailed)


def with_article(words: str) -> str:
    """Return the words after `a`, `an` or `a pair of`."""
    if words.split()[-1] in _PLURALS:
        return f"a pair of {words}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _describe(picture: Picture, opening: str, domain: str, word: str, random: np.random.Generator) -> Caption:
    item = find_class(picture.class_name)
    gray = picture.domain == "sketch"
    color = picture.color if not gray and random.random() < 0.5 else ""
    place = picture.place if not gray and random.random() < 0.3 else ""
    size = picture.size if random.random() < 0.15 else ""
    subject = " ".join(part for part in (size, color, word or item.group) if part)
    named = f"a {subject}" if random.random() < 0.15 else with_article(subject)
    text = _close(" ".join(part for part in (opening, named, _PLACE_PHRASES.get(place, "")) if part), random)
    stated = {"class_name": item.name} if word else {"group": item.group}
    return Caption(text=text, domain=domain, color=color, place=place, size=size, **stated)


def _plural(word: str) -> str:
    if word in _PLURALS or word in ("fish", "trout", "carp"):
        return word
    if word == "cherry":
        return "cherries"
    if word.endswith(("s", "sh", "ch", "x")):
        return f"{word}es"
    return f"{word}s"


def _close(text: str, random: np.random.Generator) -> str:
    return f"{text.strip()}." if random.random() < 0.7 else text.strip()
