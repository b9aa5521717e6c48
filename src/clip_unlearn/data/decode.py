"""Encoded bytes to one RGB picture, with every limit checked before pixels are made."""

import io
import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from clip_unlearn.errors import DataError

ENCODED_LIMIT: Final = 20_000_000
"""Most bytes of an encoded image."""

PIXEL_LIMIT: Final = 25_000_000
"""Most pixels of a decoded image."""

_WHITE: Final = (255, 255, 255, 255)
_FORMATS: Final[tuple[tuple[bytes, type[ImageFile.ImageFile]], ...]] = (
    (b"\xff\xd8\xff", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    (b"BM", BmpImageFile),
)
# What Pillow's readers raise on malformed bytes. Warning stands here for callers who turn warnings into errors.
_FAILURES: Final = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError,
    NotImplementedError, struct.error, zlib.error, Image.DecompressionBombError, Warning,
)  # fmt: skip


def decode(content: bytes, key: str) -> Image.Image:
    """Return the picture in RGB, turned upright by its EXIF mark, transparency on white, the first frame of several.

    Accepts JPEG, PNG, WEBP, BMP and GIF by their first bytes, up to 20 MB encoded and 25 million pixels.

    Raises:
        DataError: "key: reason" if it is of another format, too large, truncated or damaged.
    """
    if len(content) > ENCODED_LIMIT:
        raise DataError(f"{key}: larger than {ENCODED_LIMIT // 1_000_000} MB. Make it smaller.")
    reader = _reader(content)
    if reader is None:
        raise DataError(f"{key}: not a JPEG, PNG, WEBP, BMP or GIF image. Convert or remove it.")
    try:
        # The reader itself, not Image.open: its check of the size is a process-wide setting, and this one is not.
        with reader(io.BytesIO(content)) as opened:
            _check_size(opened.size, key)
            opened.load()
            return _to_rgb(_upright(opened))
    except _FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{key}: damaged or truncated ({reason}). Replace or remove it.") from error


def _reader(content: bytes) -> type[ImageFile.ImageFile] | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return WebPImageFile
    return next((reader for start, reader in _FORMATS if content.startswith(start)), None)


def _check_size(size: tuple[int, int], key: str) -> None:
    width, height = size
    if width * height > PIXEL_LIMIT:
        limit = PIXEL_LIMIT // 1_000_000
        raise DataError(f"{key}: {width} x {height} pixels, more than {limit} million. Make it smaller.")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _FAILURES:
        # Damaged EXIF marks are common in old photographs and say nothing about the pixels.
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Sixteen-bit grey: keep the upper byte, where Pillow would cut off at 255.
        grey = np.asarray(image).astype(np.int64).clip(0, 65_535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
