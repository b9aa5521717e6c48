"""Which audits belong together, and with which settings."""

from collections.abc import Mapping, Sequence
from typing import Final

from clip_unlearn import probes
from clip_unlearn.core.audit import Audit
from clip_unlearn.errors import UnknownNameError, nearest

QUICK: Final = (
    "zero_shot",
    "over_forgetting",
    "wordings",
    "vocabulary",
    "hypernyms",
    "prompt_ensemble",
    "image_search",
    "image_refit",
    "text_refit",
    "module_revert",
    "recipe_inversion",
    "disclosure",
)
STANDARD: Final = (
    *QUICK,
    "near_duplicates",
    "fine_tuning",
    "rounding",
    "interpolation",
    "linear_probe",
    "prototype",
    "soft_prompt",
    "relearning",
    "inner_layers",
    "layer_lens",
)
ALL: Final = (*STANDARD, "class_inversion", "relearn_time")
SUITES: Final[Mapping[str, Sequence[str]]] = {"quick": QUICK, "standard": STANDARD, "full": ALL}
"""quick: what needs few passes. standard: all but what needs a further model or many whole trainings. full: all, with
more images, steps and draws."""

FULL: Final[Mapping[str, Mapping[str, object]]] = {
    "image_refit": {"images": 20_000, "shares": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)},
    "text_refit": {"images": 20_000, "shares": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)},
    "module_revert": {"images": 100_000},
    "fine_tuning": {
        "rates": (5e-4, 2e-3, 5e-3),
        "depth": "all",
        "steps": 200,
        "batch": 64,
        "images": 20_000,
        "count": 100_000,
    },
    "rounding": {"images": 100_000},
    "interpolation": {"images": 100_000, "alphas": tuple(step / 10 for step in range(1, 10))},
    "linear_probe": {"draws": 10},
    "prototype": {"draws": 10},
    "soft_prompt": {"tokens": (1, 4, 16), "draws": 10},
    "relearning": {"draws": 10, "steps": 100},
    "layer_lens": {"images": 20_000, "shares": (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0), "compared": 1000},
    "class_inversion": {"shifts": (0.05, 0.2)},
}
"""Settings of the full suite beyond the defaults."""


def chosen(suite: str) -> tuple[tuple[str, ...], Mapping[str, Mapping[str, object]]]:
    """Return the probes of a suite, or of a list of names with commas between, and the settings of each.

    Raises:
        UnknownNameError: if it is neither.
    """
    if suite in SUITES:
        return tuple(SUITES[suite]), FULL if suite == "full" else {}
    names = tuple(dict.fromkeys(name.strip() for name in suite.split(",") if name.strip()))
    known = (*SUITES, *probes.names())
    for name in names:
        if name not in known:
            raise UnknownNameError(
                f"Unknown suite or audit '{name}'.{nearest(name, known)} Suites: {', '.join(SUITES)}; audits: "
                f"{', '.join(one for one in probes.names() if issubclass(probes.find(one), Audit))}."
            )
    if not names or any(name in SUITES for name in names):
        raise UnknownNameError(
            f"'{suite}' is no list of audits. Give one suite ({', '.join(SUITES)}), or names with commas between."
        )
    return names, {}
