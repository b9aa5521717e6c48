"""Three disjoint parts of a set: to stop on, to select on, to report on. Equal images always fall into one part."""

from collections.abc import Iterable
from itertools import combinations
from typing import Final, Literal, TypeAlias

from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import DataError

Part: TypeAlias = Literal["stop", "select", "audit"]

EVERY: Final = 4
"""Every fourth image of a class that is learned from, by digest, is only looked at."""

_DEAL: Final[tuple[Part, ...]] = ("audit", "stop", "audit", "select")


def split(images: ImageSet, part: Part) -> ImageSet:
    """Return one of three disjoint parts: a quarter to stop on, a quarter to select on, half to audit.

    The distinct contents of every class, ordered by domain and digest, are dealt out in turn; so equal images share a
    part whatever their names, order does not matter, and a class of four or more distinct images is in every part.
    An image that stands in several classes is dealt with the first of them.

    Raises:
        DataError: if the part would be empty.
    """
    part_of = _dealt(images)
    chosen = [index for index, content in enumerate(images.contents) if part_of[content] == part]
    if not chosen:
        raise DataError(f"{images.where}: its {len(images)} images leave none for the '{part}' part. Give more images.")
    return images.take(chosen)


def check_disjoint(**named_sets: ImageSet) -> None:
    """Check that no two sets share an image, by the content of the encoded bytes.

    Raises:
        DataError: naming two sets and one image that is in both.
    """
    by_content = {
        name: dict(zip(reversed(images.contents), reversed(images.keys), strict=True))
        for name, images in named_sets.items()
    }
    for (first, ours), (second, theirs) in combinations(by_content.items(), 2):
        shared = next((content for content in ours if content in theirs), None)
        if shared is not None:
            raise DataError(
                f"Sets '{first}' and '{second}' share an image: '{ours[shared]}' is '{theirs[shared]}'. "
                "Measure on images that were not learnt from."
            )


def learned_and_held(images: ImageSet, chosen: Iterable[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the rows to learn from and those to look at: every fourth of each class by digest, at least one of two."""
    groups: dict[int, list[int]] = {}
    for row in chosen:
        groups.setdefault(images.labels[row] if images.labels else 0, []).append(row)
    apart: dict[str, bool] = {}
    for rows in groups.values():
        contents = sorted({images.contents[row] for row in rows})  # equal images stay together
        last = min(EVERY, len(contents)) - 1
        for place, content in enumerate(contents):
            apart.setdefault(content, place % EVERY == last and len(contents) > 1)
    learn, held = (
        tuple(row for rows in groups.values() for row in rows if apart[images.contents[row]] is wanted)
        for wanted in (False, True)
    )
    return tuple(sorted(learn)), tuple(sorted(held))


def _dealt(images: ImageSet) -> dict[str, Part]:
    groups: dict[int, dict[str, str]] = {}
    for index, content in enumerate(images.contents):
        label = images.labels[index] if images.labels else 0
        domain = images.domains[index] if images.domains else ""
        members = groups.setdefault(label, {})
        members[content] = min(domain, members.get(content, domain))
    part_of: dict[str, Part] = {}
    for label in sorted(groups):
        fresh = sorted((domain, content) for content, domain in groups[label].items() if content not in part_of)
        part_of.update((content, _DEAL[place % len(_DEAL)]) for place, (_, content) in enumerate(fresh))
    return part_of
