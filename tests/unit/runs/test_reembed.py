"""Stored embeddings through a patch: as the edited model makes them, or a refusal with the reason."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_unlearn.core.patch import Patch
from clip_unlearn.core.progress import reporting
from clip_unlearn.core.record import Origin, Source
from clip_unlearn.core.request import Concept, Request
from clip_unlearn.data import stored
from clip_unlearn.errors import DataError, OutputError, SettingError, StorageError, UnsupportedError, WeightsError
from clip_unlearn.maths.affine import AffineMap, remove_directions
from clip_unlearn.maths.lowrank import LowRank
from clip_unlearn.maths.vectors import unit
from clip_unlearn.runs.reembed import reembed

SENTENCES = ["a cat", "a photo of a very old red teapot", "a mug", "one bird"]
WIDTH = 16


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def patch_of(*towers: str, strength: float = 0.7, offset: bool = False) -> Patch:
    directions = remove_directions(draw(2, WIDTH, seed=3), strength=strength)
    moved = AffineMap(down=directions.down, up=directions.up, offset=draw(WIDTH, seed=4) if offset else None)
    return Patch(outputs={tower: moved for tower in towers})


def saved(path: Path, rows: torch.Tensor, dtype: str = "float32") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, rows.numpy().astype(dtype))
    return path


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("normalised", [False, True])
def test_rows_come_out_as_the_edited_model_makes_them(tiny, pixels, folded, normalised, tmp_path):
    patch = patch_of("image").folded(tiny.model) if folded else patch_of("image")
    before, after = tiny.model.images(pixels), patch.apply(tiny.model).images(pixels)
    if normalised:
        before, after = unit(before), unit(after)
    source = saved(tmp_path / "in.npy", before)
    (part,) = reembed(tiny.model, patch, source, tmp_path / "out.npy").parts
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    torch.testing.assert_close(found, after, rtol=1e-3, atol=1e-3 * float(after.abs().max()))
    assert not torch.allclose(found, before, atol=1e-2)
    assert (part.normalised, part.rows, part.width, part.side) == (normalised, 5, WIDTH, "image")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-3), ("float32", 1e-5), ("float64", 1e-6)])
def test_every_number_format_stays_and_length_one_stays_one(tiny_clip, dtype, tolerance, tmp_path):
    rows = unit(draw(50, WIDTH))
    reembed(tiny_clip.model, patch_of("image"), saved(tmp_path / "in.npy", rows, dtype), tmp_path / "out.npy")
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == dtype
    wanted = unit(patch_of("image").outputs["image"](rows.double())).numpy()
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(found.astype("float64"), axis=1), 1.0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_null_rows_stay_null_and_new_ones_are_counted(tiny_clip, dtype, tmp_path):
    directions = draw(2, WIDTH, seed=3)
    rows = torch.cat([unit(directions), torch.zeros(1, WIDTH), unit(draw(3, WIDTH))])
    patch = patch_of("image", strength=1.0)
    (part,) = reembed(tiny_clip.model, patch, saved(tmp_path / "in.npy", rows, dtype), tmp_path / "out.npy").parts
    found = np.load(tmp_path / "out.npy")
    assert not found[:3].any()
    np.testing.assert_allclose(np.linalg.norm(found[3:].astype("float64"), axis=1), 1.0, atol=2e-3)
    assert (part.null, part.normalised) == (2, True)


def test_rows_of_other_lengths_are_not_normalised(tiny_clip, tmp_path):
    rows = torch.cat([unit(draw(3, WIDTH)), 5 * unit(draw(3, WIDTH, seed=1))])
    (part,) = reembed(tiny_clip.model, patch_of("image"), saved(tmp_path / "in.npy", rows), tmp_path / "out.npy").parts
    assert not part.normalised
    wanted = patch_of("image").outputs["image"](rows).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=1e-5)


def test_a_set_that_is_normalised_up_to_a_row_is_refused(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 4 * WIDTH)
    rows = unit(draw(10, WIDTH))
    rows[7] *= 3
    with pytest.raises(DataError, match=r"embedding 7 has length 3 and those before it have length 1\. Normalise all"):
        reembed(tiny_clip.model, patch_of("image"), saved(tmp_path / "in.npy", rows), tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_null_rows_alone_decide_nothing(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 2 * WIDTH)
    rows = torch.cat([torch.zeros(2, WIDTH), unit(draw(2, WIDTH))])
    (part,) = reembed(tiny_clip.model, patch_of("image"), saved(tmp_path / "in.npy", rows), tmp_path / "out.npy").parts
    assert part.normalised
    np.save(tmp_path / "none.npy", np.zeros((2, WIDTH), np.float32))
    (part,) = reembed(tiny_clip.model, patch_of("image"), tmp_path / "none.npy", tmp_path / "none-out.npy").parts
    assert (part.normalised, part.null) == (False, 0)


def test_an_offset_needs_the_lengths(tiny_clip, pixels, tmp_path):
    patch = patch_of("image", offset=True)
    with pytest.raises(UnsupportedError, match="adds an offset, and these embeddings were normalised"):
        reembed(tiny_clip.model, patch, saved(tmp_path / "in.npy", unit(draw(3, WIDTH))), tmp_path / "out.npy")
    before = tiny_clip.model.images(pixels)
    reembed(tiny_clip.model, patch, saved(tmp_path / "raw.npy", before), tmp_path / "out.npy")
    wanted = patch.apply(tiny_clip.model).images(pixels).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, rtol=1e-4, atol=1e-4)


def test_text_embeddings_by_their_side(tiny_clip, tmp_path):
    before = tiny_clip.model.texts(SENTENCES)
    source = saved(tmp_path / "in.npy", before)
    reembed(tiny_clip.model, patch_of("text"), source, tmp_path / "out.npy", side="text")
    wanted = patch_of("text").apply(tiny_clip.model).texts(SENTENCES).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, atol=1e-4)
    with pytest.raises(UnsupportedError, match="leaves image embeddings as they are"):
        reembed(tiny_clip.model, patch_of("text"), source, tmp_path / "again.npy")
    with pytest.raises(SettingError, match="--side 'sound'"):
        reembed(tiny_clip.model, patch_of("text"), source, tmp_path / "again.npy", side="sound")


def test_parquet(tiny_clip, pixels, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    before = tiny_clip.model.images(pixels).numpy()
    content = {"url": list("abcde"), "emb": pa.array(list(before), type=pa.list_(pa.float32()))}
    pq.write_table(pa.table(content), tmp_path / "in.parquet", row_group_size=2)
    reembed(tiny_clip.model, patch_of("image"), tmp_path / "in.parquet", tmp_path / "out.parquet", column="emb")
    after = pq.read_table(tmp_path / "out.parquet")
    wanted = patch_of("image").apply(tiny_clip.model).images(pixels).numpy()
    np.testing.assert_allclose(np.array(after["emb"].to_pylist()), wanted, rtol=1e-4, atol=1e-4)
    assert after["url"].to_pylist() == list("abcde")


def retrieval(folder: Path) -> Path:
    """Write a folder as clip-retrieval does."""
    for number in range(3):
        saved(folder / "img_emb" / f"img_emb_{number}.npy", unit(draw(4, WIDTH, seed=number)), "float16")
        saved(folder / "text_emb" / f"text_emb_{number}.npy", unit(draw(4, WIDTH, seed=10 + number)), "float16")
        (folder / "metadata").mkdir(exist_ok=True)
        (folder / "metadata" / f"metadata_{number}.parquet").write_bytes(b"as it is")
    return folder


@pytest.mark.parametrize("towers", [("image",), ("text",), ("image", "text")])
def test_a_clip_retrieval_folder(tiny_clip, towers, tmp_path):
    source = retrieval(tmp_path / "in")
    done = reembed(tiny_clip.model, patch_of(*towers), source, tmp_path / "out")
    files = [path.relative_to(source) for path in sorted(source.rglob("*")) if path.is_file()]
    assert [
        path.relative_to(tmp_path / "out") for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()
    ] == files
    kinds = {"img_emb": "image", "text_emb": "text"}
    mapped = [str(file) for file in files if kinds.get(file.parts[0]) in towers]
    assert [part.name for part in done.parts] == mapped
    for file in files:
        same = (source / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
        assert same == (str(file) not in mapped), file


def test_a_folder_in_which_nothing_changes_or_nothing_is(tiny_clip, tmp_path):
    source = retrieval(tmp_path / "in")
    for file in (source / "text_emb").iterdir():
        file.unlink()
    with pytest.raises(UnsupportedError, match="leaves image embeddings as they are"):
        reembed(tiny_clip.model, patch_of("text"), source, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no img_emb/\*\.npy"):
        reembed(tiny_clip.model, patch_of("text"), tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bad_file_in_a_folder_leaves_nothing(tiny_clip, tmp_path):
    source = retrieval(tmp_path / "in")
    np.save(source / "img_emb" / "img_emb_2.npy", np.ones((2, 5), np.float32))
    with pytest.raises(DataError, match=r"img_emb_2\.npy holds vectors of 5 numbers, and the model makes 16"):
        reembed(tiny_clip.model, patch_of("image"), source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_the_input_is_never_the_output(tiny_clip, tmp_path, monkeypatch):
    source = saved(tmp_path / "in.npy", draw(2, WIDTH))
    (tmp_path / "link.npy").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for out in (source, tmp_path / "link.npy", Path("in.npy"), tmp_path / "x" / ".." / "in.npy"):
        with pytest.raises(OutputError, match=r"is the input\. Choose another"):
            reembed(tiny_clip.model, patch_of("image"), source, out, force=True)
    folder = retrieval(tmp_path / "set")
    for out in (folder / "new", tmp_path):
        with pytest.raises(OutputError, match="lie in one another"):
            reembed(tiny_clip.model, patch_of("image"), folder, out, force=True)


def test_what_is_there_is_replaced_only_when_forced(tiny_clip, tmp_path):
    source, out = saved(tmp_path / "in.npy", draw(2, WIDTH)), tmp_path / "out.npy"
    out.write_text("mine")
    with pytest.raises(OutputError, match=r"exists\. Choose another"):
        reembed(tiny_clip.model, patch_of("image"), source, out)
    assert out.read_text() == "mine"
    reembed(tiny_clip.model, patch_of("image"), source, out, force=True)
    assert np.load(out).shape == (2, WIDTH)


def test_edits_that_need_the_pictures(tiny_clip, tmp_path):
    source = saved(tmp_path / "in.npy", draw(2, WIDTH))
    deep = Patch(deltas={"vision_model.encoder.layers.0.mlp.fc1.weight": torch.ones(32, 24)})
    with pytest.raises(UnsupportedError, match=r"below the last layer.*Embed the images again"):
        reembed(tiny_clip.model, deep, source, tmp_path / "out.npy")
    other = Patch(deltas={"visual_projection.weight": LowRank(left=draw(16, 1), right=draw(1, 24, seed=1))})
    with pytest.raises(UnsupportedError, match="depends on more than the embedding"):
        reembed(tiny_clip.model, other, source, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_a_patch_for_another_model(tiny_clip, tmp_path):
    request = Request(forget=(Concept(name="cat"),))
    origin = Origin(method="x", settings={}, request=request, base=Source(where="other", digest="0" * 64), version="1")
    patch = Patch(outputs=patch_of("image").outputs, origin=origin)
    with pytest.raises(WeightsError, match="was made for other"):
        reembed(tiny_clip.model, patch, saved(tmp_path / "in.npy", draw(2, WIDTH)), tmp_path / "out.npy")


def test_missing_embeddings(tiny_clip, tmp_path):
    with pytest.raises(DataError, match=r"Embeddings .*nowhere\.npy does not exist"):
        reembed(tiny_clip.model, patch_of("image"), tmp_path / "nowhere.npy", tmp_path / "out.npy")


def test_a_full_disk_is_one_line_and_nothing_is_left(tiny_clip, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = saved(tmp_path / "in.npy", draw(2, WIDTH))
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(StorageError, match="No space left on device"):
        reembed(tiny_clip.model, patch_of("image"), source, tmp_path / "out.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


def test_progress_is_told_in_rows(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "CHUNK", 4 * WIDTH)
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *each: told.append(each)):
        reembed(tiny_clip.model, patch_of("image"), saved(tmp_path / "in.npy", draw(10, WIDTH)), tmp_path / "out.npy")
    assert told == [("in.npy", 4, 10), ("in.npy", 8, 10), ("in.npy", 10, 10)]
