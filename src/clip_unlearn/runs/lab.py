"""Audits on models of which is known what they hold: the population is trained once, every measurement is kept."""

import inspect
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, final

import torch

from clip_unlearn import probes
from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Reading
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.text_memory import remembering
from clip_unlearn.errors import SettingError, UndefinedError
from clip_unlearn.files import atomic, digest
from clip_unlearn.files.paths import cache_folder
from clip_unlearn.models.open import open_model
from clip_unlearn.runs.names import completed
from clip_unlearn.runs.plan import make_probes
from clip_unlearn.runs.recipe import DataChoice
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.sandbox.training import population
from clip_unlearn.sandbox.training.pool import build_pool
from clip_unlearn.sandbox.training.population import SEEDS, SORTS, Member, Sort

DATA: Final = DataChoice(path="sandbox", split="audit")
"""All three domains; what an audit learns from is another part of them."""

Measured = Mapping[Sort, tuple[Reading, ...]]
"""The readings of one audit with each of three models as the edited one; none where the audit is not defined."""


@final
@dataclass(frozen=True, kw_only=True)
class Trio:
    """Three models from the same beginning, one of each sort; the knowing one is the original of all attacks."""

    class_name: str
    seed: int

    @property
    def name(self) -> str:
        """Return the name of its measurements."""
        return f"{self.class_name}-{self.seed}"

    def member(self, sort: Sort) -> Member:
        """Return its model of a sort."""
        return Member(sort=sort, class_name=self.class_name, seed=self.seed)

    @property
    def request(self) -> Request:
        """Return the request to forget its class."""
        retain = tuple(name for name in CLASS_NAMES if name != self.class_name)
        return Request(forget=(Concept(name=self.class_name),), retain=retain)


def trios(seeds: int) -> tuple[Trio, ...]:
    """Return the population in threes, so many of each class.

    Raises:
        SettingError: if there would be none.
    """
    if seeds < 1:
        raise SettingError(f"A population needs models; got {seeds} of each sort and class. Give 1 or more.")
    known = population.members(seeds)
    return tuple(Trio(class_name=one.class_name, seed=one.seed) for one in known if one.sort == SORTS[0])


def lab_folder() -> Path:
    """Return where the population of this version of world and training is kept, with all measurements on it."""
    return cache_folder() / "lab" / _version()


@cache
def _version() -> str:
    return population.digest()[:16]


def untrained(seeds: int) -> int:
    """Return how many models of the population are not there yet."""
    return sum(not _path(lab_folder(), one).exists() for one in population.members(seeds))


def measure(audits: Sequence[str], *, seeds: int = SEEDS, jobs: int = 1) -> Mapping[str, tuple[Measured, ...]]:
    """Return the readings of audits on the whole population, by audit; models and readings that are there are used.

    Raises:
        UnknownNameError: if there is no such audit.
        SettingError: if there is no model or no process.
    """
    every, codes = trios(seeds), {name: _code(name) for name in audits}
    for_all(every, partial(_work, codes=codes), jobs=jobs)
    return {name: tuple(_read(_readings_path(name, code, trio)) for trio in every) for name, code in codes.items()}


def for_all(every: Sequence[Trio], work: Callable[[Trio], None], *, jobs: int) -> None:
    """Do something for all threes of models, in so many processes.

    Raises:
        SettingError: if there is no process.
    """
    if jobs < 1:
        raise SettingError(f"--jobs {jobs}: the lab needs at least one process.")
    build_pool("train", population.PICTURES, lab_folder())
    for done, _ in enumerate(_each(every, work, jobs), start=1):
        report("lab: three models of a class", done, len(every))


def opened(trio: Trio) -> Mapping[Sort, Model]:
    """Return the three models, which are trained where they are not there yet."""
    folder = lab_folder()
    missing = [one for sort in SORTS if not _path(folder, one := trio.member(sort)).exists()]
    if missing:
        pool = build_pool("train", population.PICTURES, folder)
        for member in missing:
            population.train_member(member, pool, _path(folder, member))
    return {sort: open_model(_path(folder, trio.member(sort))) for sort in SORTS}


def _each(every: Sequence[Trio], work: Callable[[Trio], None], jobs: int) -> Iterator[None]:
    if jobs == 1:
        yield from map(work, every)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(every)), mp_context=context, initializer=_one_thread) as workers:
        running = [workers.submit(work, trio) for trio in every]
        yield from (job.result() for job in as_completed(running))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _work(trio: Trio, *, codes: Mapping[str, str]) -> None:
    """Measure what is missing of three models."""
    paths = {name: _readings_path(name, code, trio) for name, code in codes.items()}
    missing = {name: path for name, path in paths.items() if not path.exists()}
    if not missing:
        return
    models = {sort: remembering(model) for sort, model in opened(trio).items()}
    request = completed(models["knowing"], trio.request, other_names="auto", background="nouns")
    for name, path in missing.items():
        begin = time.perf_counter()
        found = {
            sort: [one.model_dump(mode="json") for one in _readings(name, models, sort, request)] for sort in SORTS
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, {"seconds": time.perf_counter() - begin, "readings": found})


def _readings(name: str, models: Mapping[Sort, Model], sort: Sort, request: Request) -> tuple[Reading, ...]:
    (probe,), _ = make_probes([name], DATA)
    try:
        return probe.measure(models["knowing"], models[sort], request)
    except UndefinedError:
        return ()


def _read(path: Path) -> Measured:
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {sort: tuple(Reading(**one) for one in stored["readings"][sort]) for sort in SORTS}


def _path(folder: Path, member: Member) -> Path:
    return folder / "models" / member.name


def _readings_path(audit: str, code: str, trio: Trio) -> Path:
    return lab_folder() / "readings" / f"{audit}-{code}" / f"{trio.name}.json"


def _code(name: str) -> str:
    """Return a digest of an audit's source and of what it uses of its neighbours: other code measures anew."""
    own = Path(inspect.getfile(probes.find(name)))
    return digest.of_json([path.read_text(encoding="utf-8") for path in _sources(own)])[:12]


def _sources(own: Path) -> Sequence[Path]:
    """Return an audit's file and the files beside it that it imports from, directly or not, in a fixed order."""
    found, waiting = {own}, [own]
    while waiting:
        text = waiting.pop().read_text(encoding="utf-8")
        used = {path for path in own.parent.glob("_[a-z]*.py") if f".{path.stem} import" in text} - found
        found |= used
        waiting += used
    return sorted(found)
