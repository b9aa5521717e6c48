"""The laws that every method keeps on every family of models.

A law takes a `Case` and raises AssertionError when it is broken. `vandals.py` holds, for each law, a method that breaks
just that one; `test_vandals.py` proves that the law notices and that no other does.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from torch import Tensor

from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.patch import Patch
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.images import ImageSet
from clip_unlearn.errors import InputError, RequestError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.intervals import wilson
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.scores import cosines, ranks
from clip_unlearn.maths.vectors import unit

FORMATS = (torch.float32, torch.float64, torch.bfloat16)
SENTENCES = ("a photo of a mug.", "a cat", "one very old teapot")
WAYS_OUT = (
    "Add",
    "Change",
    "Check",
    "Choose",
    "Fetch",
    "Fold",
    "Give",
    "Install",
    "Keep",
    "Name",
    "Remove",
    "Use",
    "Write",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method, a model, a request with everything a method may need, and pictures as pixels."""

    method: Method
    model: Model
    request: Request
    pixels: Tensor
    world: ImageSet | None = None
    """Labelled images that the model was trained to know; None for models with random weights."""

    def forget(self) -> Patch:
        return self.method.forget(self.model, self.request)

    @cached_property
    def patch(self) -> Patch:
        return self.forget()

    @cached_property
    def edited(self) -> Model:
        return self.patch.apply(self.model)


def weights_stay_as_they_are(case: Case) -> None:
    """1. Neither `forget` nor `apply` changes a byte of the model's weights."""
    before = bytes_of(case.model)
    patch = case.forget()
    assert bytes_of(case.model) == before, "forget changed the weights of the model"
    patch.apply(case.model)
    assert bytes_of(case.model) == before, "apply changed the weights of the model"


def same_inputs_give_same_bytes(case: Case) -> None:
    """2. The patch depends on model, request and settings alone; another seed gives a patch of the same form."""
    first, second = (forget_in_other_weather(case, seed) for seed in (1, 2))
    assert contents(first) == contents(second), "two runs with the same inputs gave different patches"
    reseeded = Request(**{**case.request.model_dump(), "seed": case.request.seed + 1})
    assert form(case.method.forget(case.model, reseeded)) == form(first), "another seed gives another kind of patch"


def a_saved_patch_acts_to_the_bit(case: Case) -> None:
    """3. A patch that was saved and loaded acts as the patch itself, to the bit."""
    with tempfile.TemporaryDirectory() as folder:
        case.patch.save_pretrained(Path(folder) / "patch")
        loaded = Patch.from_pretrained(Path(folder) / "patch").apply(case.model)
    assert loaded.fingerprint == case.edited.fingerprint, "the saved patch makes another model"
    assert acts_alike(loaded, case.edited, case.pixels), "the saved patch acts differently"


def untouched_weights_are_shared(case: Case) -> None:
    """4. A weight that the patch touches is a new tensor; every other one is the very same object."""
    touched = {id(case.model.weights[name]) for name in case.patch.deltas}
    for name, weight in case.model.weights.items():
        shared = case.edited.weights[name] is weight
        assert shared != (id(weight) in touched), f"'{name}' is {'shared' if shared else 'copied'}"


def folding_changes_nothing(case: Case) -> None:
    """5. Where a map folds into a weight, the folded patch gives the same embeddings up to rounding."""
    folded = case.patch.folded(case.model)
    if folded.touches != case.patch.touches:
        after = folded.apply(case.model)
        for name in ("images", "texts"):
            inputs = case.pixels if name == "images" else SENTENCES
            wanted = getattr(case.edited, name)(inputs)
            limit = 1e-4 * float(wanted.abs().max()) + 1e-6
            torch.testing.assert_close(getattr(after, name)(inputs), wanted, rtol=0, atol=limit)


