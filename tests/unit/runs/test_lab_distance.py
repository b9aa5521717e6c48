"""Distances of edited models from never-taught ones: by hand, and one trial from first weights to a file."""

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from clip_unlearn.core.distance import Distance, Estimate, retraining_lines
from clip_unlearn.errors import SettingError
from clip_unlearn.methods.cliperase import Cliperase
from clip_unlearn.methods.redirect import Redirect
from clip_unlearn.runs import lab_distance
from clip_unlearn.runs.lab import Trio
from clip_unlearn.runs.lab_distance import NEVER, Seen, Trial, distances
from clip_unlearn.sandbox.training import population


def seen(mean: float, forget: float, seed: int) -> Seen:
    values = random.Random(seed)
    return Seen(
        odds=tuple(values.gauss(mean, 1) for _ in range(60)),
        forget=forget,
        retain=0.9,
        taught=tuple(values.gauss(mean, 1) for _ in range(60)),
    )


def trials(edited: float, never: float) -> Mapping[Trio, Trial]:
    """Return six models of two classes each, whose log odds have these means."""
    return {
        Trio(class_name=name, seed=seed): {
            "edited": seen(edited, 0.1, seed),
            "unseen": seen(never, 0.0, 100 + seed),
            "word": seen(never, 0.3, 200 + seed),
        }
        for name in ("mug", "cat")
        for seed in range(6)
    }


def test_what_stands_apart_is_found_apart() -> None:
    found = lab_distance._distance("unseen", trials(0.0, 3.0))
    assert found.count == 12
    assert found.kolmogorov_smirnov.low > 0.7 > 0.4 > found.kolmogorov_smirnov_floor.high
    assert found.likelihood_ratio.low > 0.7
    assert found.tug_of_war.value == pytest.approx(0.9)
    assert found.tug_of_war_floor.value == 1
    # Nothing tells taught pictures from new ones here, on either side: (0.9 + 1) / 2 less the luck of an attacker.
    assert found.unlearning_score.value == pytest.approx(0.95, abs=0.1)
    assert found.unlearning_score_floor.value == pytest.approx(0.95, abs=0.1)


def test_what_does_not_differ_is_as_near_as_two_of_them() -> None:
    found = lab_distance._distance("word", trials(0.0, 0.0))
    assert found.kolmogorov_smirnov.value == pytest.approx(found.kolmogorov_smirnov_floor.value, abs=0.06)
    assert found.likelihood_ratio.low < 0.5 < found.likelihood_ratio.high
    assert found.tug_of_war.value == pytest.approx(0.8)


def test_each_line_of_f5_fails_alone() -> None:
    near = Estimate(value=0.2, low=0.1, high=0.3)
    fields = {
        "kolmogorov_smirnov": near,
        "kolmogorov_smirnov_floor": near,
        "tug_of_war": Estimate(value=0.97, low=0.95, high=1),
        "tug_of_war_floor": near,
        "unlearning_score": near,
        "unlearning_score_floor": near,
        "likelihood_ratio": Estimate(value=0.45, low=0.4, high=0.5),
    }
    like = Distance(sort="word", count=16, **fields)
    assert all(line.passed for line in retraining_lines([like]))
    changes: tuple[dict[str, object], ...] = (
        {"count": 15},
        {"kolmogorov_smirnov": Estimate(value=0.5, low=0.31, high=0.6)},
        {"tug_of_war": Estimate(value=0.97, low=0.94, high=1)},
        {"likelihood_ratio": Estimate(value=0.45, low=0.4, high=0.49)},
    )
    for place, change in enumerate(changes):
        lines = retraining_lines([like.model_copy(update=change)])
        assert [number for number, line in enumerate(lines) if not line.passed] == [place]
        assert {line.grade for line in lines} == {"F5"}


def test_two_of_them_are_of_one_class() -> None:
    pairs = lab_distance._peers(trials(0.0, 0.0))
    assert len(pairs) == 12
    assert all(one is not other for one, other in pairs)


def test_too_few_models_are_refused() -> None:
    with pytest.raises(SettingError, match="--seeds 2: distances need at least 3"):
        distances(Redirect(), seeds=2)


def test_images_come_with_methods_that_learn_from_them() -> None:
    trio = Trio(class_name="mug", seed=0)
    assert lab_distance._request(trio, Redirect()).evidence is None
    evidence = lab_distance._request(trio, Cliperase()).evidence
    assert evidence is not None
    assert evidence.where == "sandbox@stop"


def test_a_trial_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(population, "_STEPS", 2)
    monkeypatch.setattr(population, "PICTURES", 2)
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", str(tmp_path))
    trio, folder = Trio(class_name="mug", seed=0), lab_distance._folder(Redirect())
    assert folder != lab_distance._folder(Redirect(side="text"))
    lab_distance._work(trio, method=Redirect(), folder=folder)
    found = lab_distance._read(folder / "mug-0.json")
    assert found.keys() == {"edited", *NEVER}
    assert len(found["edited"].taught) == 3 * 2
    assert len(found["edited"].odds) == len(found["word"].odds) > 100
    assert found["edited"].forget <= 0.05
    assert min(found["edited"].retain, found["word"].retain) > 0.5
    monkeypatch.setattr(lab_distance, "opened", lambda _: pytest.fail("tried again"))
    lab_distance._work(trio, method=Redirect(), folder=folder)
