"""A method on every model of the lab that holds a class, beside the models that never saw it. n pictures of a class."""

import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import torch
from PIL import Image
from torch import Tensor

from clip_unlearn.core.distance import Distance, Estimate
from clip_unlearn.core.method import Method
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Evidence, Request
from clip_unlearn.data.answers import answers, forget_indices
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import SettingError
from clip_unlearn.files import atomic, digest
from clip_unlearn.maths.intervals import mean_interval
from clip_unlearn.maths.retraining import (
    kolmogorov_smirnov,
    likelihood_ratio,
    log_odds,
    membership_accuracy,
    tug_of_war,
    unlearning_score,
)
from clip_unlearn.maths.scores import cosines
from clip_unlearn.runs.lab import DATA, Trio, for_all, lab_folder, opened, trios
from clip_unlearn.runs.names import completed
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.sandbox.training import population
from clip_unlearn.sandbox.training.pool import build_pool
from clip_unlearn.sandbox.training.population import SEEDS, Sort

EVIDENCE: Final = "sandbox@stop"
"""What methods that need images learn from."""

NEVER: Final[tuple[Sort, ...]] = ("unseen", "word")

BATCH: Final = 50
LEAST: Final = 3
"""Seeds of each class under which models of a sort have no spread."""


@final
@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one model makes of the pictures."""

    odds: tuple[float, ...]
    """Log odds of the class on each of its pictures."""

    forget: float
    """Accuracy on them."""

    retain: float
    """Accuracy on all others."""

    taught: tuple[float, ...] = ()
    """Log odds of the class on pictures of it that the knowing model was taught."""


Trial = Mapping[str, Seen]
"""What the edited model and the two that never saw the class make of the pictures, by "edited" and sort."""


def distances(method: Method, *, seeds: int = SEEDS, jobs: int = 1) -> tuple[Distance, ...]:
    """Return how far the models that a method edits are from each sort of models that never saw the class.

    The method forgets the class of every model of the population that holds it; what was done once is kept.

    Raises:
        SettingError: if there are too few models.
        InputError: if the method cannot be used on these models.
    """
    if seeds < LEAST:
        raise SettingError(f"--seeds {seeds}: distances need at least {LEAST} models of each sort and class.")
    every, folder = trios(seeds), _folder(method)
    for_all(every, partial(_work, method=method, folder=folder), jobs=jobs)
    trials = {trio: _read(folder / f"{trio.name}.json") for trio in every}
    return tuple(_distance(sort, trials) for sort in NEVER)


def _work(trio: Trio, *, method: Method, folder: Path) -> None:
    path = folder / f"{trio.name}.json"
    if path.exists():
        return
    models = opened(trio)
    request = completed(models["knowing"], _request(trio, method), other_names="auto", background="nouns")
    method.check(models["knowing"], request)
    patch = method.settled(models["knowing"], request).forget(models["knowing"], request)
    edited = patch.folded(models["knowing"]).apply(models["knowing"])
    pixels = _taught(trio, edited)
    found = {"edited": _seen(edited, request, pixels)}
    found |= {str(sort): _seen(models[sort], request, pixels) for sort in NEVER}
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(path, {name: asdict(seen) for name, seen in found.items()})


def _request(trio: Trio, method: Method) -> Request:
    """Return the request to forget a class, with images to learn from where the method needs any."""
    if "images" not in method.requires():
        return trio.request
    images = open_data(EVIDENCE)
    evidence = Evidence(where=images.where, digest=images.digest)
    return Request(**(trio.request.model_dump() | {"evidence": evidence.model_dump()}))


def _taught(trio: Trio, model: Model) -> Tensor:
    """Return the training pictures of the class, as a model takes them."""
    pool = build_pool("train", population.PICTURES, lab_folder())
    shown = pool.pixels[pool.labels == CLASS_NAMES.index(trio.class_name)].transpose(0, 2, 3, 1)
    return model.adapter.prepare([Image.fromarray(picture) for picture in shown])


@torch.no_grad()
def _seen(model: Model, request: Request, pixels: Tensor) -> Seen:
    images = open_data(DATA.path, split=DATA.split)
    known, (place,) = answers(model, images, request), forget_indices(images, request)
    own, right = known.labels == place, known.ranks == 1
    odds, taught = (
        log_odds(cosines(rows, known.texts), place, model.logit_scale)
        for rows in (known.embeddings[own], torch.cat([model.images(part) for part in torch.split(pixels, BATCH)]))
    )
    return Seen(
        odds=tuple(odds.tolist()),
        taught=tuple(taught.tolist()),
        forget=float(right[own].double().mean()),
        retain=float(right[~own].double().mean()),
    )


def _distance(sort: Sort, trials: Mapping[Trio, Trial]) -> Distance:
    pairs = [(trial["edited"], trial[sort]) for trial in trials.values()]
    peers = [(one[sort], other[sort]) for one, other in _peers(trials)]
    ranking = likelihood_ratio([(_scores(own, "edited"), _scores(own, sort)) for own in _by_class(trials)])
    low, high = ranking.interval()
    scores = [[_score(trial[side]) for trial in trials.values()] for side in ("edited", sort)]
    return Distance(
        sort=sort,
        count=len(pairs),
        kolmogorov_smirnov=_mean([kolmogorov_smirnov(one.odds, other.odds)[0] for one, other in pairs]),
        kolmogorov_smirnov_floor=_mean([kolmogorov_smirnov(one.odds, other.odds)[0] for one, other in peers]),
        tug_of_war=_mean([_tug(one, other) for one, other in pairs]),
        tug_of_war_floor=_mean([_tug(one, other) for one, other in peers]),
        unlearning_score=_mean(scores[0]),
        unlearning_score_floor=_mean(scores[1]),
        likelihood_ratio=Estimate(value=ranking.auc, low=low, high=high),
    )


def _peers(trials: Mapping[Trio, Trial]) -> list[tuple[Trial, Trial]]:
    """Return the trials of each class in pairs of neighbouring seeds, the last with the first."""
    return [pair for own in _by_class(trials) for pair in zip(own, [*own[1:], own[0]], strict=True)]


def _by_class(trials: Mapping[Trio, Trial]) -> list[list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for trio, trial in trials.items():
        groups.setdefault(trio.class_name, []).append(trial)
    return list(groups.values())


def _tug(one: Seen, other: Seen) -> float:
    return tug_of_war((one.forget, one.retain), (other.forget, other.retain))


def _score(one: Seen) -> float:
    return unlearning_score(one.retain, membership_accuracy(one.taught, one.odds))


def _scores(trials: Iterable[Trial], side: str) -> Tensor:
    """Return the log odds of one side: [m, n]."""
    return torch.tensor([trial[side].odds for trial in trials], dtype=torch.float64)


def _mean(values: list[float]) -> Estimate:
    low, high = mean_interval(values)
    return Estimate(value=sum(values) / len(values), low=low, high=high)


def _folder(method: Method) -> Path:
    """Return where the trials of a method with its settings are kept; other code is tried anew."""
    source = Path(inspect.getfile(type(method))).read_text(encoding="utf-8")
    code = digest.of_json([source, Path(__file__).read_text(encoding="utf-8"), method.model_dump(mode="json")])[:12]
    return lab_folder() / "methods" / f"{type(method).__module__.rpartition('.')[2]}-{code}"


def _read(path: Path) -> Trial:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: Seen(**{**one, "odds": tuple(one["odds"]), "taught": tuple(one["taught"])})
        for name, one in stored.items()
    }
