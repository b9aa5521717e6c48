"""Records to report on, small and by hand."""

from clip_unlearn.core.record import Environment, Origin, Reading, Record, Sample, Skipped, Source
from clip_unlearn.core.request import Concept, Request


def reading(name, value, low, high, *, count=102, better="high", **more):
    return Reading(name=name, value=value, low=low, high=high, count=count, better=better, **more)


def trio(name, before, after, change, *, better, count=102, of="", p_value=None):
    """Return a before, an after and a change reading; each is (value, low, high)."""
    common = {"count": count, "better": better, "of": of}
    return (
        reading(name, *before, subject="before", **common),
        reading(name, *after, subject="after", **common),
        reading(name, *change, subject="change", interval="Bonett-Price", p_value=p_value, **common),
    )


FORGET = trio("forget accuracy", (0.98, 0.931, 0.995), (0, 0, 0.036), (-0.98, -1, -0.916), better="low", p_value=1e-9)
RETAIN = trio(
    "retain accuracy", (0.974, 0.96, 0.98), (0.971, 0.96, 0.98), (-0.003, -0.009, 0.003), better="high", count=2346
)
CLASSES = (
    *trio("class accuracy", (0.99, 0.95, 1), (0.90, 0.83, 0.94), (-0.09, -0.15, -0.03), better="high", of="bowl"),
    *trio("class accuracy", (0.95, 0.89, 0.98), (0.96, 0.9, 0.98), (0.01, -0.03, 0.05), better="high", of="hat"),
    *trio("class accuracy", (0.98, 0.93, 1), (0, 0, 0.036), (-0.98, -1, -0.916), better="low", of="Mug"),
)


def record(*readings, forget=("mug",), touches=("visual_projection.weight",), reason="", **more):
    values = {
        "created": "2025-01-02T03:04:05Z",
        "command": "clip-unlearn forget --model sandbox --forget mug",
        "origin": Origin(
            method="project",
            settings={"strength": 0.9, "pool": "mean", "checked": True, "towers": ("image", "text"), "limit": None},
            request=Request(forget=tuple(Concept(name=name) for name in forget), retain=("bowl", "hat")),
            base=Source(where="sandbox", digest="ab" * 32),
            version="0.1.0",
            touches=touches,
            reason=reason,
        ),
        "after": Source(where="sandbox", digest="cd" * 32),
        "data": Source(where="sandbox", digest="ef" * 32, count=2448),
        "portable": True,
        "seconds": {"forget": 0.42, "measure": 65.0},
        "environment": Environment(
            package="0.1.0", python="3.11.9", libraries={"numpy": "2.1"}, machine="x86_64", threads=2, device="cpu"
        ),
        "readings": readings,
    }
    return Record(**{**values, **more})


def sample(picture="a.png", truth="mug", before="mug", after="bowl"):
    return Sample(picture=picture, truth=truth, before=before, after=after)


BARE = {"data": None, "portable": False, "skipped": (Skipped(probe="zero_shot", reason="needs images"),)}
