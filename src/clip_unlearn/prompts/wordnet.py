"""Synonyms from a WordNet that the user has installed for NLTK. Nothing is ever downloaded."""

import warnings
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Final

from clip_unlearn.core.request import key
from clip_unlearn.errors import DataError, UnsupportedError

if TYPE_CHECKING:
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.data import PathPointer

LIMIT: Final = 8
"""At most this many synonyms are taken."""

_PLACES: Final = ("corpora/wordnet", "corpora/wordnet.zip/wordnet/")
"""Where NLTK keeps it: a folder, or the archive as it was downloaded."""

_WAY_OUT: Final = "python -m nltk.downloader wordnet, or name the synonyms yourself: 'sofa | couch'."


def available() -> bool:
    """Return True if NLTK can be imported and finds the corpus `wordnet` on disk."""
    try:
        _find(_paths())
    except UnsupportedError:
        return False
    return True


def synonyms(name: str) -> tuple[str, ...]:
    """Return the other words of the first, most frequent noun sense of a name, at most `LIMIT`; () when it has none.

    A plural finds its singular. Words are spelt as WordNet does, with spaces for underscores.
    Source: G. A. Miller, WordNet: A Lexical Database for English, 1995.

    Raises:
        UnsupportedError: if NLTK or its corpus is not installed, with the way out.
        DataError: if the corpus cannot be read.
    """
    words = (word.replace("_", " ") for word in _first_sense(key(name).replace(" ", "_")))
    return tuple(word for word in words if key(word) != key(name))[:LIMIT]


def _first_sense(form: str) -> list[str]:
    """Return the words of the first noun sense, as they stand in the corpus."""
    paths = _paths()
    root = _find(paths)
    from nltk.corpus.reader.wordnet import WordNetError

    try:
        reader = _reader(paths)
        with warnings.catch_warnings(action="ignore"):
            senses = reader.synsets(form, pos=reader.NOUN)
        if None in senses:
            raise ValueError(f"a sense of {form!r} is not where the index says")
        return senses[0].lemma_names() if senses else []
    except (OSError, ValueError, LookupError, AssertionError, StopIteration, WordNetError) as error:
        raise DataError(f"The WordNet at {root} cannot be read: {error!r}. Install it again: {_WAY_OUT}") from error


def _paths() -> tuple[str, ...]:
    try:
        from nltk import data
    except ImportError as error:
        raise UnsupportedError(
            f"WordNet is read by NLTK: pip install 'clip-unlearn[wordnet]'. Then {_WAY_OUT}"
        ) from error
    return tuple(str(path) for path in data.path)


def _find(paths: tuple[str, ...]) -> "PathPointer":
    from nltk import data

    for place in _PLACES:
        try:
            return data.find(place, list(paths))
        except LookupError:
            continue
    raise UnsupportedError(f"NLTK finds no WordNet on this machine. Install it with {_WAY_OUT}")


@lru_cache(maxsize=1)
def _reader(paths: tuple[str, ...]) -> "WordNetCorpusReader":
    """Return the corpus, opened once: that takes seconds."""
    from nltk.corpus import CorpusReader, LazyCorpusLoader
    from nltk.corpus.reader.wordnet import WordNetCorpusReader
    from nltk.data import SeekableUnicodeStreamReader

    class InMemory(WordNetCorpusReader):  # type: ignore[misc]
        """Keeps the content of files where the original keeps files open that it never closes."""

        def open(self, file: str) -> SeekableUnicodeStreamReader:
            with super().open(file) as stream:
                return SeekableUnicodeStreamReader(BytesIO(stream.stream.read()), stream.encoding)

    # Never read: without it the original warns that it knows no other language.
    other_languages = LazyCorpusLoader("omw-1.4", CorpusReader, r".*/wn-data-.*\.tab", encoding="utf8")
    return InMemory(_find(paths), other_languages)
