"""One set of images, decoded only when asked for. Torch-free."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final, overload

from PIL.Image import Image

from clip_unlearn.core.request import key
from clip_unlearn.data.decode import decode
from clip_unlearn.errors import DataError, nearest
from clip_unlearn.files import digest


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class OnDemand(Sequence[tuple[str, ...]]):
    """Captions that are made when they are read, and that the content digest of their image determines."""

    length: int
    make: Callable[[int], tuple[str, ...]]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[tuple[str, ...], ...]: ...

    def __getitem__(self, index: int | slice) -> tuple[str, ...] | tuple[tuple[str, ...], ...]:
        if isinstance(index, slice):
            return tuple(self.make(each) for each in range(self.length)[index])
        return self.make(range(self.length)[index])


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images with what is known about them: a class, captions, a domain. Pixels are decoded on request only.

    Raises:
        ValueError: if the columns differ in length, a key stands twice, or a label is no index into `classes`.
    """

    where: str
    """The data source, as `open_data` understands it."""

    keys: tuple[str, ...]
    """One readable name per image, unique in the set."""

    classes: tuple[str, ...] = ()
    """Class names as a model is shown them; () without labels."""

    labels: tuple[int, ...] = ()
    """Index into `classes` of every image; () without labels."""

    captions: Sequence[tuple[str, ...]] = ()
    """Sentences about every image, a tuple or `OnDemand`; () without captions."""

    domains: tuple[str, ...] = ()
    """Domain of every image; () without domains."""

    picture: Callable[[int], Image]
    """Decode one image to RGB; raises DataError "key: reason" when it cannot."""

    content: Callable[[int], str]
    """SHA-256 of the encoded bytes of one image, without decoding it."""

    def __post_init__(self) -> None:
        for column in (self.labels, self.captions, self.domains):
            if len(column) not in (0, len(self.keys)):
                raise ValueError(f"{self.where}: {len(column)} entries for {len(self.keys)} images")
        if len(set(self.keys)) != len(self.keys):
            raise ValueError(f"{self.where}: a key stands twice")
        if any(not 0 <= label < len(self.classes) for label in self.labels):
            raise ValueError(f"{self.where}: a label is no index into the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """Return the content digest of every image, read once."""
        return tuple(self.content(index) for index in range(len(self)))

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 over contents, classes, labels, domains and captions, in order; keys do not count."""
        captions = None if isinstance(self.captions, OnDemand) else self.captions
        return digest.of_json([self.contents, self.classes, self.labels, self.domains, captions])

    def take(self, indices: Iterable[int]) -> "ImageSet":
        """Return the set of the images at `indices`, in that order; classes stay as they are.

        Raises:
            IndexError: if an index is out of range.
            ValueError: if an index stands twice.
        """
        chosen = tuple(range(len(self))[index] for index in indices)
        known: tuple[str, ...] | None = self.__dict__.get("contents")
        content = self.content if known is None else known.__getitem__
        return replace(
            self,
            keys=tuple(self.keys[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen) if self.labels else (),
            captions=_take_captions(self.captions, chosen),
            domains=tuple(self.domains[index] for index in chosen) if self.domains else (),
            picture=lambda index: self.picture(chosen[index]),
            content=lambda index: content(chosen[index]),
        )

    def class_index(self, name: str) -> int:
        """Return the index of a class; case, spaces and underscores are folded.

        Raises:
            DataError: if no class has this name, with the nearest one.
        """
        wanted = key(name)
        for index, known in enumerate(self.classes):
            if key(known) == wanted:
                return index
        if not self.classes:
            raise DataError(f"Class '{name}' is not in {self.where}: it has no class labels. Give labelled images.")
        options = nearest(name, self.classes) or f" The first is '{self.classes[0]}'."
        raise DataError(f"Class '{name}' is not in the data: {self.where} has {len(self.classes)} classes.{options}")


def from_encoded(
    *,
    where: str,
    keys: Sequence[str],
    read: Callable[[int], bytes],
    classes: Sequence[str] = (),
    labels: Sequence[int] = (),
    captions: Sequence[tuple[str, ...]] = (),
    domains: Sequence[str] = (),
) -> ImageSet:
    """Return the set of images whose encoded bytes `read` gives; it raises DataError "key: reason" when it cannot.

    An image that cannot be read has a content digest of its own, made from its key, so that the set still has one.
    """

    def content(index: int) -> str:
        try:
            return hashlib.sha256(read(index)).hexdigest()
        except DataError:
            return digest.of_bytes(b"unreadable", keys[index].encode())

    return ImageSet(
        where=where,
        keys=tuple(keys),
        classes=tuple(classes),
        labels=tuple(labels),
        captions=tuple(captions) if any(captions) else (),
        domains=tuple(domains),
        picture=lambda index: decode(read(index), keys[index]),
        content=content,
    )


def _take_captions(captions: Sequence[tuple[str, ...]], chosen: tuple[int, ...]) -> Sequence[tuple[str, ...]]:
    if isinstance(captions, OnDemand):
        return OnDemand(length=len(chosen), make=lambda index: captions[chosen[index]])
    return tuple(captions[index] for index in chosen) if captions else ()
