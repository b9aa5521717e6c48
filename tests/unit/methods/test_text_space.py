"""Text space: where the names go, what stays, and what each setting means."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.errors import UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.ridge import ridge_edit
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.text_space import TextSpace, told_apart

REQUEST = Request(
    forget=(Concept(name="cat", synonyms=("teapot",)),),
    retain=("dog", "mug"),
    background=("car",),
    templates=("a photo of a {}.", "one {}"),
)
FORGET = (*REQUEST.sentences(["cat", "teapot"]), "cat", "teapot")
HELD = (*REQUEST.sentences(["dog", "mug"]), "dog", "mug", *REQUEST.sentences(["car"]), "car")
QUICK = {"solver": "published", "destination": "retain", "steps": 200}


def edited(model: Model, request: Request = REQUEST, **settings: object) -> Model:
    return TextSpace(**settings).forget(model, request).apply(model)


def place(model: Model, *sentences: str) -> Tensor:
    """Return the direction of the mean of the unit embeddings."""
    return unit(unit(model.texts(sentences).double()).mean(0))


def lies_at(model: Model, sentences: tuple[str, ...], wanted: Tensor) -> bool:
    """Return whether all the sentences have one direction, up to float32."""
    return bool(((unit(model.texts(sentences).double()) @ wanted) > 1 - 1e-5).all())


def hiding_features(model: Model) -> Model:
    """Return the model as one of a family that does not tell what its text tower holds before the readout."""
    text = dataclasses.replace(model.adapter.text, features=None)
    return dataclasses.replace(model, adapter=dataclasses.replace(model.adapter, text=text))


def dense_solution(model: Model, forget_weight: float, retain_weight: float, background_weight: float) -> Tensor:
    """Return the change of the readout [D, d] as the solution of one tall least-squares problem."""
    moved, kept = (model.text_features(group).double() for group in (FORGET, HELD))
    scale = torch.cat([moved, kept]).norm(dim=1).mean()
    start = model.texts(FORGET).double()
    steps = place(model, *HELD[:6]) * start.norm(dim=1, keepdim=True) - start
    weights = torch.tensor([retain_weight] * 6 + [background_weight] * 3).double().sqrt().unsqueeze(1)
    rows = [torch.eye(moved.shape[1]).double(), forget_weight**0.5 * moved / scale, weights * kept / scale]
    goals = torch.zeros(sum(len(part) for part in rows), start.shape[1]).double()
    goals[len(rows[0]) : len(rows[0]) + len(moved)] = forget_weight**0.5 * steps / scale
    return torch.linalg.lstsq(torch.cat(rows), goals).solution


def test_every_sentence_that_names_the_class_goes_to_the_mean_retained_name(tiny):
    neutral = place(tiny.model, *HELD[:6])
    assert not lies_at(tiny.model, FORGET, neutral)
    after = edited(tiny.model, forget_weight=math.inf, retain_weight=1.0)
    assert lies_at(after, FORGET, neutral)
    before_norms, after_norms = tiny.model.texts(FORGET).norm(dim=1), after.texts(FORGET).norm(dim=1)
    torch.testing.assert_close(after_norms, before_norms, rtol=1e-3, atol=1e-4)


def test_it_is_the_dense_least_squares_solution(tiny):
    weights = {"forget_weight": 50.0, "retain_weight": 2.0, "background_weight": 0.7}
    patch = TextSpace(**weights).forget(tiny.model, REQUEST)
    readout = tiny.model.readout("text")
    assert patch.touches == (readout.weight,)
    change = patch.deltas[readout.weight]
    assert isinstance(change, LowRank)
    dense = change.dense() if readout.transposed else change.dense().T
    wanted = dense_solution(tiny.model, *weights.values()).float()
    torch.testing.assert_close(dense, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))


def test_what_is_held_moves_less_the_heavier_it_weighs(tiny):
    def moved(weight: float) -> float:
        after = edited(tiny.model, retain_weight=weight, background_weight=weight)
        return float(1 - (unit(after.texts(HELD)) * unit(tiny.model.texts(HELD))).sum(1).min())

    loose, firm = moved(0.0), moved(1e6)
    assert firm < 1e-3
    assert firm < loose / 5


def test_the_background_is_held_but_not_neutral_ground(tiny_clip):
    without = REQUEST.model_copy(update={"background": ()})
    settings = {"forget_weight": math.inf, "background_weight": 1e6}
    neutral = place(tiny_clip.model, *HELD[:6])
    cars = HELD[6:]
    held, free = (unit(edited(tiny_clip.model, request, **settings).texts(cars)) for request in (REQUEST, without))
    before = unit(tiny_clip.model.texts(cars))
    assert (held - before).abs().max() < (free - before).abs().max() / 5
    assert lies_at(edited(tiny_clip.model, forget_weight=math.inf, retain_weight=0.0), FORGET, neutral)


def test_the_background_stands_in_where_nothing_is_to_be_retained(tiny_clip):
    request = REQUEST.model_copy(update={"retain": (), "background": ("dog", "mug")})
    settings = {"forget_weight": math.inf, "retain_weight": 0.0, "background_weight": 0.0}
    neutral = place(tiny_clip.model, *HELD[:6])
    assert lies_at(edited(tiny_clip.model, request, **settings), FORGET, neutral)
    published = TextSpace(**QUICK).forget(tiny_clip.model, request)
    by_retain = TextSpace(**QUICK).forget(tiny_clip.model, REQUEST)
    assert published.apply(tiny_clip.model).fingerprint == by_retain.apply(tiny_clip.model).fingerprint


def test_a_name_of_the_background_that_means_the_class_does_not_hold_it(tiny_clip):
    """Both words are unknown to the tokenizer, so that the model takes the one for the other."""
    request = Request(forget=(Concept(name="quux"),), retain=("dog", "mug"), background=("car", "frob", "bird"))
    assert told_apart(tiny_clip.model, request) == ("car", "bird")
    assert told_apart(tiny_clip.model, request.model_copy(update={"background": ()})) == ()
    alike = Request(forget=(Concept(name="cat"), Concept(name="dog")))
    alike = alike.model_copy(update={"background": ("Cat", "Dog")})  # capitals are all the same to the tokenizer
    with pytest.raises(UnsupportedError, match=r"no name that the model tells apart from these\. Give --retain"):
        TextSpace().forget(tiny_clip.model, alike)


def test_images_are_left_alone_to_the_bit(tiny, pixels):
    assert torch.equal(edited(tiny.model).images(pixels), tiny.model.images(pixels))


@pytest.mark.parametrize(
    ("wording", "sentences"),
    [("both", FORGET), ("templates", FORGET[:4]), ("bare", FORGET[4:])],
)
def test_the_wording_says_which_sentences_move(tiny_clip, wording, sentences):
    patch = TextSpace(wording=wording).forget(tiny_clip.model, REQUEST)
    assert patch.deltas["text_projection.weight"].left.shape[1] == len(sentences)


def test_a_template_that_is_the_bare_name_stands_once(tiny_clip):
    request = REQUEST.model_copy(update={"templates": ("{}",)})
    patch = TextSpace().forget(tiny_clip.model, request)
    assert patch.deltas["text_projection.weight"].left.shape[1] == 2
    both, bare = (
        TextSpace(**QUICK, wording=wording).forget(tiny_clip.model, request).deltas["text_projection.weight"].dense()
        for wording in ("both", "bare")
    )
    assert torch.equal(both, bare)


def test_the_empty_sentence_is_a_destination(tiny_clip):
    request = REQUEST.model_copy(update={"retain": (nearest_to_nothing(tiny_clip.model),), "background": ()})
    after = edited(tiny_clip.model, request, destination="empty", wording="bare", forget_weight=math.inf)
    assert lies_at(after, FORGET[4:], place(tiny_clip.model, ""))


def test_a_class_nearest_to_the_empty_sentence_is_sent_elsewhere(tiny_clip):
    name = nearest_to_nothing(tiny_clip.model)
    kept = tuple(other for other in ("dog", "bird", "car") if other != name)
    settings = {"destination": "empty", "wording": "bare", "forget_weight": math.inf, "retain_weight": 0.0}
    places = []
    for seed in (0, 0, 1):
        request = Request(forget=(Concept(name=name),), retain=kept, seed=seed)
        places.append(unit(edited(tiny_clip.model, request, **settings).texts([name]))[0])
        named = unit(tiny_clip.model.texts([name, *kept]))
        assert int((named @ places[-1]).argmax()) > 0
    assert not lies_at(tiny_clip.model, ("",), places[0].double())
    assert torch.equal(places[0], places[1])
    assert not torch.allclose(places[0], places[2], atol=0.1)


def test_where_chance_finds_no_neutral_place_the_request_is_refused(tiny_clip):
    """Both words are unknown to the tokenizer, so that no place is farther from the one than from the other."""
    request = Request(forget=(Concept(name="quux"),), retain=("frob",))
    with pytest.raises(UnsupportedError, match=r"Use other names to retain\.$"):
        TextSpace(destination="empty").forget(tiny_clip.model, request)


def test_a_family_that_hides_its_features_gets_a_map_of_the_embedding(tiny):
    model = hiding_features(tiny.model)
    patch = TextSpace(forget_weight=20.0, retain_weight=3.0, background_weight=3.0).forget(model, REQUEST)
    assert patch.touches == ("output:text",)
    moved, held = (model.texts(group).double() for group in (FORGET, HELD))
    scale = torch.cat([moved, held]).norm(dim=1).mean()
    goals = place(model, *HELD[:6]) * moved.norm(dim=1, keepdim=True)
    edit = ridge_edit(moved / scale, goals / scale, held / scale, forget_weight=20.0, retain_weight=3.0)
    rows = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(patch.outputs["text"](rows), edit.on_vectors()(rows), rtol=1e-4, atol=1e-4)
    assert patch.folded(model).touches == (model.readout("text").weight,)


def test_a_map_that_the_text_tower_has_already_comes_after_the_change(tiny_clip):
    down = torch.randn(16, 2, generator=torch.Generator().manual_seed(3))
    mapped = tiny_clip.model.replace(outputs={"text": AffineMap(down=down, up=down.T.contiguous() / 30)})
    change = TextSpace().forget(mapped, REQUEST).deltas["text_projection.weight"].dense()
    bare = TextSpace().forget(tiny_clip.model, REQUEST).deltas["text_projection.weight"].dense()
    torch.testing.assert_close(change, bare, rtol=0, atol=1e-5)


def test_training_comes_near_its_destination_with_a_change_of_low_rank(tiny):
    patch = TextSpace(**QUICK, rank=2).forget(tiny.model, REQUEST)
    assert patch.deltas[tiny.model.readout("text").weight].left.shape[1] == 2
    bare = FORGET[4:]
    wanted = place(tiny.model, "dog", "mug")
    before, after = ((wanted - model.texts(bare).double()).norm() for model in (tiny.model, patch.apply(tiny.model)))
    assert after < 0.3 * before + 1e-5


def test_training_starts_again_with_a_larger_weight_until_it_comes_near_enough(tiny_clip):
    stages: list[str] = []
    with reporting(lambda stage, done, total: stages.append(stage)):
        patch = TextSpace(**QUICK, forget_weight=0.01, increase=0.5).forget(tiny_clip.model, REQUEST)
    starts = list(dict.fromkeys(stages))
    assert not patch.empty
    assert len(starts) > 1
    assert starts[0] == "train, start 1"
    assert stages.count(starts[0]) == QUICK["steps"] + 1


@pytest.mark.parametrize("settings", [{"steps": 1}, {"learning_rate": 1e-6}, {"change_weight": 1e3}])
def test_training_that_never_comes_near_gives_an_empty_patch_with_the_reason(tiny_clip, settings):
    enough = {**QUICK, "forget_weight": 20.0, "trials": 2}
    assert not TextSpace(**enough).forget(tiny_clip.model, REQUEST).empty
    patch = TextSpace(**{**enough, **settings}).forget(tiny_clip.model, REQUEST)
    assert patch.empty
    assert patch.reason.startswith("After 2 starts the distance to the neutral place fell by ")
    assert patch.reason.endswith("not by 70%. Raise forget_weight or lower retain_weight.")


def test_training_depends_on_the_seed_alone(tiny_clip):
    def change(seed: int) -> Tensor:
        patch = TextSpace(**QUICK).forget(tiny_clip.model, REQUEST.model_copy(update={"seed": seed}))
        return patch.deltas["text_projection.weight"].dense()

    assert torch.equal(change(0), change(0))
    assert not torch.equal(change(0), change(1))


def test_the_published_solver_brings_the_published_settings():
    published = TextSpace(solver="published")
    assert (published.destination, published.wording) == ("empty", "bare")
    assert (published.forget_weight, published.retain_weight) == (1.1, 0.3)
    assert (published.rank, published.steps, published.learning_rate, published.trials) == (5, 2000, 0.01, 100)
    assert (published.change_weight, published.increase, published.wanted_fall) == (1.0, 0.05, 0.7)
    assert TextSpace(solver="published", forget_weight=1.3).forget_weight == 1.3
    assert TextSpace().forget_weight == TextSpace(solver="ridge").forget_weight == 10_000
    with pytest.raises(ValueError, match="valid dictionary or instance"):
        TextSpace.model_validate("published")


def test_a_text_readout_and_names_to_retain_are_needed(tiny):
    towers = {"image": tiny.model.adapter.image, "text": tiny.model.adapter.text}

    def without(side: str) -> Model:
        bare = {**towers, side: dataclasses.replace(towers[side], readout=None)}
        return dataclasses.replace(tiny.model, adapter=dataclasses.replace(tiny.model.adapter, **bare))

    for call in (TextSpace().check, TextSpace().forget):
        with pytest.raises(UnsupportedError, match=r"needs a text tower that ends in a linear layer\. Use Project"):
            call(without("text"), REQUEST)
        with pytest.raises(UnsupportedError, match=r"needs names to retain\. Give --retain"):
            call(tiny.model, REQUEST.model_copy(update={"retain": (), "background": ()}))
    TextSpace().check(without("image"), REQUEST)


@pytest.mark.parametrize("name", ["forget_weight", "rank", "steps", "learning_rate", "wanted_fall", "trials"])
def test_settings_are_checked(name):
    with pytest.raises(ValueError, match=name):
        TextSpace(**{name: 0})


def nearest_to_nothing(model: Model) -> str:
    """Return the word whose embedding is nearest to that of the empty sentence."""
    words = ("cat", "teapot", "dog", "mug", "bird", "car")
    nearest = int((unit(model.texts(words)) @ unit(model.texts([""])).T).argmax())
    return words[nearest]
