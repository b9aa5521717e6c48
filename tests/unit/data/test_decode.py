import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clip_unlearn.data.decode import ENCODED_LIMIT, decode
from clip_unlearn.errors import DataError


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG whose header claims a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_five_formats(encode, kind):
    picture = decode(encode(1, kind, (8, 6)), "a")
    assert (picture.mode, picture.size) == ("RGB", (8, 6))


@pytest.mark.parametrize("kind", ["TIFF", "PPM", "ICO", "TGA"])
def test_other_formats_are_refused(encode, kind):
    with pytest.raises(DataError, match=r"^a: not a JPEG, PNG, WEBP, BMP or GIF"):
        decode(encode(1, kind, (16, 16)), "a")


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"\xff\xd8\xff", b"<svg/>", b"\0" * 99]
)
def test_no_image_at_all(content):
    with pytest.raises(DataError, match=r"^a: "):
        decode(content, "a")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_truncated_files_are_refused(encode, kind, share):
    content = encode(2, kind, (64, 64))
    with pytest.raises(DataError, match=r"^cats/1.jpg: damaged or truncated"):
        decode(content[: int(len(content) * share)], "cats/1.jpg")


@pytest.mark.parametrize("size", [(20_000, 20_000), (5_001, 5_000), (60_000, 500)])
def test_size_bomb_is_refused_before_decoding(size):
    before = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    with pytest.raises(DataError, match=f"a: {size[0]} x {size[1]} pixels, more than 25 million"):
        decode(bomb(*size), "a")
    assert before == (list(warnings.filters), Image.MAX_IMAGE_PIXELS)


def test_limit_holds_without_the_global_one(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(DataError, match="more than 25 million"):
        decode(bomb(9_000, 9_000), "a")


def test_gif_frame_beyond_its_screen_is_refused():
    content = bytearray(encoded(Image.new("P", (8, 8)), "GIF"))
    place = content.index(b"\x2c")
    content[place + 5 : place + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(DataError, match=r"^a: "):
        decode(bytes(content), "a")


def test_encoded_limit(encode):
    with pytest.raises(DataError, match="a: larger than 20 MB"):
        decode(encode() + b"\0" * ENCODED_LIMIT, "a")


def test_memory_error_is_passed_on(encode, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(MemoryError):
        decode(encode(), "a")


def test_exif_mark_turns_the_picture():
    image = Image.new("RGB", (16, 8), "white")
    image.paste((255, 0, 0), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = decode(encoded(image, "PNG", exif=exif), "a")
    assert picture.size == (8, 16)
    assert picture.getpixel((4, 2)) == (255, 0, 0)
    assert picture.getpixel((4, 13)) == (255, 255, 255)


def test_damaged_exif_is_no_reason_to_refuse():
    picture = decode(encoded(Image.new("RGB", (8, 8), "red"), "PNG", exif=b"Exif\0\0nonsense"), "a")
    assert picture.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)), (128, 128, 128)),
    ],
    ids=["grey", "bits", "clear", "opaque", "grey-clear", "sixteen-bit"],
)
def test_modes_become_rgb(image, expected):
    assert decode(encoded(image, "PNG"), "a").getpixel((0, 0)) == expected


def test_palette_with_transparency_is_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 1), 1)
    picture = decode(encoded(image, "GIF", transparency=0), "a")
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    assert picture.getpixel((1, 1)) == (40, 50, 60)


def test_cmyk_becomes_rgb():
    assert decode(encoded(Image.new("CMYK", (8, 8)), "JPEG"), "a").getpixel((0, 0)) == (255, 255, 255)


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(content, "a").getpixel((0, 0)) == (255, 0, 0)


@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "GIF"]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=12),
    share=st.floats(0.05, 1),
)
def test_mutated_bytes_give_a_picture_or_a_data_error(kind, edits, share):
    content = bytearray(encoded(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), kind))
    for place, value in edits:
        content[int(place * len(content))] = value
    try:
        picture = decode(bytes(content[: int(share * len(content))]), "a")
    except DataError as error:
        assert str(error).startswith("a: ")
    else:
        assert picture.mode == "RGB"
