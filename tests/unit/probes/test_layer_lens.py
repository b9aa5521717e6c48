"""The class read from every block, on models of which is known which block still holds it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from known import DATA, REQUEST, SUPPORT, ignorant, original, readings, value
from painted import paint

from clip_unlearn.core.attacks import POWER
from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.core.work import Size
from clip_unlearn.data.images import ImageSet
from clip_unlearn.data.open import open_data
from clip_unlearn.data.prepared import pixels_of
from clip_unlearn.errors import DataError, UndefinedError
from clip_unlearn.models.open import open_model
from clip_unlearn.probes.audit import layer_lens
from clip_unlearn.probes.audit._blocks import block_means, lens
from clip_unlearn.probes.audit._scene import Shown, open_scene
from clip_unlearn.probes.audit.layer_lens import LayerLens, _fitted, _leads, _read

AUDIT = LayerLens(data=DATA, support=SUPPORT, shares=(0.1,), images=300, compared=60)
NAME, BLOCK = "layer lens accuracy", "vision_model.encoder.layers"


def scrambled(place: int) -> Model:
    """Return the original with one block of its image tower drawn anew."""
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(weight.shape, generator=generator) * 0.3
        for name, weight in original().weights.items()
        if name.startswith(f"{BLOCK}.{place}.") and weight.dim() > 1
    }
    return original().replace(weights)


def some(count: int) -> tuple[ImageSet, torch.Tensor]:
    images = open_data(DATA).take(range(count))
    return images, pixels_of(images, original().adapter.prepare, range(count))[0]


def test_what_a_last_layer_hides_is_read_below_it() -> None:
    """By a fit; the lens goes through the layer that hides it."""
    found = readings(AUDIT, "shallow")
    before = value(found, f"worst {NAME}", "before")
    assert before > 0.9
    assert value(found, NAME, "control", "without the attack") < 0.1
    assert value(found, f"worst {NAME}", "control") >= POWER * before
    for subject in ("control", "after"):
        assert value(found, NAME, subject, f"refit, {BLOCK}.3, 0.1") > 0.9
        assert max(value(found, NAME, subject, f"lens, {BLOCK}.{place}") for place in range(4)) < 0.1


def test_nothing_is_read_that_was_never_there() -> None:
    assert value(readings(AUDIT, "ignorant"), f"worst {NAME}", "after") < 0.3


def test_a_block_that_hides_the_class_is_seen_past_by_the_lens() -> None:
    found = AUDIT.measure(original(), scrambled(3), REQUEST)
    assert value(found, NAME, "after", f"lens, {BLOCK}.3") < 0.1
    assert value(found, NAME, "after", f"lens, {BLOCK}.2") > 0.7


def test_nothing_is_read_behind_a_block_that_destroys_it() -> None:
    found = AUDIT.measure(original(), scrambled(0), REQUEST)
    assert value(found, f"worst {NAME}", "after") < 0.3
    assert value(found, f"worst {NAME}", "control") > 0.9


@pytest.mark.parametrize("where", ["sandbox", "sandbox-conv", "sandbox-openclip"])
def test_the_lens_at_the_last_block_is_the_model(where: str) -> None:
    model = open_model(where)
    images = open_data(DATA).take(range(30))  # More than one batch.
    pixels, _ = pixels_of(images, model.adapter.prepare, range(30))
    found = list(lens(model, images).values())
    torch.testing.assert_close(found[-1].rows, model.images(pixels), rtol=1e-4, atol=1e-5)
    assert found[-1].kept == tuple(range(30))
    assert not any(module._forward_hooks for module in model.module.modules())


def test_the_lens_by_hand() -> None:
    """The second block's output goes through the norm and the projection, at the first token."""
    model = original()
    images, pixels = some(3)
    given: list[torch.Tensor] = []
    tower = model.module.vision_model  # type: ignore[union-attr]
    handle = tower.encoder.layers[1].register_forward_hook(  # type: ignore[union-attr, operator, index]
        lambda _module, _inputs, output: given.append(output[0] if isinstance(output, tuple) else output)
    )
    model.images(pixels)
    handle.remove()
    expected = tower.post_layernorm(given[0][:, 0]) @ model.weights["visual_projection.weight"].T  # type: ignore
    torch.testing.assert_close(lens(model, images)[f"{BLOCK}.1"].rows, expected, rtol=1e-4, atol=1e-5)
    means = block_means(model, images)[f"{BLOCK}.1"]
    torch.testing.assert_close(means.rows, given[0].mean(1), rtol=1e-4, atol=1e-5)


def test_blocks_of_another_shape_have_no_lens() -> None:
    model = open_model("sandbox-conv")
    images, _ = some(4)
    assert [block.rpartition(".")[2] for block in lens(model, images)] == ["23", "24", "25"]
    assert len(block_means(model, images)) == 26


