"""Embeddings of long lists of sentences: computed once, right after damage, and looked up in a table."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data import texts
from clip_unlearn.data.texts import embed_texts, name_rows
from clip_unlearn.files import tensors
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.vectors import unit

SENTENCES = ["a photo of a cat.", "dog", "one big red teapot"]
REQUEST = Request(forget=(Concept(name="cat"),), templates=("a photo of a {}.", "one {}"))
TABLE = ("bird", "cat", "dog", "mug", "teapot", "car")


@pytest.fixture
def spied(tiny_clip) -> tuple[Model, list[int]]:
    """Return a model, and the sizes of the batches that its text tower runs."""
    model, sizes = tiny_clip.model, []

    def embed(module: torch.nn.Module, tokens: dict[str, Tensor]) -> Tensor:
        sizes.append(len(tokens["input_ids"]))
        return model.adapter.text.embed(module, tokens)

    tower = replace(model.adapter.text, embed=embed)
    return replace(model, adapter=replace(model.adapter, text=tower)), sizes


def removal(model: Model) -> AffineMap:
    return remove_directions(model.texts(["dog"]).detach(), strength=0.5)


def test_the_second_time_the_tower_rests(spied, own_cache):
    model, sizes = spied
    first, second = embed_texts(model, SENTENCES), embed_texts(model, SENTENCES)
    assert sizes == [3]
    assert torch.equal(first, second)
    torch.testing.assert_close(first, model.texts(SENTENCES).detach())
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert len(list(own_cache.iterdir())) == 1


@pytest.mark.usefixtures("own_cache")
def test_other_sentences_another_order_and_other_weights_are_computed(spied):
    model, sizes = spied
    name = max(model.weights, key=lambda name: model.weights[name].dim())
    other = model.replace({name: model.weights[name].detach() * 1.5})
    for one, sentences in ((model, SENTENCES), (model, SENTENCES[::-1]), (model, SENTENCES[:2]), (other, SENTENCES)):
        torch.testing.assert_close(embed_texts(one, sentences), one.texts(sentences).detach())
    assert sizes == [3, 3, 3, 3, 2, 2, 3, 3]


@pytest.mark.parametrize("value", ["off", "OFF"])
def test_the_cache_can_be_turned_off(spied, own_cache, monkeypatch, tmp_path, value):
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", value)
    monkeypatch.chdir(tmp_path)
    model, sizes = spied
    assert torch.equal(embed_texts(model, SENTENCES), embed_texts(model, SENTENCES))
    assert sizes == [3, 3]
    assert list(tmp_path.rglob("*.safetensors")) == []


def _cut(path: Path, _: Tensor) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _folder(path: Path, _: Tensor) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path, Tensor], None]] = {
    "cut": _cut,
    "empty": lambda path, _: path.write_bytes(b""),
    "folder": _folder,
    "other name": lambda path, good: tensors.write(path, {"vectors": good}),
    "too few rows": lambda path, good: tensors.write(path, {"texts": good[:2]}),
    "other format": lambda path, good: tensors.write(path, {"texts": good.double()}),
    "other shape": lambda path, good: tensors.write(path, {"texts": good[:, 0]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_computed_again(spied, own_cache, damage):
    model, sizes = spied
    good = embed_texts(model, SENTENCES)
    (path,) = own_cache.iterdir()
    DAMAGES[damage](path, good)
    assert torch.equal(embed_texts(model, SENTENCES), good)
    assert sizes == [3, 3]
    if damage != "folder":
        assert torch.equal(embed_texts(model, SENTENCES), good)
        assert sizes == [3, 3]


def test_a_cache_that_cannot_be_written_costs_time_only(spied, own_cache):
    own_cache.parent.write_text("in the way")
    model, sizes = spied
    assert torch.equal(embed_texts(model, SENTENCES), embed_texts(model, SENTENCES))
    assert sizes == [3, 3]


@pytest.mark.usefixtures("own_cache")
def test_the_output_map_is_applied_after_loading(spied):
    model, sizes = spied
    raw = embed_texts(model, SENTENCES)
    edited = model.replace(outputs={"text": removal(model)})
    sizes.clear()
    found = embed_texts(edited, SENTENCES)
    assert sizes == []
    torch.testing.assert_close(found, removal(model)(raw))
    assert float((found - raw).norm()) > 0.1
    assert torch.equal(embed_texts(model, SENTENCES), raw)


@pytest.mark.usefixtures("own_cache")
def test_what_is_stored_is_without_the_output_map(spied):
    model, sizes = spied
    raw = model.texts(SENTENCES).detach()
    edited = model.replace(outputs={"text": removal(model)})
    expected = removal(model)(raw)
    sizes.clear()
    torch.testing.assert_close(embed_texts(edited, SENTENCES), expected)
    torch.testing.assert_close(embed_texts(model, SENTENCES), raw)
    assert sizes == [3]


def test_a_broken_model_shows_as_such_and_is_not_stored(spied, own_cache):
    model, _ = spied
    name = max(model.weights, key=lambda name: model.weights[name].dim() * name.startswith("text_projection"))
    broken = model.replace({name: torch.full_like(model.weights[name].detach(), torch.nan)})
    assert embed_texts(broken, SENTENCES).isnan().all()
    assert not own_cache.exists()


def literally(model: Model, names: list[str]) -> Tensor:
    rows = [
        [unit(model.texts([one.replace("{}", name)])[0].detach().double()) for one in REQUEST.templates]
        for name in names
    ]
    return torch.stack([torch.stack(row).mean(0) for row in rows])


@pytest.mark.parametrize("many", [1, 300])
@pytest.mark.parametrize(
    "names", [["dog"], ["old", "teapot", "small", "cat", "drawing"], ["big", "small"], ["mug", "car", "bird", "mug"]]
)
def test_rows_come_in_the_order_of_the_names(tiny, monkeypatch, many, names):
    monkeypatch.setattr(texts, "MANY", many)
    found = name_rows(tiny.model, REQUEST, names, table=TABLE)
    torch.testing.assert_close(found, literally(tiny.model, names), rtol=0, atol=1e-5)
    assert found.dtype == torch.float64
    assert not found.requires_grad


@pytest.mark.usefixtures("own_cache")
def test_long_lists_share_the_table(spied, monkeypatch):
    monkeypatch.setattr(texts, "MANY", 3)
    model, sizes = spied
    name_rows(model, REQUEST, ["cat", "dog", "small"], table=TABLE)
    assert sizes == [12, 2]
    name_rows(model, REQUEST, ["teapot", "big", "cat", "red"], table=TABLE)
    assert sizes == [12, 2, 4]
    name_rows(model, REQUEST, ["teapot", "cat"], table=TABLE)
    assert sizes == [12, 2, 4, 4]


def test_the_table_holds_for_an_edited_text_side(spied, monkeypatch):
    monkeypatch.setattr(texts, "MANY", 2)
    model, _ = spied
    edited = model.replace(outputs={"text": removal(model)})
    found = name_rows(edited, REQUEST, ["small", "dog", "cat"], table=TABLE)
    torch.testing.assert_close(found, literally(edited, ["small", "dog", "cat"]), rtol=0, atol=1e-5)


def test_no_names_have_no_rows(spied):
    model, sizes = spied
    assert len(name_rows(model, REQUEST, [], table=TABLE)) == 0
    assert sizes == []
