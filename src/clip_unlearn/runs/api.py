"""The two calls for Python users. No logic of their own: they put the nouns together."""

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from clip_unlearn import methods
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Request
from clip_unlearn.data.names import parse_concept, read_names
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import templates
from clip_unlearn.runs.evaluate import compare, zero_shot
from clip_unlearn.runs.names import OtherNames, completed
from clip_unlearn.runs.recipe import DEFAULT_METHOD, DataChoice
from clip_unlearn.runs.run import make_patch


def unlearn(
    model: "str | Path | nn.Module | Model",
    forget: str | Sequence[str],
    *,
    retain: str | Sequence[str] = (),
    method: str | Method = DEFAULT_METHOD,
    template: str = "photo",
    other_names: OtherNames = "auto",
    seed: int = 0,
) -> Patch:
    """Return the patch that makes a model forget classes by name.

    `forget` and `retain` are names, or a text file with one name per line; "mug | beaker" is a name with a synonym.
    Other names that a thesaurus has for it, and that the model knows, are forgotten with it unless `other_names` is
    "none". About 1,200 common nouns are held in place besides `retain`. `method` is a name with default settings, or a
    method with settings of its own. Nothing is measured and nothing is written.

    Raises:
        InputError: if a name, model or method is not usable, with the way out.
    """
    forget_names = read_names(forget) if isinstance(forget, str) else tuple(forget)
    concepts = tuple(parse_concept(name) for name in forget_names)
    retain_names = read_names(retain) if isinstance(retain, str) else tuple(retain)
    chosen = methods.find(method)() if isinstance(method, str) else method
    request = Request(forget=concepts, retain=retain_names, templates=templates(template), seed=seed)
    opened = open_model(model)
    return make_patch(opened, completed(opened, request, other_names=other_names, background="nouns"), chosen)


def evaluate(
    model: "str | Path | nn.Module | Model", data: str, *, patch: Patch | None = None, template: str = "photo"
) -> tuple[Reading, ...]:
    """Return readings on labelled images: of the model, or, with a patch, before, after and paired.

    Raises:
        InputError: if the model, the data or the patch is not usable, with the way out.
    """
    opened = open_model(model)
    if patch is None or patch.origin is None:
        edited = opened if patch is None else patch.apply(opened)
        return zero_shot(edited, data, templates=templates(template))
    return compare(opened, patch.apply(opened), patch.origin.request, data=DataChoice(path=data))
