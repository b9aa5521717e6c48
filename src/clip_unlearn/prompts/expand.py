"""Template sets and common nouns: data files, a file of the user's, or a sentence as it is."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from clip_unlearn.errors import DataError, UnknownNameError, UnsupportedError, nearest
from clip_unlearn.prompts import thesaurus

IMAGENET = "openai_imagenet"


def template_sets() -> tuple[str, ...]:
    """Return the names of all template sets: our own, and the 80 ImageNet sentences that open_clip brings."""
    own = (path.name.removesuffix(".txt") for path in _folder("templates").iterdir() if path.suffix == ".txt")
    return (*sorted(own), IMAGENET)


def templates(spec: str) -> tuple[str, ...]:
    """Return the sentences of a template set, of a text file with one per line, or the one sentence given.

    Raises:
        UnsupportedError: for `openai_imagenet` without open_clip.
        UnknownNameError: if it is no set, no file and no sentence with {}, with the nearest set.
    """
    if "{}" in spec:
        return (spec,)
    if spec == IMAGENET:
        return _imagenet()
    if spec in template_sets():
        return _lines(_folder("templates") / f"{spec}.txt")
    if Path(spec).is_file():
        return _lines(Path(spec))
    known = template_sets()
    raise UnknownNameError(
        f"Unknown template set '{spec}'.{nearest(spec, known)} Give a file, a sentence with {{}}, or one of: "
        f"{', '.join(known)}."
    )


def common_nouns(*, without: Iterable[str] = ()) -> tuple[str, ...]:
    """Return about 1,200 common nouns, the first names of the lines of `vocabulary/nouns.txt`, without what is named.

    They stand for "everything else" where the user names nothing to retain. For each name in `without`, the nouns are
    left out that would hold in place what is to be forgotten:

    - the noun itself and every noun that has the name as a synonym: "sofa" for "couch";
    - a noun that is a word of the name, because the name is probably a kind of it: "train" for "steam train";
    - a noun that ends with the name, or with a synonym of it, as whole words, because it is a kind of the name: "polar
      bear" for "bear". "teacup" stays for "cup".

    Case, spaces, hyphens and plurals make no difference. All of this rather leaves out too much than too little: "hot
    dog" goes with "dog".
    """
    return tuple(names[0] for names in thesaurus.without_same(without))


def _folder(name: str) -> Path:
    return Path(str(files("clip_unlearn"))) / "prompts" / name


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    return tuple(line.strip() for line in lines if line.strip())


def _imagenet() -> tuple[str, ...]:
    try:
        import open_clip
    except ImportError as error:
        raise UnsupportedError(
            f"'{IMAGENET}' comes with open_clip: pip install 'clip-unlearn[openclip]'. Or use 'varied'."
        ) from error
    return tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
