"""How settings are searched: one number by bisection, few combinations one by one, everything else with Optuna."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from clip_unlearn.core.progress import report
from clip_unlearn.core.record import Plain
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.files import digest
from clip_unlearn.methods._layers import turning_point
from clip_unlearn.runs.tune_space import Space
from clip_unlearn.runs.tuned import Choice, Dimension, Range, Strategy, Trial, rank

if TYPE_CHECKING:
    import optuna

Make: TypeAlias = Callable[[int, dict[str, Plain]], Trial]
"""Make the trial of a number with the values of the settings that are searched."""

State: TypeAlias = Literal["within", "nothing", "beyond"]
"""Within the budget; without a patch; beyond the budget, or diverged."""

STATES: Final[tuple[State, ...]] = ("within", "nothing", "beyond")
"""The gentler one first."""

PROPOSALS: Final = 10
"""Proposals for each trial after which a search that proposes nothing new ends."""

BEYOND: Final = 2.0
"""What is added to the share that is lost beyond the budget, which every trial within it is below."""

FAILED: Final = 4.0
"""How Optuna is told that a trial failed: worse than all others."""


class _Done(Exception):
    """All trials are made, or the time is up."""


@final
@dataclass(kw_only=True)
class Trials:
    """Trials as they are made; the same values are tried once."""

    make: Make
    most: int
    timeout: float | None = None
    made: list[Trial] = field(default_factory=list)
    timed_out: bool = False
    started: float = field(default_factory=time.monotonic)
    _known: dict[str, Trial] = field(default_factory=dict)

    def at(self, values: dict[str, Plain]) -> Trial:
        """Return the trial with these values, made now if it is a new one."""
        key = digest.of_json(values)
        if key not in self._known:
            self._check_end()
            report("tune", len(self.made), self.most)
            self._known[key] = self.make(len(self.made) + 1, values)
            self.made.append(self._known[key])
        return self._known[key]

    def _check_end(self) -> None:
        if len(self.made) >= self.most:
            raise _Done
        if self.timeout is not None and self.made and time.monotonic() - self.started > self.timeout:
            self.timed_out = True
            raise _Done


def strategy_of(space: Space, trials: int) -> Strategy:
    """Return how a space is searched.

    Raises:
        UnsupportedError: if that needs Optuna, and it is not installed.
    """
    if len(space.dimensions) == 1 and isinstance(space.dimensions[0], Range):
        return "bisection"
    if space.combinations(trials) is not None:
        return "every combination"
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UnsupportedError(
            "A search over several settings needs Optuna. Install it: pip install 'clip-unlearn[tune]'."
        ) from error
    return "tree-structured Parzen estimator"


def explore(space: Space, trials: Trials, *, seed: int) -> None:
    """Make the trials of a search; same space, seed and answers, same trials.

    One number is bisected between its ends: see `bisect`. Where there are no more combinations than trials, all are
    tried. Otherwise Optuna's tree-structured Parzen estimator proposes, after
    the values given and a few at random.
    """
    strategy = strategy_of(space, trials.most)
    try:
        if strategy == "bisection":
            bisect(space, trials)
        elif strategy == "every combination":
            for values in space.combinations(trials.most) or ():
                trials.at(values)
        else:
            _propose(space, trials, seed)
    except _Done:
        pass
    report("tune", trials.most, trials.most)


def bisect(space: Space, trials: Trials) -> None:
    """Bisect the one range of a space, for the gentlest of the values within the budget that forget most.

    First, with up to half of the trials, for the strongest value within the budget, where one end is within it and the
    other is not; then for the gentlest that forgets as much. It takes for granted that accuracy falls all the way from
    one end to the other, of both kinds; which way follows from the two ends. A trial that diverged counts as beyond the
    budget. One that changes nothing counts as too gentle as long as nothing is within the budget, and as too strong
    afterwards. Where the ends are alike, or both beyond the budget, the search ends with them.
    """
    one = space.dimensions[0]
    if not isinstance(one, Range):
        raise TypeError("a choice cannot be bisected")
    ends = [_strength(trials.at({one.setting: one.at(share)})) for share in (0.0, 1.0)]
    if ends[0] == ends[1] or all(state == STATES.index("beyond") for state, _ in ends):
        return

    def at(share: float) -> Trial:
        return trials.at({one.setting: one.at(share if ends[0] < ends[1] else 1 - share)})

    def too_strong(share: float) -> bool:
        found = _state(at(share))
        return found == "beyond" or (found == "nothing" and any(trial.within for trial in trials.made))

    strongest, _ = turning_point(too_strong, 1.0, doublings=0, bisections=(trials.most - 2) // 2)
    best = at(strongest)
    if strongest and best.within:
        turning_point(lambda share: _as_strong(at(share), best), strongest, doublings=0, bisections=trials.most)


def _strength(trial: Trial) -> tuple[int, float]:
    """Return what orders the ends of a range: the gentler one first."""
    return STATES.index(_state(trial)), 0.0 if trial.forget is None else -trial.forget.value


def _state(trial: Trial) -> State:
    if trial.failure == "nothing changed":
        return "nothing"
    return "within" if trial.within else "beyond"


def _as_strong(trial: Trial, best: Trial) -> bool:
    """Return whether a trial within the budget forgets as much as another one."""
    return trial.within and rank(trial)[0] <= rank(best)[0]


def _propose(space: Space, trials: Trials, seed: int) -> None:
    import optuna

    with _quiet():
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(2, trials.most // 3))
        study = optuna.create_study(sampler=sampler)
        start = space.start()
        if start is not None:
            study.enqueue_trial({one.setting: _place(one, start[one.setting]) for one in space.dimensions})
        for _ in range(PROPOSALS * trials.most):
            proposal = study.ask()
            values = {one.setting: _suggested(proposal, one) for one in space.dimensions}
            study.tell(proposal, _loss(trials.at(values)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's log to warnings while the block runs."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _suggested(proposal: "optuna.Trial", one: Dimension) -> Plain:
    if isinstance(one, Choice):
        return one.values[proposal.suggest_categorical(one.setting, list(range(len(one.values))))]
    if one.whole:
        return proposal.suggest_int(one.setting, int(one.low), int(one.high), log=one.log)
    return one.rounded(proposal.suggest_float(one.setting, one.low, one.high, log=one.log))


def _place(one: Dimension, value: Plain) -> Plain:
    """Return how a value is told to Optuna: a choice by its place."""
    return one.values.index(value) if isinstance(one, Choice) else value


def _loss(trial: Trial) -> float:
    """Return what Optuna makes small: the order of `preferred`, then what is lost beyond the budget, then failures."""
    if trial.failure or trial.forget is None or trial.cost is None:
        return FAILED
    if not trial.within:
        return BEYOND - trial.cost.value
    forget, kept = rank(trial)
    # Two forget accuracies differ by at least 1 / count, so what is retained decides between equals alone.
    return forget + (1 + kept) / (trial.forget.count + 1)
