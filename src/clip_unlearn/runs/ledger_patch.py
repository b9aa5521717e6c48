"""Opening a ledger for a model, and the one patch of all its live requests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from pydantic import ValidationError
from torch import nn

from clip_unlearn import methods
from clip_unlearn.core import ledger_file
from clip_unlearn.core.config import Config, build, name_of
from clip_unlearn.core.ledger import SCHEMA, Header, Ledger
from clip_unlearn.core.ledger_joint import joint_request, overruled
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.record import Source
from clip_unlearn.core.request import Concept, Request, key
from clip_unlearn.core.versions import version
from clip_unlearn.errors import DataError, UnsupportedError, WeightsError
from clip_unlearn.files import atomic
from clip_unlearn.models.open import open_model
from clip_unlearn.prompts.expand import common_nouns, templates
from clip_unlearn.runs.names import OtherNames, completed
from clip_unlearn.runs.recipe import DEFAULT_METHOD
from clip_unlearn.runs.run import make_patch

MANIFEST_FILE: Final = "ledger.json"
ALIGNMENT: Final = 64
NOTHING_LIVE: Final = "no request of the ledger is live"

BaseSource: TypeAlias = str | Path | nn.Module | Model
"""What `open_model` takes."""


@final
class Manifest(Config):
    """What a composed patch says about its ledger; the file `ledger.json` beside the patch."""

    schema_version: Literal[1] = 1
    head: str
    """Hash of the last entry when the patch was composed."""

    entries: int
    """How many entries there were, the header among them."""

    live: tuple[str, ...]
    """Ids of the live requests, sorted."""

    overruled: tuple[str, ...]
    """Names that were given to be retained, but that a live request forgets."""


def create(
    ledger: Path,
    model: BaseSource,
    *,
    method: str | Method = DEFAULT_METHOD,
    retain: Sequence[str] = (),
    other_names: OtherNames = "auto",
    template: str = "photo",
    seed: int = 0,
) -> Ledger:
    """Write a new ledger for a base model and return it; everything later requests share is fixed here.

    The background is the list of common nouns, as it is now, without what is retained.

    Raises:
        OutputError: if something is at `ledger` already.
        UnsupportedError: if the method learns from images, which a ledger does not hold, or does not fit the model.
        InputError: if the model, method, a template or a name is not usable.
    """
    ledger_file.check_free(ledger)
    chosen = methods.find(method)() if isinstance(method, str) else method
    if "images" in chosen.requires():
        raise UnsupportedError(
            f"{type(chosen).__name__} learns from images, and a ledger holds names only. Use another --method."
        )
    values = {
        "kind": "open",
        "schema_version": SCHEMA,
        "version": version(),
        "method": name_of(chosen),
        "settings": chosen.model_dump(mode="json"),
        "templates": templates(template),
        "retain": tuple(retain),
        "background": _nouns(retain),
        "other_names": other_names,
        "seed": seed,
    }
    # Everything cheap is checked before the model is opened.
    build(Header, {**values, "base": {"where": "not opened yet"}}, where="ledger")
    opened = open_model(model)
    base = Source(where=opened.source.where, revision=opened.source.revision, digest=opened.fingerprint)
    header = build(Header, {**values, "base": base}, where="ledger")
    lists = {"retain": header.retain[:1], "background": header.background[:1]}
    chosen.check(opened, Request(forget=(Concept(name="stand-in for a request"),), **lists))
    return ledger_file.create(ledger, header)


def _nouns(retain: Sequence[str]) -> tuple[str, ...]:
    kept = {key(name) for name in retain}
    return tuple(noun for noun in common_nouns() if key(noun) not in kept)


def compose(ledger: Path, out: Path, *, model: BaseSource | None = None, force: bool = False) -> tuple[Patch, Manifest]:
    """Write the patch folder of all live requests to `out`, with `ledger.json` in it, and return both.

    The edit is computed anew from the joint request, so it depends only on which requests are live: the bytes are
    those of a ledger that never had the undone ones, added in any order. When none is live the patch is empty and
    says so. `model` is where the base model is now, if it has moved.

    Raises:
        DataError: if the ledger is missing, changed or cut, or lacks entries that the patch at `out` was made from.
        WeightsError: if the model is not the one the ledger was opened for.
        OutputError: if `out` has content and `force` is not set.
        UnsupportedError: if the method cannot make the joint edit.
    """
    atomic.check_free(out, force=force)
    checked = ledger_file.read(ledger)
    check_manifest(checked, out, way="Restore the ledger from a copy, or choose another --out.")
    patch = joint_patch(checked, model=model)
    manifest = Manifest(
        head=checked.head,
        entries=len(checked.entries),
        live=tuple(sorted(addition.id for addition in checked.live)),
        overruled=overruled(checked.header, checked.live),
    )
    with atomic.new_folder(out, force=force) as folder:
        patch.write(folder)
        atomic.write_json(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))
    return patch, manifest


def joint_patch(ledger: Ledger, *, model: BaseSource | None = None) -> Patch:
    """Return the patch of all live requests, with its origin; empty, with the reason, if none is live.

    Raises:
        WeightsError: if the model is not the one the ledger was opened for.
        UnsupportedError: if the method cannot make the joint edit.
    """
    opened = open_base(ledger, model=model)
    if not ledger.live:
        return Patch(reason=NOTHING_LIVE)
    header = ledger.header
    method = build(methods.find(header.method), header.settings, where=f"method {header.method} of the ledger")
    request = completed(opened, joint(ledger), other_names=header.other_names, background="none")
    return make_patch(opened, request, method)


def joint(ledger: Ledger) -> Request:
    """Return the one request that all live requests of a ledger amount to, before other names are looked up.

    Raises:
        RequestError: if no request is live.
    """
    return joint_request(ledger.header, ledger.live, related=_related)


def _related(names: Sequence[str]) -> frozenset[str]:
    """Return the common nouns that are about something named."""
    return frozenset(common_nouns()) - frozenset(common_nouns(without=names))


def open_base(ledger: Ledger, *, model: BaseSource | None = None) -> Model:
    """Return the base model of a ledger, checked by its fingerprint and laid out so that equal weights act equally.

    Raises:
        WeightsError: if the model's weights are others than those the ledger was opened for.
    """
    base = ledger.header.base
    opened = open_model(base.where, revision=base.revision or None) if model is None else open_model(model)
    if opened.fingerprint != base.digest:
        raise WeightsError(
            f"The ledger is for {base.where} ({base.digest[:12]}), but {opened.source.where} has other weights "
            f"({opened.fingerprint[:12]}). Give the base model with --model, or create a ledger for this one."
        )
    return _aligned(opened)


def _aligned(model: Model) -> Model:
    """Return the model with every weight at an address that is a multiple of 64 bytes.

    Weights lie in memory as they lie in their file, and some kernels round differently at odd addresses; so a moved
    copy of the base model would give other bits.
    """
    odd = {name: weight.detach().clone() for name, weight in model.weights.items() if weight.data_ptr() % ALIGNMENT}
    return model.replace(odd) if odd else model


def check_manifest(ledger: Ledger, folder: Path, *, way: str) -> None:
    """Check that the ledger still has every entry that the patch in a folder was composed from, if it says so.

    So the last patch also guards the last lines of the ledger, whose loss no chain of hashes can show.

    Raises:
        DataError: if it lacks them, ending with the way out.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        return
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DataError(f"{path} does not say which ledger its patch is from. Remove it, and compose again.") from error
    if not ledger.holds(manifest.head):
        raise DataError(
            f"{folder} was composed from {manifest.entries} entries up to {manifest.head[:12]}..., which the ledger "
            f"does not have: entries are gone or were rewritten, or it is another ledger. {way}"
        )
