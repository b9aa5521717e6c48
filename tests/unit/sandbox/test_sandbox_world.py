"""The rendered world: pure, varied, complete."""

import subprocess
import sys

import numpy as np
import pytest

from clip_unlearn.sandbox.canvas import SIDE
from clip_unlearn.sandbox.classes import CLASS_NAMES, CLASSES, COLORS, DOMAINS, PLACES, SPLITS, find_class
from clip_unlearn.sandbox.contact_sheet import contact_sheet, main
from clip_unlearn.sandbox.world import as_image, digest, render


def test_the_same_arguments_give_the_same_bytes():
    first, again = render("mug", "photo", "train", 7), render("mug", "photo", "train", 7)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert (first.color, first.place, first.size) == (again.color, again.place, again.size)


def test_another_process_draws_the_same_picture():
    code = (
        "from clip_unlearn.sandbox.world import render;"
        "print(render('cat', 'painting', 'audit', 3).pixels.tobytes().hex())"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == render("cat", "painting", "audit", 3).pixels.tobytes().hex()


def test_drawing_needs_no_torch():
    code = "import sys, clip_unlearn.sandbox.world, clip_unlearn.sandbox.sentences; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_no_picture_is_shared_between_splits_or_indices():
    seen = [
        render("bowl", domain, split, index).pixels.tobytes()
        for domain in DOMAINS
        for split in SPLITS
        for index in range(6)
    ]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_class_has_a_picture_with_many_distinct_pixels(domain):
    for name in CLASS_NAMES:
        picture = render(name, domain, "select", 0)
        assert picture.pixels.shape == (SIDE, SIDE, 3)
        assert picture.pixels.dtype == np.uint8
        assert len(np.unique(picture.pixels.reshape(-1, 3), axis=0)) > 100, name
        assert picture.pixels.std() > 8, name
        assert not picture.pixels.flags.writeable


def test_sketches_are_gray_and_the_other_domains_are_not():
    spread = {
        domain: max(
            int(np.ptp(render(name, domain, "stop", 1).pixels.astype(int), axis=2).max()) for name in CLASS_NAMES
        )
        for domain in DOMAINS
    }
    assert spread["sketch"] <= 16
    assert min(spread["photo"], spread["painting"]) > 60


def test_colors_places_and_sizes_vary():
    pictures = [render("apple", "photo", "train", index) for index in range(150)]
    assert {picture.color for picture in pictures} == set(COLORS)
    assert {picture.place for picture in pictures} == set(PLACES)
    assert {picture.size for picture in pictures} == {"small", "medium", "large"}


def test_two_classes_at_the_same_index_differ():
    assert not np.array_equal(render("mug", "photo", "train", 0).pixels, render("bowl", "photo", "train", 0).pixels)


def test_names_synonyms_and_definitions_belong_to_one_class_only():
    names = [word for item in CLASSES for word in item.names]
    assert len(CLASSES) >= 24
    assert len({item.group for item in CLASSES}) >= 6
    assert len(set(names)) == len(names)
    assert not set(names) & {item.group for item in CLASSES}
    assert all(len(item.synonyms) >= 2 for item in CLASSES)
    assert len({item.definition for item in CLASSES}) == len(CLASSES)


@pytest.mark.parametrize(
    "arguments",
    [
        ("jug", "photo", "train", 0),
        ("mug", "film", "train", 0),
        ("mug", "photo", "test", 0),
        ("mug", "photo", "train", -1),
    ],
)
def test_an_unknown_picture_is_refused_with_the_way_out(arguments):
    with pytest.raises(ValueError, match=r"Use one of|counts from 0"):
        render(*arguments)


def test_find_class_returns_the_class_of_that_name():
    assert find_class("mug").group == "vessel"


def test_the_digest_is_a_sha256():
    assert len(digest()) == 64
    assert int(digest(), 16) >= 0


def test_the_contact_sheet_holds_every_class(tmp_path):
    sheet = contact_sheet(per_domain=1, columns=2, zoom=1)
    assert sheet.height == (SIDE + 2) * 14
    assert main([str(tmp_path / "sheet.png"), "--per-domain", "1", "--zoom", "1"]) == 0
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_a_picture_becomes_a_pillow_image():
    picture = render("hat", "photo", "train", 0)
    assert np.array_equal(np.asarray(as_image(picture)), picture.pixels)
