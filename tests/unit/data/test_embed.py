from dataclasses import replace

import pytest
import torch

from clip_unlearn.core.model import Tower
from clip_unlearn.data.embed import embed_images, embed_with_all
from clip_unlearn.data.images import from_encoded
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, StorageError, WeightsError
from clip_unlearn.files import tensors
from clip_unlearn.maths.affine import AffineMap


@pytest.fixture
def images(class_folder):
    return open_data(str(class_folder))


@pytest.fixture
def damaged(encode):
    def make(count, bad):
        contents = [b"no image" if index in bad else encode(index) for index in range(count)]
        return from_encoded(where="here", keys=[f"k{index}" for index in range(count)], read=contents.__getitem__)

    return make


def output():
    down, up = torch.tensor([[1.0], [0.0], [0.0], [0.5]]), torch.tensor([[-1.0, 0.0, 0.25, 0.0]])
    return {"image": AffineMap(down=down, up=up)}


def test_rows_are_the_models_own(counted, images):
    model, _ = counted
    found = embed_images(model, images, batch_size=5)
    pictures = [images.picture(index) for index in range(len(images))]
    assert torch.allclose(found.vectors, model.images(model.adapter.prepare(pictures)))
    assert (found.kept, found.quarantine) == (tuple(range(16)), ())
    assert found.vectors.dtype == torch.float32


def test_second_evaluation_embeds_nothing(counted, images, class_folder, own_cache):
    model, counter = counted
    first = embed_images(model, images)
    assert counter.images == 16
    assert len(list(own_cache.glob("*.safetensors"))) == 1
    second = embed_images(replace(model), open_data(str(class_folder)))
    assert counter.images == 16
    assert torch.equal(first.vectors, second.vectors)
    assert (first.kept, first.quarantine) == (second.kept, second.quarantine)


def test_output_maps_share_the_cache(counted, images):
    model, counter = counted
    plain = embed_images(model, images)
    edited = model.replace(outputs=output())
    mapped = embed_images(edited, images)
    assert counter.images == 16
    pictures = [images.picture(index) for index in range(len(images))]
    assert torch.allclose(mapped.vectors, edited.images(model.adapter.prepare(pictures)))
    assert not torch.allclose(mapped.vectors, plain.vectors)


def test_an_edited_model_first_stores_the_raw_rows(counted, images):
    model, counter = counted
    embed_images(model.replace(outputs=output()), images)
    plain = embed_images(model, images)
    assert counter.images == 16
    pictures = [images.picture(index) for index in range(len(images))]
    assert torch.allclose(plain.vectors, model.images(model.adapter.prepare(pictures)))


def test_weights_data_and_preparation_are_parts_of_the_key(counted, images, with_weight):
    model, counter = counted
    embed_images(model, images)
    embed_images(with_weight(model, 2.0), images)
    assert counter.images == 32
    embed_images(replace(model, adapter=replace(model.adapter, preparation="other")), images)
    assert counter.images == 48
    embed_images(model, images.take(range(15)))
    assert counter.images == 63


@pytest.mark.parametrize("word", ["off", "OFF"])
def test_cache_can_be_off(counted, images, own_cache, monkeypatch, word):
    monkeypatch.setenv("CLIP_UNLEARN_CACHE", word)
    model, counter = counted
    embed_images(model, images)
    embed_images(model, images)
    assert counter.images == 32
    assert not own_cache.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "names", "rows", "kept", "reasons"])
def test_damaged_cache_is_computed_again(counted, images, own_cache, damage):
    model, counter = counted
    first = embed_images(model, images)
    (path,) = own_cache.glob("*.safetensors")
    stored = tensors.read(path)
    if damage in ("empty", "cut", "noise"):
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": content[:-9], "noise": b"\xff" * len(content)}[damage])
    elif damage == "names":
        tensors.write(path, {"other": stored["vectors"]})
    elif damage == "rows":
        tensors.write(path, {**stored, "vectors": stored["vectors"][:3]})
    elif damage == "kept":
        tensors.write(path, {**stored, "kept": stored["kept"] + 1})
    else:
        tensors.write(path, {**stored, "reasons": torch.tensor([255, 1], dtype=torch.uint8)})
    again = embed_images(model, images)
    assert counter.images == 32
    assert torch.equal(first.vectors, again.vectors)
    embed_images(model, images)
    assert counter.images == 32


def test_full_disk_costs_no_result(counted, images, monkeypatch):
    def fail(*_):
        raise StorageError("disk full")

    monkeypatch.setattr(tensors, "write", fail)
    model, _ = counted
    assert len(embed_images(model, images).vectors) == 16


def test_one_bad_image_goes_to_quarantine(counted, damaged):
    model, _ = counted
    images = damaged(9, {4})
    for _ in range(2):
        found = embed_images(model, images, batch_size=4)
        assert found.kept == (0, 1, 2, 3, 5, 6, 7, 8)
        assert found.vectors.shape == (8, 4)
        assert len(found.quarantine) == 1
        assert found.quarantine[0].startswith("k4: not a JPEG")


