"""Pictures of some rows as a model takes them, and those that cannot be read."""

import dataclasses

import pytest
import torch
from PIL import Image

from clip_unlearn.data.open import open_data
from clip_unlearn.data.prepared import CHUNK, batches, pixels_of
from clip_unlearn.errors import DataError


def spoilt(images, *places):
    """Return the set with some images that cannot be decoded."""

    def picture(index):
        if index in places:
            raise DataError(f"{images.keys[index]}: broken.")
        return images.picture(index)

    return dataclasses.replace(images, picture=picture)


@pytest.mark.parametrize("rows", [(3,), (9, 0, 15, 2, 7), tuple(range(16)), tuple(range(CHUNK))])
def test_pixels_come_in_the_order_asked_for(class_folder, counted, rows):
    images, (model, _) = open_data(str(class_folder)), counted
    pixels, kept = pixels_of(images, model.adapter.prepare, rows)
    assert kept == rows
    wanted = torch.cat([model.adapter.prepare([images.picture(row)]) for row in rows])
    assert torch.equal(pixels, wanted)
    assert len({tuple(each.flatten().tolist()) for each in pixels}) == len(rows)


def test_what_cannot_be_read_is_left_out(class_folder, counted):
    """By the rows of the whole set, not by places among the rows asked for."""
    images, (model, _) = spoilt(open_data(str(class_folder)), 0, 7), counted
    pixels, kept = pixels_of(images, model.adapter.prepare, (9, 0, 15, 2, 7, 1))
    assert kept == (9, 15, 2, 1)
    wanted = torch.cat([model.adapter.prepare([images.picture(row)]) for row in kept])
    assert torch.equal(pixels, wanted)


def test_a_shape_that_the_model_cannot_take_is_left_out(class_folder, counted):
    images, (model, _) = open_data(str(class_folder)), counted
    thin = dataclasses.replace(images, picture=lambda at: Image.new("RGB", (1, 9)) if at == 2 else images.picture(at))
    pixels, kept = pixels_of(thin, model.adapter.prepare, (1, 2, 3))
    assert (kept, len(pixels)) == ((1, 3), 2)


def test_nothing_to_read_is_said(class_folder, counted):
    images, (model, _) = spoilt(open_data(str(class_folder)), 2, 3), counted
    with pytest.raises(DataError) as refused:
        pixels_of(images, model.adapter.prepare, (2, 3))
    assert str(refused.value) == f"{images.where}: none of 2 images can be read. Give images that can."


def test_rows_are_the_same_as_in_batches(class_folder, counted):
    images, (model, _) = open_data(str(class_folder)), counted
    pixels, _ = pixels_of(images, model.adapter.prepare, range(16))
    pieces = [piece for batch in batches(images, model.adapter.prepare, 5) for piece in batch.pixels]
    assert torch.equal(pixels, torch.cat(pieces))
