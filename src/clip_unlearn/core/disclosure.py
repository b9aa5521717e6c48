"""What still gives a forgotten class away, said in plain sentences from the facts about an edit. Torch-free."""

from collections.abc import Mapping
from typing import Final

from clip_unlearn.core.record import Edit, Reach

KINDS: Final[Mapping[Edit, str]] = {
    "suppress": "suppress: a patch beside an unchanged base model; whoever has both can take the edit off again",
    "erase": "erase: a checkpoint handed out alone, with the edit in its weights; that the class is gone was not shown",
}
"""What each kind of edit is, for readers of records and cards."""

_BASE: Final[Mapping[Edit, str]] = {
    "suppress": "The base model is unchanged: whoever has it has the class, and whoever has the patch too can take the "
    "edit off.",
    "erase": "Copies of the base model that were published or handed out before still have the class, and with one of "
    "them the edit can be taken off this checkpoint.",
}
_NOTHING: Final = "Nothing was changed: the class is in the model as before."
_UNKNOWN: Final = (
    "How deep the edit goes is not recorded. Take it for an edit of the last layer, which leaves the layers below as "
    "they were."
)
_READOUT: Final = (
    "Only the last layer was changed. The layers below still tell the class apart: a probe on them or an assistant "
    "that reads them sees it, and a last layer that is fitted again on other data brings it back."
)
_GENERATORS: Final = (
    "Image generators that read the token states of the text side, Stable Diffusion 1.x among them, do not go through "
    "the last layer: nothing changes for them."
)
_INVERTIBLE: Final = (
    "The edit is a linear map that can be inverted: the class is moved in the embedding, not taken out, and a "
    "classifier trained on edited embeddings can still find it."
)
_ENCODER: Final = (
    "Layers below the last one were changed, which does not show that the class is gone from them: a probe, or some "
    "training on pictures of the class, may bring it back."
)
_SIDES: Final[Mapping[tuple[str, ...], str]] = {
    ("image",): "Only the image side was edited: searching texts with a text, and whatever else uses the text side "
    "alone, works as before.",
    ("text",): "Only the text side was edited: pictures have the embeddings they had, so searching pictures with a "
    "picture, grouping them, and classifiers trained on them work as before.",
}
_STORED: Final = (
    "Embeddings, indexes and caches that were made before the edit keep the class until they are made again "
    "(clip-unlearn reembed maps stored ones, where the edit is one of the last layer)."
)
_DISCLOSED: Final = (
    "The changed weights disclose what was forgotten: compared with the base model they point at the class, and "
    "trying a list of names finds which. Treat them as confidentially as the request."
)
_NAMES: Final = "Names, descriptions, languages and misspellings that were not listed may still work."


def leaks(reach: Reach | None, edit: Edit) -> tuple[str, ...]:
    """Return what still gives the forgotten away, the weightiest first.

    `reach` says how far the edit goes, and None that it is not known; `edit` says what is handed out. The sentences
    follow from these facts alone; what a measurement found is not among them.
    """
    if reach is not None and reach.depth == "none":
        return (_NOTHING,)
    lines = [_BASE[edit]]
    if reach is None:
        lines.append(_UNKNOWN)
    elif reach.depth == "encoder":
        lines.append(_ENCODER)
    else:
        lines += [_READOUT, _GENERATORS]
    if reach is not None and reach.invertible:
        lines.append(_INVERTIBLE)
    if reach is not None and reach.towers in _SIDES:
        lines.append(_SIDES[reach.towers])
    return (*lines, _STORED, _DISCLOSED, _NAMES)