def test_renamed_images_keep_their_reasons(counted, damaged):
    model, counter = counted
    images = damaged(9, {4})
    embed_images(model, images)
    renamed = replace(images, keys=tuple(f"new{index}" for index in range(9)))
    assert embed_images(model, renamed).quarantine[0].startswith("new4: not a JPEG")
    assert counter.images == 8


@pytest.mark.parametrize(
    ("count", "bad", "match"),
    [
        (1, {0}, "1 of 1 images cannot be read. The first is k0: not a JPEG"),
        (2, {0, 1}, "2 of 2 images"),
        (9, {3, 7}, "2 of 9 images"),
        (300, {1, 2, 3, 250}, "4 of 300 images cannot be read. The first is k1:"),
    ],
)
def test_too_many_bad_images(counted, damaged, count, bad, match):
    model, _ = counted
    with pytest.raises(DataError, match=match):
        embed_images(model, damaged(count, bad), batch_size=16)


def test_one_percent_is_allowed(counted, damaged):
    model, _ = counted
    assert len(embed_images(model, damaged(300, {1, 2, 250})).quarantine) == 3


def test_a_long_run_of_bad_images(counted, encode):
    model, counter = counted
    good = encode(1)
    for length, fails in ((100, False), (101, True)):
        bad = range(50, 50 + length)
        images = from_encoded(
            where="here",
            keys=[f"{length} {index}" for index in range(10_200)],
            read=lambda index, bad=bad: b"no image" if index in bad else good,
        )
        if fails:
            counter.images = 0
            with pytest.raises(DataError, match=r"more than 100 images in a row cannot be read\. The first is 101 50:"):
                embed_images(model, images)
            assert counter.images < 300
        else:
            assert len(embed_images(model, images, batch_size=512).quarantine) == 100


def test_odd_shapes_go_to_quarantine_alone(counted, encode):
    model, _ = counted
    contents = [encode(index, size=(1, 8) if index == 2 else (8, 8)) for index in range(8)]
    images = from_encoded(where="here", keys=list("abcdefgh"), read=contents.__getitem__)
    found = embed_images(model, images)
    assert found.kept == (0, 1, 3, 4, 5, 6, 7)
    assert found.quarantine == ("c: the model cannot take its shape (mean must have 1 element).",)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 7, 64])
def test_batches_are_whole_and_progress_is_told(counted, images, batch_size):
    model, counter = counted
    told = []
    embed_images(model, images, batch_size=batch_size, progress=lambda done, total: told.append((done, total)))
    assert counter.sizes == [min(batch_size, 16 - start) for start in range(0, 16, batch_size)]
    assert [done for done, _ in told] == [min(start + batch_size, 16) for start in range(0, 16, batch_size)]
    assert told[-1] == (16, 16)
    told.clear()
    embed_images(model, images, progress=lambda done, total: told.append((done, total)))
    assert told == [(16, 16)]


def test_two_models_share_one_pass_over_the_pictures(counted, images, with_weight):
    model, _ = counted
    shown = []
    watched = replace(images, picture=lambda index: (shown.append(index), images.picture(index))[1])
    other = with_weight(model, 2.0)
    first, second = embed_with_all([model, other], watched)
    assert sorted(shown) == list(range(16))
    assert torch.allclose(second.vectors, 2 * first.vectors)
    assert torch.equal(embed_images(other, images).vectors, second.vectors)


def test_models_that_prepare_differently_share_nothing(counted, images):
    model, _ = counted
    other = replace(model, adapter=replace(model.adapter, preparation="8x8"))
    with pytest.raises(ValueError, match="differently"):
        embed_with_all([model, other], images)


def test_nothing_to_embed(counted, images):
    with pytest.raises(DataError, match="has no images to embed"):
        embed_images(counted[0], images.take([]))


def test_broken_checkpoint(counted, images, own_cache):
    model, _ = counted
    broken = replace(model.adapter, image=Tower(embed=lambda _module, pixels: pixels.mean(dim=(2, 3)) / 0))
    with pytest.raises(WeightsError, match=r"toy gives NaN or infinity for 'fire_truck/0.png'"):
        embed_images(replace(model, adapter=broken), images)
    assert not own_cache.exists()


def test_memory_errors_are_passed_on(counted, images):
    def fail(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        embed_images(counted[0], replace(images, picture=fail))


@pytest.mark.parametrize("fixture", ["tiny_clip", "tiny_openclip"])
def test_real_families(fixture, images, request):
    pytest.importorskip("open_clip")
    model = request.getfixturevalue(fixture).model
    found = embed_images(model, images, batch_size=8)
    with torch.no_grad():
        expected = model.images(model.adapter.prepare([images.picture(index) for index in range(16)]))
    assert torch.allclose(found.vectors, expected, atol=1e-5)
    assert torch.equal(found.vectors, embed_images(model, images).vectors)