def test_no_image_of_the_forgotten_is_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[ImageSet] = []

    def spied(model: Model, images: ImageSet) -> dict[str, Shown]:
        seen.append(images)
        return dict(block_means(model, images))

    monkeypatch.setattr(layer_lens, "block_means", spied)
    LayerLens(data=DATA, support=SUPPORT, shares=(0.1,), images=60, compared=30).measure(
        original(), original(), REQUEST
    )
    own, support = seen
    assert {own.classes[label] for label in own.labels} == {"mug"}
    assert len(support) == 60
    assert "mug" not in {support.classes[label] for label in support.labels}


def test_a_block_that_gives_everything_one_name_is_not_read() -> None:
    """In a model that never saw the class, what its first block gives ends near the unused name."""
    scene = open_scene(DATA, "audit", REQUEST)
    first = lens(ignorant(), scene.images)[f"{BLOCK}.0"]
    assert float(scene.right(first.rows, scene.texts(ignorant()), first.kept).double().mean()) > 0.7
    assert value(readings(AUDIT, "ignorant"), NAME, "after", f"lens, {BLOCK}.0") < 0.2


def test_leads_and_limits_by_hand() -> None:
    texts = torch.eye(3)
    torch.testing.assert_close(
        _leads(torch.tensor([[0.6, 0.8, 0.0]]), texts), torch.tensor([[-0.2, 0.2, -0.8]]), rtol=0, atol=1e-6
    )
    images = open_data(DATA)
    mug = images.class_index("mug")
    scene = open_scene(DATA, "audit", REQUEST)
    texts = torch.eye(len(images.classes))
    clear, faint, wrong = texts[mug], texts[mug] + 0.9 * texts[mug - 1], 0.9 * texts[mug] + texts[mug - 1]
    own = Shown(rows=torch.stack([clear, faint, wrong]), kept=(0, 1, 2))
    elsewhere, near = texts[mug - 2].expand(40, -1), (texts[mug] + 0.5 * texts[mug - 1]).expand(40, -1)
    assert _read(scene, own, elsewhere, texts).tolist() == [True, True, False]
    assert _read(scene, own, near, texts).tolist() == [True, False, False]


def test_a_fit_does_not_pay_for_what_all_images_share() -> None:
    """A constant added to all rows changes nothing, and the mean of the goals comes for free."""
    random = torch.Generator().manual_seed(0)
    learned, own = (torch.randn(count, 4, generator=random, dtype=torch.float64) for count in (20, 5))
    goals = learned @ torch.randn(4, 3, generator=random, dtype=torch.float64) + 7
    plain = _fitted(learned, goals, own, 0.1)
    torch.testing.assert_close(_fitted(learned + 1000, goals, own + 1000, 0.1), plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        _fitted(learned, goals, learned.mean(0, keepdim=True), 0.1), goals.mean(0, keepdim=True), rtol=0, atol=1e-9
    )


def test_what_it_cannot_be_made_on(painter: Model, tmp_path: Path) -> None:
    where = paint(tmp_path / "photos", {"red": ["red"] * 3, "green": ["green"] * 3})
    teach = paint(tmp_path / "teach", {"green": ["green"] * 3}, mark=9)
    asked = Request(forget=(Concept(name="red"),), retain=("green",))
    with pytest.raises(UndefinedError, match="no blocks"):
        LayerLens(data=where, split="all", support=teach).measure(painter, painter, asked)
    with pytest.raises(UndefinedError, match="no blocks"):
        lens(painter, open_data(where))
    with pytest.raises(UndefinedError, match="learns from images of other classes"):
        LayerLens(data=DATA).measure(original(), original(), REQUEST)
    for picture in (tmp_path / "teach" / "green").iterdir():
        picture.write_bytes(b"no picture")
    with pytest.raises(DataError, match="none of the images can be read"):
        block_means(painter, open_data(teach))


def test_a_tower_that_loses_images_has_no_lens() -> None:
    """What comes after its last block takes one batch alone: nothing can go on with it."""
    model = original()
    embed = model.adapter.image.embed
    narrow = replace(model.adapter.image, embed=lambda module, pixels: embed(module, pixels)[: len(pixels)])
    images, _ = some(2)
    with pytest.raises(UndefinedError, match="no blocks"):
        lens(replace(model, adapter=replace(model.adapter, image=narrow)), images)


def test_its_estimate() -> None:
    """The original's features serve an edit of the last layer."""
    size = Size(images=900, forgotten=30, support=500, classes=28, background=27, templates=2)
    same, other = (AUDIT.work(original(), original(), replace(size, image_towers=count)) for count in (1, 2))
    assert same.images == (300 + 30) + 2 * (30 + 60) + 2 * 30
    assert (same.support, other.images - same.images) == (300, 300 + 30)
