"""The training pipeline from end to end, in miniature, and its command line."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import CLIPModel

from clip_unlearn.sandbox import train
from clip_unlearn.sandbox.training import jobs, reword
from clip_unlearn.sandbox.training.jobs import Plan
from clip_unlearn.sandbox.training.towers import build_vit


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setattr(reword, "_STEPS", 2)
    sizes = {"pictures_per_cell": 2, "audit_per_cell": 4, "teacher_epochs": 1, "student_epochs": 1, "oracle_epochs": 1}
    return Plan(weights=tmp_path / "weights", cache=tmp_path / "cache", **sizes)


@pytest.mark.slow
def test_a_small_run_writes_every_kind_of_model(plan):
    jobs.train_teacher(plan, "")
    jobs.train_teacher(plan, "mug")
    figures = {
        "sandbox": jobs.train_student(plan, "sandbox", "", 0),
        "sandbox-conv": jobs.train_conv(plan, 1.0),
        "oracle-mug-0": jobs.train_student(plan, "oracle-mug-0", "mug", 0),
    }
    jobs.convert(plan)
    assert {path.name for path in plan.weights.iterdir()} == {*figures, "sandbox-openclip"}
    assert "forgotten" in figures["oracle-mug-0"]
    assert "forgotten" not in figures["sandbox"]
    assert "without the class `mug`" in (plan.weights / "oracle-mug-0" / "README.md").read_text()
    assert CLIPModel.from_pretrained(plan.weights / "sandbox").dtype == torch.float32
    train._save(plan, figures, 1.0, 1)
    train._save(plan, {"oracle-cat-0": figures["sandbox"]}, 1.0, 1)
    assert set(json.loads((plan.weights / "metrics.json").read_text())["models"]) == {*figures, "oracle-cat-0"}


def test_the_same_seed_builds_the_same_model_and_leaves_the_random_state():
    before = torch.random.get_rng_state()
    first, again, other = build_vit(0).state_dict(), build_vit(0).state_dict(), build_vit(1).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual_projection.weight"], other["visual_projection.weight"])


@pytest.mark.parametrize(
    ("wanted", "teachers", "made", "converted"),
    [
        (("sandbox",), [""], {"sandbox"}, 1),
        (("sandbox-conv", "oracle-mug-1"), ["", "mug"], {"sandbox-conv", "oracle-mug-1"}, 0),
        (("sandbox-openclip",), [], set(), 1),
        (train.NAMES, ["", "mug", "cat", "car"], set(train.NAMES) - {"sandbox-openclip"}, 1),
    ],
)
def test_only_what_is_asked_for_is_trained(plan, monkeypatch, wanted, teachers, made, converted):
    calls = {"teachers": [], "converted": 0}
    monkeypatch.setattr(train, "train_teacher", lambda _, without: calls["teachers"].append(without) or 1.0)
    monkeypatch.setattr(train, "train_student", lambda _, name, without, seed: {"without": without, "seed": seed})
    monkeypatch.setattr(train, "train_conv", lambda _, seconds: {"seconds": seconds})
    monkeypatch.setattr(train, "convert", lambda _: calls.update(converted=calls["converted"] + 1))
    with ThreadPoolExecutor(1) as workers:
        figures = train._train(plan, wanted, workers)
    assert set(figures) == made
    assert calls == {"teachers": teachers, "converted": converted}
    assert figures.get("oracle-mug-1", {"without": "mug", "seed": 1}) == {"without": "mug", "seed": 1}


def test_the_command_line_knows_every_model():
    chosen = train._parser().parse_args(["--only", *train.NAMES, "--jobs", "1"])
    assert chosen.only == list(train.NAMES)
    assert len(train.NAMES) == 9
    with pytest.raises(SystemExit):
        train._parser().parse_args(["--only", "oracle-dragon-0"])
