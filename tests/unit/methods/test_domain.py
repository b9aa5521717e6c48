"""Forgetting by domain: what the two directions read, which images change, and what each setting means."""

import pytest
import torch

from clip_unlearn.core.config import build
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import SettingError, UnsupportedError
from clip_unlearn.maths.scores import cosines
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods import domain as file
from clip_unlearn.methods.domain import Domain
from clip_unlearn.models.open import open_model
from clip_unlearn.sandbox.classes import CLASS_NAMES
from clip_unlearn.synthesis.ascend import Ascent

REQUEST = Request(forget=(Concept(name="cat"),), retain=("dog", "mug", "bird"))
MEDIA = ("photo", "painting", "sketch")
TARGETS = ("mug", "cat", "car")
QUICK = Ascent(steps=20)


def rows(model, *sentences: str) -> torch.Tensor:
    with torch.no_grad():
        return unit(model.texts(sentences).double())


def factors(model, method, request=REQUEST) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the map reads and what it adds for it, one row per concept."""
    output = method.forget(model, request).outputs["image"]
    return output.down.T.double(), output.up.double()


@pytest.fixture(scope="module")
def sandbox():
    return open_model("sandbox")


@pytest.fixture(scope="module")
def world(sandbox):
    """Return a picture set of the targets and their groups, its embeddings, and the domain of each."""
    images = open_data("sandbox@select")
    images = images.take(index for index, name in enumerate(images.keys) if int(name.rpartition("/")[2]) < 8)
    return images, embed_images(sandbox, images).vectors


def shares(model, world, method, target: str) -> dict[tuple[bool, str], float]:
    """Return the accuracy by (is it the target, domain) after the target was forgotten."""
    images, vectors = world
    request = Request(forget=(Concept(name=target),), retain=tuple(name for name in CLASS_NAMES if name != target))
    after = method.forget(model, request).outputs["image"](vectors)
    texts = rows(model, *[f"a photo of a {name}." for name in images.classes])
    labels = torch.tensor(images.labels)
    hit = (cosines(after, texts).argmax(1) == labels).double()
    own = labels == images.class_index(target)
    places = {word: torch.tensor([one == word for one in images.domains]) for word in MEDIA}
    return {
        (is_own, word): float(hit[mask & (own == is_own)].mean())
        for word, mask in places.items()
        for is_own in (True, False)
    }


@pytest.mark.parametrize("mode", ["class", "class_in_domain", "domain_complete"])
def test_the_map_is_one_direction_each_way_for_each_concept(tiny, mode):
    method = Domain(mode=mode, domain=None if mode == "class" else "drawing", domains=("photo", "drawing"))
    request = Request(forget=(Concept(name="cat", synonyms=("teapot",)), Concept(name="car")), retain=("dog", "mug"))
    patch = method.forget(tiny.model, request)
    assert patch.touches == ("output:image",)
    assert patch.outputs["image"].rank == 2


def test_scores_of_the_class_fall_and_those_of_retained_names_stay(sandbox):
    """(z down) up . t is -strength (z . u) for the class and near 0 for the others, whatever z is."""
    request = Request(forget=(Concept(name="mug"),), retain=tuple(name for name in CLASS_NAMES if name != "mug"))
    reads, adds = factors(sandbox, Domain(strength=0.5, domains=MEDIA), request)
    scores = adds[0] @ rows(sandbox, *[f"a photo of a {name}." for name in ("mug", *request.retain)]).T
    assert float(scores[0]) == pytest.approx(1, abs=0.02)
    assert float(scores[1:].abs().max()) < 0.2
    shown = rows(sandbox, *[f"a {place} of a mug." for place in MEDIA])
    assert float((shown @ reads[0]).mean()) == pytest.approx(-0.5, abs=1e-5)


def test_a_chosen_domain_is_read_and_the_others_less(sandbox):
    request = Request(forget=(Concept(name="mug"),), retain=tuple(name for name in CLASS_NAMES if name != "mug"))
    reads, _ = factors(sandbox, Domain(mode="class_in_domain", domain="sketch", domains=MEDIA, strength=1), request)
    sketch, photo, painting = -(
        rows(sandbox, *[f"a {word} of a mug." for word in ("sketch", "photo", "painting")]) @ reads[0]
    )
    assert float(sketch) == pytest.approx(1, abs=1e-5)
    assert max(float(photo), float(painting)) < 0.5


def test_u_is_the_ridge_solution_of_weighted_prompts(tiny_clip):
    """u is parallel to (I + sum of weight row row^T)^-1 (prompts of the class in the domain), weights per group."""
    model, places = tiny_clip.model, ("drawing", "photo", "picture")
    method = Domain(mode="class_in_domain", domain="drawing", domains=places[1:], spare=4, retain_weight=2, strength=1)
    reads, _ = factors(model, method)
    shown = {
        (name, place): rows(model, f"a {place} of a {name}.")[0]
        for name in ("cat", *REQUEST.retain)
        for place in places
    }
    groups = [
        ([shown["cat", place] for place in places[1:]], 4.0),
        ([shown[name, "drawing"] for name in REQUEST.retain], 1.0),
        ([shown[name, place] for name in REQUEST.retain for place in places[1:]], 1.0),
    ]
    matrix = torch.eye(16, dtype=torch.float64)
    for group, weight in groups:
        matrix += sum(2.0 * weight / len(group) * torch.outer(row, row) for row in group)
    wanted = torch.linalg.solve(matrix, shown["cat", "drawing"])
    wanted = -wanted / (wanted @ shown["cat", "drawing"])
    torch.testing.assert_close(reads[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_a_class_is_forgotten_in_every_domain(sandbox, world, target):
    found = shares(sandbox, world, Domain(domains=MEDIA), target)
    assert max(found[True, word] for word in MEDIA) == 0
    assert min(found[False, word] for word in MEDIA) > 0.97


@pytest.mark.parametrize("target", TARGETS)
def test_a_sketched_class_is_forgotten_and_its_photos_and_paintings_stay(sandbox, world, target):
    found = shares(sandbox, world, Domain(mode="class_in_domain", domain="sketch", domains=MEDIA), target)
    assert found[True, "sketch"] == 0
    assert min(found[True, "photo"], found[True, "painting"]) > 0.8
    assert min(found[False, word] for word in MEDIA) > 0.95


@pytest.mark.parametrize("word", ["photo", "painting"])
def test_completeness_costs_the_class_in_other_domains(sandbox, world, word):
    kept = {}
    for mode in ("class_in_domain", "domain_complete"):
        found = shares(sandbox, world, Domain(mode=mode, domain=word, domains=MEDIA), "car")
        kept[mode] = sum(found[True, other] for other in MEDIA if other != word)
        assert found[True, word] <= (0.0 if mode == "domain_complete" else 0.25)
    assert kept["domain_complete"] < kept["class_in_domain"]


def test_more_spare_keeps_more_of_the_class_elsewhere(sandbox, world):
    less, more = (
        shares(sandbox, world, Domain(mode="class_in_domain", domain="sketch", domains=MEDIA, spare=spare), "cat")
        for spare in (0.1, 10)
    )
    assert sum(more[True, word] for word in MEDIA[:2]) > sum(less[True, word] for word in MEDIA[:2])


def test_strength_is_the_size_of_the_change(tiny):
    whole, half = (Domain(strength=strength).forget(tiny.model, REQUEST).outputs["image"] for strength in (1.0, 0.5))
    vectors = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(half(vectors), (vectors + whole(vectors)) / 2, rtol=1e-4, atol=1e-4)


def test_every_name_of_a_concept_falls(sandbox):
    request = Request(forget=(Concept(name="mug", synonyms=("cup", "beaker")),), retain=("bowl", "teapot", "car"))
    _, adds = factors(sandbox, Domain(domains=MEDIA), request)
    scores = adds[0] @ rows(sandbox, *[f"a photo of a {name}." for name in ("mug", "cup", "beaker")]).T
    assert scores.tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_the_background_is_held(sandbox):
    names = {"retain": ("bowl", "car")}
    plain, wide = (
        factors(sandbox, Domain(domains=MEDIA), Request(forget=(Concept(name="mug"),), background=background, **names))
        for background in ((), ("teapot",))
    )
    teapot = rows(sandbox, "a photo of a teapot.")[0]
    assert abs(float(wide[1][0] @ teapot)) < abs(float(plain[1][0] @ teapot))


def test_names_alone_are_enough(tiny):
    patch = Domain().forget(tiny.model, Request(forget=(Concept(name="cat"),)))
    assert patch.outputs["image"].rank == 1


def test_canonical_pictures_join_the_prompts_and_are_made_for_every_domain(tiny_clip, monkeypatch):
    calls = []
    real = file.synthesise

    def spied(model, targets, **arguments):
        calls.append((targets, arguments))
        return real(model, targets, **arguments)

    monkeypatch.setattr(file, "synthesise", spied)
    settings = {"mode": "class_in_domain", "domain": "drawing", "domains": ("photo", "drawing")}
    alone = factors(tiny_clip.model, Domain(**settings))
    joined = factors(tiny_clip.model, Domain(**settings, canonical="ascent", pictures=2, ascent=QUICK))
    ((targets, arguments),) = calls
    torch.testing.assert_close(
        targets.double(), rows(tiny_clip.model, "a drawing of a cat.", "a photo of a cat."), rtol=1e-5, atol=1e-6
    )
    assert (arguments["count"], arguments["settings"]) == (2, QUICK)
    assert len(arguments["classes"].rows) == 2 * (1 + len(REQUEST.retain))
    assert not torch.allclose(alone[0], joined[0])


def test_canonical_pictures_come_from_the_seed(tiny_clip):
    method = Domain(canonical="ascent", pictures=1, ascent=QUICK)
    first, same, other = (
        factors(tiny_clip.model, method, REQUEST.model_copy(update={"seed": seed}))[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_chosen_domain_may_be_among_the_domains_or_not(tiny):
    settings = {"mode": "class_in_domain", "domain": "drawing"}
    within, beside = (
        factors(tiny.model, Domain(**settings, domains=domains)) for domains in (("drawing", "photo"), ("photo",))
    )
    assert torch.equal(within[0], beside[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "class_in_domain"}, r"mode=class_in_domain needs a domain\. Add one"),
        ({"mode": "domain_complete"}, r"mode=domain_complete needs a domain\. Add one"),
        ({"mode": "class", "domain": "sketch"}, r"forgets in every domain\. Remove the domain"),
        (
            {"mode": "class_in_domain", "domain": "Sketch", "domains": ("sketch",)},
            r"'Sketch' is the only domain\. Name others",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tiny_clip, settings, message):
    for act in (Domain(**settings).check, Domain(**settings).forget):
        with pytest.raises(SettingError, match=message):
            act(tiny_clip.model, REQUEST)


@pytest.mark.parametrize(
    "settings",
    [
        {"forms": ("a photo of a {name}.",)},
        {"forms": ("a {domain} of {domain} {name}",)},
        {"forms": ()},
        {"domains": ()},
        {"domains": ("photo", " ")},
        {"domains": ("photo", "Photo")},
        {"domain": "{name}"},
        {"strength": 0},
        {"spare": -1},
        {"mode": "everywhere"},
        {"pictures": 0},
    ],
)
def test_unusable_settings_are_refused_in_one_line(settings):
    with pytest.raises(SettingError, match=r"^method domain: [^\n]*\.$"):
        build(Domain, settings, where="method domain")


def test_names_that_are_the_same_to_the_model_are_refused(tiny_clip):
    """Both words are unknown to the tokenizer, so that they are the same sentence to the model."""
    request = Request(forget=(Concept(name="quux"),), retain=("dog", "frob"))
    with pytest.raises(UnsupportedError, match=r"takes 'quux' and 'frob' for the same\. Use other names\.$"):
        Domain().forget(tiny_clip.model, request)


def test_a_domain_that_the_model_does_not_know_is_refused(tiny_clip):
    method = Domain(mode="class_in_domain", domain="quux", domains=("frob",))
    with pytest.raises(UnsupportedError, match=r"does not tell 'quux' from the other domains\. Use other words"):
        method.forget(tiny_clip.model, REQUEST)
