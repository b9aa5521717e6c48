"""LEACE on a model: what it learns from, what it promises about it, and what it refuses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clip_unlearn.core.model import Model
from clip_unlearn.core.request import Concept, Evidence, Request
from clip_unlearn.data.embed import embed_images
from clip_unlearn.data.open import open_data
from clip_unlearn.errors import DataError, UnsupportedError
from clip_unlearn.maths.affine import AffineMap
from clip_unlearn.maths.vectors import unit
from clip_unlearn.methods.leace import Leace, features_of_images

CLASSES = ("bird", "car", "cat", "dog")
COUNT = 12


def draw_pictures(folder: Path, classes: tuple[str, ...] = CLASSES, *, count: int = COUNT) -> Path:
    """Write noise pictures, each class tinted in its own colour."""
    for place, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            random = np.random.default_rng((place, index))
            pixels = random.integers(0, 200, (32, 32, 3), dtype=np.uint8)
            pixels[..., place % 3] += np.uint8(50 * (place < 3))
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_pictures(tmp_path_factory.mktemp("pictures"))


def asking(where: Path, *forget: str | Concept) -> Request:
    images = open_data(str(where))
    concepts = tuple(Concept(name=name) if isinstance(name, str) else name for name in forget)
    named = {name for concept in concepts for name in concept.names}
    return Request(
        forget=concepts,
        retain=tuple(name for name in CLASSES if name not in named),
        evidence=Evidence(where=images.where, digest=images.digest),
    )


def change_of(model: Model, request: Request, **settings: object) -> AffineMap:
    return Leace(**settings).forget(model, request).outputs["image"]


def samples(model: Model, where: Path, *forget: str) -> tuple[Tensor, Tensor]:
    """Return the embeddings of all pictures and one column of 0 and 1 for each class to forget."""
    images = open_data(str(where))
    vectors = embed_images(model, images).vectors.double()
    names = [images.classes[label] for label in images.labels]
    return vectors, torch.tensor([[float(name == asked) for asked in forget] for name in names]).double()


def correlations(vectors: Tensor, labels: Tensor) -> Tensor:
    rows, marks = vectors - vectors.mean(0), labels - labels.mean(0)
    return (rows.T @ marks).abs().amax() / (rows.norm() * marks.norm(dim=0).amax())


@pytest.mark.parametrize("settings", [{}, {"offset": False}, {"shrinkage": 0.0}, {"shrinkage": 1.0}, {"names": True}])
@pytest.mark.parametrize("forget", [("cat",), ("cat", "bird"), ("cat", "bird", "car", "dog")])
def test_the_classes_cannot_be_told_from_the_images(tiny, pictures, forget, settings):
    vectors, labels = samples(tiny.model, pictures, *forget)
    change = change_of(tiny.model, asking(pictures, *forget), **settings)
    assert correlations(vectors, labels) > 0.05
    assert correlations(change(vectors), labels) < 1e-5
    assert (change.offset is None) == (settings == {"offset": False})


def test_the_rank_is_that_of_the_labels(tiny_clip, pictures):
    ranks = [change_of(tiny_clip.model, asking(pictures, *CLASSES[:count])).rank for count in (1, 2, 3, 4)]
    assert ranks == [1, 2, 3, 3]


def test_only_the_linear_form_folds_into_the_weights(tiny, pictures):
    request = asking(pictures, "cat")
    affine, linear = (Leace(offset=offset).forget(tiny.model, request) for offset in (True, False))
    assert affine.folded(tiny.model).touches == ("output:image",)
    folded = linear.folded(tiny.model)
    assert folded.touches == (tiny.model.readout("image").weight,)
    vectors, labels = samples(folded.apply(tiny.model), pictures, "cat")
    assert correlations(vectors, labels) < 1e-5


def test_whole_shrinkage_is_an_orthogonal_projection(tiny_clip, pictures):
    oblique, orthogonal = (change_of(tiny_clip.model, asking(pictures, "cat"), shrinkage=each) for each in (0.0, 1.0))
    torch.testing.assert_close(orthogonal.down, -orthogonal.up.T, rtol=0, atol=1e-5)
    assert not torch.allclose(oblique.down, -oblique.up.T, atol=0.1)


def test_the_affine_form_keeps_the_mean_image_where_it_is(tiny, pictures):
    vectors, _ = samples(tiny.model, pictures, "cat")
    after = change_of(tiny.model, asking(pictures, "cat"))(vectors)
    torch.testing.assert_close(after.mean(0), vectors.mean(0), rtol=0, atol=1e-5 * float(vectors.norm(dim=1).max()))


def test_names_score_alike_on_all_images_when_they_are_levelled(tiny, pictures):
    model, request = tiny.model, asking(pictures, Concept(name="cat", synonyms=("teapot",)))
    vectors, _ = samples(model, pictures, "cat")
    named = unit(model.texts(request.sentences(["cat", "teapot", *request.retain])).double())
    directions = named[:2] - named[2:].mean(0)
    scores = {
        names: change_of(model, request, names=names)(vectors) @ directions.T / vectors.norm(dim=1).max()
        for names in (False, True)
    }
    assert scores[True].std(0).max() < 1e-5 < scores[False].std(0).min()
    bare = request.model_copy(update={"retain": ()})
    assert change_of(model, bare, names=True).rank == 3


def test_pictures_are_asked_for_by_the_true_name(tiny_clip, pictures):
    request = asking(pictures, Concept(name="cat", synonyms=("teapot",)), "dog")
    features, labels = features_of_images(tiny_clip.model, request)
    vectors, wanted = samples(tiny_clip.model, pictures, "cat", "dog")
    assert torch.equal(features.double(), vectors)
    assert torch.equal(labels, wanted)


def test_a_part_of_the_images_is_all_that_is_read(tiny_clip, pictures):
    part = open_data(f"{pictures}@stop")
    request = asking(pictures, "cat").model_copy(update={"evidence": Evidence(where=part.where, digest=part.digest)})
    features, labels = features_of_images(tiny_clip.model, request)
    assert (len(features), int(labels.sum())) == (COUNT, COUNT // 4)


def test_few_samples_are_taken_in_batches_like_many(tiny_clip, pictures, monkeypatch):
    whole = change_of(tiny_clip.model, asking(pictures, "cat"))
    monkeypatch.setattr("clip_unlearn.methods.leace.BATCH", 7)
    parts = change_of(tiny_clip.model, asking(pictures, "cat"))
    torch.testing.assert_close(parts.down @ parts.up, whole.down @ whole.up, rtol=0, atol=1e-4)


def test_a_second_request_acts_on_the_first_result(tiny_clip, pictures):
    once = Leace().forget(tiny_clip.model, asking(pictures, "cat")).apply(tiny_clip.model)
    twice = Leace().forget(once, asking(pictures, "bird")).apply(once)
    vectors, labels = samples(twice, pictures, "cat", "bird")
    assert correlations(vectors, labels[:, 1:]) < 1e-5


def test_images_that_look_alike_give_an_empty_patch_with_the_reason(tiny_clip, tmp_path):
    for name in CLASSES[:2]:
        (tmp_path / name).mkdir()
        for index in range(2):
            Image.new("RGB", (32, 32), (10, 20, 30)).save(tmp_path / name / f"{index}.png")
    patch = Leace().forget(tiny_clip.model, asking(tmp_path, "car"))
    assert patch.empty
    assert patch.reason == "The mean embedding of the class equals that of the other images."


def test_images_are_needed(tiny_clip, pictures):
    request = asking(pictures, "cat").model_copy(update={"evidence": None})
    for call in (Leace().check, Leace().forget):
        with pytest.raises(UnsupportedError, match=r"needs images of the class\. Give them with --data"):
            call(tiny_clip.model, request)


def test_images_that_changed_since_the_request_are_refused(tiny_clip, tmp_path):
    where = draw_pictures(tmp_path / "pictures", count=2)
    request = asking(where, "cat")
    (where / "cat" / "0.png").unlink()
    with pytest.raises(DataError, match=r"no longer what the request was made with\. Give "):
        Leace().forget(tiny_clip.model, request)


def test_images_of_others_are_needed(tiny_clip, tmp_path):
    request = asking(draw_pictures(tmp_path / "pictures", ("cat",)), "cat")
    with pytest.raises(DataError, match=r"no readable images of others to learn the difference\. Add some\.$"):
        Leace().forget(tiny_clip.model, request)


def test_readable_images_of_the_class_are_needed(tiny_clip, tmp_path):
    where = draw_pictures(tmp_path / "pictures", ("bird", "dog"))
    (where / "cat").mkdir()
    (where / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"no readable images of 'cat' to learn the difference\. Add some\.$"):
        Leace().forget(tiny_clip.model, asking(where, "cat"))


def test_unknown_classes_and_unlabelled_images_are_refused(tiny_clip, pictures, tmp_path):
    with pytest.raises(DataError, match="Class 'mug' is not in the data"):
        Leace().forget(tiny_clip.model, asking(pictures, "mug"))
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,a cat\n")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="it has no class labels"):
        Leace().forget(tiny_clip.model, asking(tmp_path, "cat"))


@pytest.mark.parametrize("shrinkage", [-0.1, 1.1, math.nan])
def test_shrinkage_is_checked(shrinkage):
    with pytest.raises(ValueError, match="shrinkage"):
        Leace(shrinkage=shrinkage)
