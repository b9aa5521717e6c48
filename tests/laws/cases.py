"""What the laws are tried on: families, one request, and the pictures of the embedded world."""

import dataclasses
import functools
from collections.abc import Mapping

from PIL.Image import Image

from clip_unlearn import methods
from clip_unlearn.core.config import build
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.sandbox import bundle
from clip_unlearn.sandbox.classes import CLASS_NAMES
from laws import Case

EMBEDDED = tuple(name for name in bundle.names() if not name.startswith("oracle-"))
TINY = ("tiny_clip", "tiny_dual", "tiny_openclip", "tiny_openclip_custom")
FAMILIES = EMBEDDED or TINY
"""Every embedded family of models, or the tiny random ones where none is embedded."""

FORGET = "mug"
QUICK: Mapping[str, Mapping[str, object]] = {
    "lip": {"held_pictures": 16},
    "lip_paper": {"pictures": 8, "stop_pictures": 4, "draws": 2, "learning_rate": 3e-3},
}
"""Settings that make slow methods quick enough to be tried many times; all others are tried at their defaults."""

SHORT = "descent"
"""The table of settings of methods that train; a few small steps show all laws but the one that they forget."""

STEPS: Mapping[str, int] = {"steps": 3, "check_every": 3, "forget_batch": 4, "retain_batch": 8}
ALL, FEW = "sandbox@stop", "sandbox:photo@stop"
"""Images to learn from, the part that `forget --data sandbox` learns from; and those enough for a few steps."""

MOMENT: Mapping[str, Mapping[str, object]] = {
    "slug": {"batches": 1, "doublings": 1, "bisections": 0},
    "ssd": {"batches": 1},
    "emmn": {"noises": 1, "forget_noise_steps": 2, "retain_noise_steps": 2},
    "unsir": {"noises": 4, "noise_steps": 2, "repair_steps": 2},
    "negmerge": {"models": 2, "doublings": 1, "bisections": 2},
}
"""The same of methods that need gradients and have no such table, or more to make short than it says."""

FIRST = FAMILIES[0]
"""The family on which methods that train are tried to the end."""

FORGETS = "the_class_is_forgotten_and_others_are_kept"
EXCUSED: Mapping[tuple[str, str], str] = {
    ("lip_paper", FORGETS): "the published constants forget nothing here",
    ("fine_tune", FORGETS): "the reference of those that forget learns from the retained alone",
}
"""Laws that a method breaks by what it is: a literal baseline is measured, not improved."""

WEAK = ("bad_teacher", "ga", "jit", "negmerge", "pbu", "razor", "ssd")
CONVOLUTIONAL = "sandbox-conv"
SHORT_OF_IT = "its defaults were found on vision transformers"
"""Why baselines fall short of the law that they forget and keep on a family of another kind."""

PICTURES = 6
"""Pictures of each class and domain that law 7 looks at."""


def settings_of(name: str, *, short: bool) -> Method:
    """Return a method with settings that are quick enough; with `short`, one that trains for a moment only."""
    kind, values = methods.find(name), QUICK.get(name, {})
    tables = {SHORT: STEPS} if short and SHORT in kind.model_fields else {}
    quick = MOMENT.get(name, {}) if short else {}
    return build(kind, {**values, **tables, **quick}, where=kind.__name__)


def trains(name: str) -> bool:
    """Return whether a method takes long because it needs the gradients of many images, or of images that it makes."""
    return name in MOMENT or name in QUICK or SHORT in methods.find(name).model_fields


def make_case(model: Model, method: Method, *, trained: bool) -> Case:
    """Return the case of a method and a model; trained models are tried on the world, others on its pixels only."""
    pixels = model.adapter.prepare(some_pictures())
    descent = getattr(method, SHORT, None)
    evidence = FEW if descent is not None and descent.steps == STEPS["steps"] else ALL
    world = open_world() if trained else None
    return Case(method=method, model=model, request=full_request(evidence), pixels=pixels, world=world)


@functools.cache
def full_request(where: str) -> Request:
    """Return a request that offers everything a method may need, images to learn from among it."""
    evidence = open_data(where)
    return Request(
        forget=(Concept(name=FORGET),),
        retain=tuple(name for name in CLASS_NAMES if name != FORGET),
        evidence=Evidence(where=evidence.where, digest=evidence.digest),
    )


@functools.cache
def some_pictures() -> list[Image]:
    """Return a few pictures of different classes and domains."""
    world = open_world()
    return [world.picture(index) for index in range(0, len(world), len(world) // 6)]


@functools.cache
def open_world() -> ImageSet:
    """Return the first pictures of every class and domain, from the stream that nothing was trained on."""
    images = open_data("sandbox")
    first = images.take(index for index, name in enumerate(images.keys) if int(name.rpartition("/")[2]) < PICTURES)
    return dataclasses.replace(first, picture=functools.cache(first.picture))  # drawn once for all models
