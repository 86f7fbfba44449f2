"""Pictures in and out: open any common image safely, write files whole."""

from __future__ import annotations

import io
import os
import secrets
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray | Image.Image

MAX_PIXELS = 100_000_000
FORMATS = "JPEG, PNG, WebP, BMP, GIF and TIFF"


class ImageError(ValueError):
    """An image that cannot be used; the text is one sentence that names it, says what is wrong and what to do."""


# ---------------------------------------------------------------------------------------------------- opening


def open_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image as upright 8-bit RGB, whatever it is: a path, encoded bytes, a binary file, an array, a PIL image.

    Reads JPEG, PNG, WebP, BMP, GIF (first frame) and TIFF (first page). EXIF rotation is applied, transparency is laid
    over white, 16-bit grey is scaled by 255 / 65535. Arrays are uint8 [H, W], [H, W, 3] or [H, W, 4]. The size is
    checked on the header, before anything is decoded. Raises ImageError, also for a file that is not there.
    """
    name = _name(source)
    if isinstance(source, np.ndarray):
        image = _from_array(source)
    elif isinstance(source, Image.Image):
        image = source
    else:
        image = decode_image(source, max_pixels=max_pixels)
    _check_size(image.size, max_pixels, name)
    try:
        image.load()  # a PIL image given by the caller is decoded only here; a TIFF turns upright in doing so
    except (OSError, SyntaxError) as error:
        raise _damaged(name, error) from error
    return _to_rgb(_upright(image), name)


def decode_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a path, bytes or binary file and keep its mode, so that a palette image keeps its indices.

    Neither rotated nor converted. Raises ImageError like ``open_image``.
    """
    name = _name(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _decode(io.BytesIO(source), name, max_pixels)
    if not isinstance(source, (str, os.PathLike)):
        return _decode(io.BytesIO(_read_all(source)), name, max_pixels)
    try:
        with open(source, "rb") as file:
            return _decode(file, name, max_pixels)
    except FileNotFoundError as error:
        raise ImageError(f"there is no file {name}: check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name} is a folder: give an image file") from error
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from error


def _name(source: ImageSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) and name else "the image"


def _read_all(file: Any) -> bytes:
    read = getattr(file, "read", None)
    data = read() if read else None
    if not isinstance(data, bytes):
        raise ImageError(f"an image is a path, bytes, binary file, uint8 array or PIL image, got {type(file).__name__}")
    return data


def _from_array(array: np.ndarray) -> Image.Image:
    channels_fit = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not channels_fit or array.size == 0:
        raise ImageError(
            f"an image array must be uint8 [H, W], [H, W, 3] or [H, W, 4] and not empty, got {array.dtype} "
            f"{list(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(file: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Decode with the one decoder that the first bytes call for: no guessing, and no reading of rarer formats."""
    head = file.read(16)
    file.seek(0)
    decoder = _decoder(head, name)
    try:
        image = decoder(file)
        _check_size(image.size, max_pixels, name)
        image.load()
    except ImageError:
        raise
    except Image.DecompressionBombError as error:  # WebP and TIFF decoders look at Pillow's own limit as well
        raise ImageError(f"{name} has too many pixels: make it smaller") from error
    except Exception as error:  # decoders fail on damaged files in every way: OSError, SyntaxError, struct.error, ...
        raise _damaged(name, error) from error
    return image


def _damaged(name: str, error: Exception) -> ImageError:
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return ImageError(f"{name} is damaged or cut short ({reason}): get it again from its source")


def _decoder(head: bytes, name: str) -> Any:
    """Pillow's class for these first bytes. Its constructor reads the header only, and knows no global pixel limit."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return WebPImageFile
    known = {
        b"\xff\xd8\xff": JpegImageFile,
        b"\x89PNG\r\n\x1a\n": PngImageFile,
        b"GIF87a": GifImageFile,
        b"GIF89a": GifImageFile,
        b"BM": BmpImageFile,
        b"II*\0": TiffImageFile,
        b"MM\0*": TiffImageFile,
        b"II+\0": TiffImageFile,
        b"MM\0+": TiffImageFile,
    }
    for start, decoder in known.items():
        if head.startswith(start):
            return decoder
    raise ImageError(f"{name} {_why_not_readable(head)}")


def _why_not_readable(head: bytes) -> str:
    if not head:
        return "is empty (0 bytes): get it again from its source"
    brand = head[8:12] if head[4:8] == b"ftyp" else b""
    starts = {b"8BPS": "PSD", b"%PDF": "PDF", b"\0\0\1\0": "ICO", b"\0\0\0\x0cjP": "JPEG 2000", b"<svg": "SVG"}
    names = [label for start, label in starts.items() if head.startswith(start)]
    names += [label for label, brands in _BRANDS.items() if brand in brands]
    if names:
        return f"is {names[0]}, which cannot be read: convert it to JPEG or PNG"
    return f"is not an image: it holds none of {FORMATS}"


_BRANDS = {"AVIF": (b"avif", b"avis"), "HEIC": (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"heim", b"heis")}


def _check_size(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(
            f"{name} has {width} x {height} = {width * height:,} pixels, more than the limit of {max_pixels:,}: "
            "make it smaller or raise max_pixels"
        )
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels ({width} x {height})")


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image) -> Image.Image:
    """Apply the camera's orientation (EXIF tag 274). TIFF comes upright from Pillow, with the tag gone."""
    try:
        turn = _TURNS.get(image.getexif().get(274, 1))
    except (SyntaxError, ValueError, OSError):  # a damaged note about a whole picture: show the picture as stored
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Any mode to RGB over white. Of the metadata only the colour profile stays: a second call must not turn again."""
    if image.mode.startswith("I"):
        rgb = _grey_from_16_bit(image, name).convert("RGB")
    elif image.mode in ("F", "LAB"):
        raise ImageError(f"{name} holds {image.mode} values, not 8- or 16-bit colours: convert it to JPEG or PNG")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(rgba, mask=rgba)
    else:
        rgb = image.convert("RGB")
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
    rgb.info = {"icc_profile": profile} if profile else {}
    return rgb


def _grey_from_16_bit(image: Image.Image, name: str) -> Image.Image:
    values = np.asarray(image).astype(np.int32)  # I;16 is uint16 in either byte order, I is int32
    if values.min() < 0 or values.max() > 65535:
        raise ImageError(f"{name} holds values outside 0..65535: convert it to an 8- or 16-bit image")
    grey = ((values + 128) // 257).astype(np.uint8)  # 257 = 65535 / 255, rounded to nearest
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


# ---------------------------------------------------------------------------------------------------- writing


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all; folders are made. Raises OSError with a sentence, leaving no partial file."""
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        except BaseException:  # also Ctrl-C
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        failure = OSError(f"cannot write {path}: {error.strerror or error}")
        failure.errno = error.errno
        raise failure from error


def write_image(path: str | os.PathLike[str], image: Image.Image) -> None:
    """Write an image in the format of the file's ending (.png, .jpg, .webp, .bmp, .gif, .tif), whole or not at all.

    Raises ValueError for another ending and OSError when the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    options = _SAVE_OPTIONS.get(ending)
    if options is None:
        raise ValueError(f"cannot write {path}: the ending must be one of {', '.join(_SAVE_OPTIONS)}")
    buffer = io.BytesIO()
    image.save(buffer, **options)
    write_atomic(path, buffer.getvalue())


_JPEG: dict[str, Any] = {"format": "JPEG", "quality": 92, "subsampling": 0}
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "compress_level": 3},  # half the time of level 6 for photographs, 3 % larger
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"format": "WEBP", "quality": 92},
    ".bmp": {"format": "BMP"},
    ".gif": {"format": "GIF"},
    ".tif": {"format": "TIFF", "compression": "tiff_deflate"},
    ".tiff": {"format": "TIFF", "compression": "tiff_deflate"},
}
