"""What tests of `lip` ask for, and how they watch its rounds."""

import pytest

from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.open import open_data
from clip_unlearn.methods import lip
from clip_unlearn.sandbox.classes import CLASS_NAMES

FEW = {"pictures": 6, "stop_pictures": 3, "held_pictures": 8, "noise_draws": 1}
SHORT = {**FEW, "rounds": 2}
SELECT = "sandbox:photo@select"


def about(*concepts: str, **rest) -> Request:
    asked = tuple(Concept.model_validate(text) for text in concepts)
    own = {name for concept in asked for name in concept.names}
    return Request(**{"forget": asked, "retain": tuple(name for name in CLASS_NAMES if name not in own), **rest})


def with_images(*concepts: str) -> Request:
    return about(*concepts, evidence=Evidence(where=SELECT, digest=open_data(SELECT).digest))


def turns_of(monkeypatch: pytest.MonkeyPatch, after_round=None):
    """Return a list that grows by the state and the paces of every round; `after_round` may change what comes out."""
    seen, real_round = [], lip.one_round

    def one_round(model, state, turns, seed):
        seen.append((state, {side.tower: pace for side, _, pace in turns}, seed))
        tensors = real_round(model, state, turns, seed)
        return tensors if after_round is None else after_round(len(seen), model, tensors)

    monkeypatch.setattr(lip, "one_round", one_round)
    return seen