def settings_rebuild_the_method(case: Case) -> None:
    """6. The dumped settings, also through YAML, give the method back, for every value tried of every setting."""
    for method in variants(case.method):
        rebuilt = type(method)(**method.model_dump())
        assert rebuilt == method, f"{method!r} is rebuilt as {rebuilt!r}"
        text = yaml.safe_dump(method.model_dump(mode="json"))
        assert type(method)(**yaml.safe_load(text)) == method, f"{method!r} does not survive YAML"


def the_class_is_forgotten_and_others_are_kept(case: Case) -> None:
    """7. Accuracy on the class falls to chance within its interval; the others keep the share the method promises."""
    if case.world is None:
        return
    forget = [case.world.class_index(name) for name in case.request.forget_names]
    before, after = (correct(model, case.world) for model in (case.model, case.edited))
    asked = torch.isin(torch.tensor(case.world.labels), torch.tensor(forget))
    chance, count = 1 / len(case.world.classes), int(asked.sum())
    assert wilson(int(before[asked].sum()), count)[0] > chance, "the model never knew the class"
    low, _ = wilson(int(after[asked].sum()), count)
    assert low <= chance, f"{int(after[asked].sum())} of {count} pictures are still recognised"
    kept = float(after[~asked].sum() / before[~asked].sum())
    assert kept >= case.method.retain_floor, f"the other classes keep {kept:.3f} of their accuracy"


def undeclared_images_are_not_needed(case: Case) -> None:
    """8. A method that does not declare images works without them."""
    if "images" in case.method.requires():
        return
    without = Request(**{**case.request.model_dump(), "evidence": None})
    try:
        case.method.check(case.model, without)
        case.method.forget(case.model, without).apply(case.model)
    except Exception as error:
        raise AssertionError(f"without images: {error!r}") from error


def errors_are_ours_and_end_with_the_way_out(case: Case) -> None:
    """9. An empty or contradictory request and a missing need raise the documented error, with the way out."""
    kind, name = type(case.request), case.request.forget_names[0]
    refuses(RequestError, lambda: kind(forget=()))
    refuses(RequestError, lambda: kind(forget=(Concept(name=name),), retain=(name,)))
    poorer = {"retain": {"retain": ()}, "images": {"evidence": None}}
    for need in sorted(case.method.requires() & poorer.keys()):
        request = kind(**{**case.request.model_dump(), **poorer[need]})
        refuses(UnsupportedError, lambda request=request: case.method.check(case.model, request))
    if "readout" in case.method.requires():
        refuses(UnsupportedError, lambda: case.method.check(without_readouts(case.model), case.request))


def a_null_embedding_has_a_defined_result(case: Case) -> None:
    """10. What a map sends to nothing becomes exactly null in every number format, and null scores 0 with anything."""
    for dtype in FORMATS:
        zeros = torch.zeros(2, case.model.texts(["a mug"]).shape[1], dtype=dtype)
        assert torch.equal(unit(zeros), zeros), f"unit(0) is not 0 in {dtype}"
        for output in case.patch.outputs.values():
            for length in (0.0, 1.0, 30.0):
                mapped = output((length * sent_to_nothing(output)).to(dtype))
                assert torch.equal(mapped, torch.zeros_like(mapped)), f"rounding noise is left in {dtype}"
                assert not cosines(mapped, torch.ones_like(mapped)).any(), f"a null embedding has a score in {dtype}"


def undo_is_exact(case: Case) -> None:
    """11. Once the edited model is dropped, the original gives the same bits as before there was one."""
    patch, before = case.patch, bytes_of(case.model)
    logits = case.model.logits(case.pixels, SENTENCES)
    edited = patch.apply(case.model)
    edited.logits(case.pixels, SENTENCES)
    del edited
    assert bytes_of(case.model) == before, "the weights differ after the edit was dropped"
    assert torch.equal(case.model.logits(case.pixels, SENTENCES), logits), "the model acts differently afterwards"


Law = Callable[[Case], None]

LAWS: tuple[Law, ...] = (
    weights_stay_as_they_are,
    same_inputs_give_same_bytes,
    a_saved_patch_acts_to_the_bit,
    untouched_weights_are_shared,
    folding_changes_nothing,
    settings_rebuild_the_method,
    the_class_is_forgotten_and_others_are_kept,
    undeclared_images_are_not_needed,
    errors_are_ours_and_end_with_the_way_out,
    a_null_embedding_has_a_defined_result,
    undo_is_exact,
)


def bytes_of(model: Model) -> str:
    """Return the fingerprint of what is in memory now; a Model remembers its own from the first time it was asked."""
    return dataclasses.replace(model).fingerprint


def contents(patch: Patch) -> dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]:
    """Return every number of a patch as bytes, by what it is for."""
    parts: dict[str, Tensor | None] = {}
    for name, delta in patch.deltas.items():
        thin = isinstance(delta, LowRank)
        parts |= {f"{name}/left": delta.left, f"{name}/right": delta.right} if thin else {name: delta}
    for tower, output in patch.outputs.items():
        parts |= {f"{tower}/down": output.down, f"{tower}/up": output.up, f"{tower}/offset": output.offset}
    return {
        name: (
            part.dtype,
            tuple(part.shape),
            part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, part in parts.items()
        if part is not None
    }


def form(patch: Patch) -> set[str]:
    """Return what kinds of change a patch holds; which weights a method chooses may depend on the seed."""
    return {*(["weights"] if patch.deltas else []), *patch.outputs}


def forget_in_other_weather(case: Case, seed: int) -> Patch:
    """Return the patch made while the global random state is another, as in another process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return case.forget()


@torch.no_grad()
def acts_alike(first: Model, second: Model, pixels: Tensor) -> bool:
    """Return whether both models give the same bits for pictures and sentences."""
    same_images = torch.equal(first.images(pixels), second.images(pixels))
    return same_images and torch.equal(first.texts(SENTENCES), second.texts(SENTENCES))


def variants(method: Method) -> Iterator[Method]:
    """Yield the method itself and, setting by setting, what else its fields accept."""
    yield method
    for name, field in type(method).model_fields.items():
        value = getattr(method, name)
        numbers: tuple[Any, ...] = (value / 2, value + 1) if isinstance(value, int | float) else ()
        for other in (*get_args(field.annotation), *numbers, not value):
            with contextlib.suppress(ValueError, TypeError):
                yield type(method)(**{**method.model_dump(), name: other})


def correct(model: Model, images: ImageSet) -> Tensor:
    """Return which images the model gives their true class, among all classes of the set."""
    embeddings = embed_images(model, images)
    assert len(embeddings.kept) == len(images), "pictures of the world cannot be read"
    with torch.no_grad():
        texts = model.texts([f"a photo of a {name}." for name in images.classes])
    return ranks(cosines(embeddings.vectors, texts), torch.tensor(images.labels)) == 1


def refuses(kind: type[InputError], call: Callable[[], object]) -> None:
    """Check that a call raises this kind of error and that the last sentence of its message is a way out."""
    try:
        call()
    except kind as error:
        last = str(error).rstrip(".").split(". ")[-1]
        assert last.startswith(WAYS_OUT), f"no way out at the end of: {error}"
    except Exception as error:
        raise AssertionError(f"{error!r} instead of {kind.__name__}") from error
    else:
        raise AssertionError(f"nothing instead of {kind.__name__}")


def without_readouts(model: Model) -> Model:
    """Return the model as one of a family whose towers do not end in a linear layer."""
    image, text = (dataclasses.replace(tower, readout=None) for tower in (model.adapter.image, model.adapter.text))
    return dataclasses.replace(model, adapter=dataclasses.replace(model.adapter, image=image, text=text))


def sent_to_nothing(output: AffineMap) -> Tensor:
    """Return an orthonormal basis of the rows that the map sends to zero, up to its float32 storage: [r, d]."""
    if output.offset is not None:
        return output.down.new_zeros(0, output.down.shape[0])
    whole = torch.eye(output.down.shape[0], dtype=torch.float64) + output.down.double() @ output.up.double()
    left, values, _ = torch.linalg.svd(whole)
    return left.T[values < 1e-5]
