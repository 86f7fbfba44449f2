"""Pictures in and out: open any common image safely, bring it to a model's input and back, write files whole.

Sizes are ``(height, width)``. Points and box edges are continuous: pixel column c covers c <= x < c + 1.
"""

from __future__ import annotations

import io
import os
import secrets
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from PIL import Image

from anygrain import warp

Size = tuple[int, int]
ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | np.ndarray | Image.Image

MAX_PIXELS = 100_000_000
FORMATS = "JPEG, PNG, WebP, BMP, GIF and TIFF"
LETTERBOX_BORDER = (123, 117, 104)  # CLIP's mean colour, in 0..255


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


# ---------------------------------------------------------------------------------------------------- resizing


@dataclass(frozen=True, kw_only=True)
class Resize:
    """How an image is brought to a model's input, and everything else with it, there and back.

    source: (H, W) of the image.
    canvas: (h, w) of the model's input.
    content: (h, w) that the picture takes inside the canvas ("letterbox": rounded, it may end between two pixels).
    kind: "letterbox" = centred in a square, cubic, OpenCV's arithmetic to the bit, CLIP's mean colour around;
        "fit" = at the top left, antialiased, zeros (black) to the right and below.
    """

    source: Size
    canvas: Size
    content: Size
    kind: Literal["letterbox", "fit"]

    @classmethod
    def letterbox(cls, source: Size, length: int) -> Resize:
        """UniLSeg's released preparation: the whole image, small ones enlarged, centred in ``length`` x ``length``."""
        _check_lengths(source, length)
        scale = min(length / source[0], length / source[1])
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        return cls(source=source, canvas=(length, length), content=content, kind="letterbox")

    @classmethod
    def fit(cls, source: Size, long_side: int, multiple: int = 32) -> Resize:
        """The long side becomes ``long_side``, the canvas is padded right and below to a multiple of ``multiple``."""
        _check_lengths(source, long_side)
        scale = long_side / max(source)
        content = (max(1, round(source[0] * scale)), max(1, round(source[1] * scale)))
        height, width = (-(-side // multiple) * multiple for side in content)
        return cls(source=source, canvas=(height, width), content=content, kind="fit")

    def image(self, image: Image.Image | np.ndarray) -> np.ndarray:
        """RGB picture of the source size -> uint8 [h, w, 3], the whole canvas. Raises ValueError for another size."""
        if isinstance(image, Image.Image) and image.mode != "RGB":
            raise ValueError(f"the image must be RGB, got mode {image.mode}: open it with open_image")
        shape = (image.height, image.width, 3) if isinstance(image, Image.Image) else image.shape
        self._check(shape, (*self.source, 3), "image")
        if self.kind == "letterbox":
            return warp.warp_image(np.asarray(image), self._warps[0], self.canvas, LETTERBOX_BORDER)
        picture = image if isinstance(image, Image.Image) else Image.fromarray(np.ascontiguousarray(image))
        return self._pad(picture.resize((self.content[1], self.content[0]), Image.Resampling.BICUBIC))

    def mask(self, mask: np.ndarray) -> np.ndarray:
        """Bool [H, W] of the source -> bool [h, w] of the canvas, False in the padding."""
        self._check(mask.shape, self.source, "mask")
        grey = mask.astype(np.uint8) * np.uint8(255)
        if self.kind == "letterbox":
            return warp.warp_image(grey[..., None], self._warps[0], self.canvas, (0,))[..., 0] >= 128
        size = (self.content[1], self.content[0])
        return self._pad(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR)) >= 128

    def maps_back(self, maps: np.ndarray) -> np.ndarray:
        """Float32 [N, h, w] over the whole canvas -> float32 [N, H, W] of the source, the padding cut off.

        "fit" takes maps of any resolution and interpolates linearly; "letterbox" takes the canvas' own and is cubic, so
        that values may overshoot. One map of the result takes 4 bytes a pixel: for masks, ``masks_back`` needs less.
        """
        self._check_maps(maps)
        out = np.empty((len(maps), *self.source), np.float32)
        for index, values in enumerate(maps):
            out[index] = self._map_back(values)
        return out

    def masks_back(self, maps: np.ndarray, threshold: float) -> np.ndarray:
        """``maps_back(maps) > threshold`` as bool [N, H, W]; "fit" interpolates only around what is above it."""
        self._check_maps(maps)
        out = np.zeros((len(maps), *self.source), bool)
        for mask, values in zip(out, maps, strict=True):
            if self.kind == "letterbox":
                np.greater(self._map_back(values), np.float32(threshold), out=mask)
            else:
                y, x = self._weights(values)
                above = values > threshold
                rows, columns = _reached(above.any(1), y), _reached(above.any(0), x)
                np.greater(_product(y[rows], values, x[columns]), np.float32(threshold), out=mask[rows, columns])
        return out

    def mask_back(self, mask: np.ndarray) -> np.ndarray:
        """Bool [h, w] -> bool [H, W] of the source."""
        return self.masks_back(mask[None].astype(np.float32), 0.5)[0]

    def points(self, points: np.ndarray) -> np.ndarray:
        """(x, y) in the source -> float64 [N, 2] in the canvas."""
        scale, shift = self._points_map
        return np.asarray(points, np.float64).reshape(-1, 2) * scale + shift

    def points_back(self, points: np.ndarray) -> np.ndarray:
        """(x, y) in the canvas -> float64 [N, 2] in the source; a point in the padding lands outside the image."""
        scale, shift = self._points_map
        return (np.asarray(points, np.float64).reshape(-1, 2) - shift) / scale

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """(x0, y0, x1, y1) in the source -> float64 [N, 4] in the canvas."""
        return self.points(np.asarray(boxes)).reshape(-1, 4)

    def boxes_back(self, boxes: np.ndarray) -> np.ndarray:
        """(x0, y0, x1, y1) in the canvas -> float64 [N, 4] in the source."""
        return self.points_back(np.asarray(boxes)).reshape(-1, 4)

    @property
    def _warps(self) -> tuple[warp.Affine, warp.Affine]:
        return warp.letterbox(self.source, self.canvas[0])

    @property
    def _points_map(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) scale and shift of continuous positions."""
        if self.kind == "fit":
            return np.divide(self.content, self.source)[::-1], np.zeros(2)
        there = self._warps[0]  # speaks of pixel centres at whole numbers, half a pixel from ours
        scale = np.array([there.scale_x, there.scale_y])
        return scale, np.array([there.shift_x, there.shift_y]) + 0.5 - 0.5 * scale

    def _map_back(self, values: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(values, np.float32)
        if self.kind == "letterbox":
            return warp.warp_map(values, self._warps[1], self.source)
        y, x = self._weights(values)
        return _product(y, values, x)

    def _weights(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much of each row and column of a map goes into each row and column of the source ("fit")."""
        spans = (values.shape[axis] * self.content[axis] / self.canvas[axis] for axis in (0, 1))
        y, x = (_linear_weights(*sizes) for sizes in zip(self.source, values.shape, spans, strict=True))
        return y, x

    def _pad(self, picture: Image.Image) -> np.ndarray:
        array = np.asarray(picture)
        out = np.zeros((*self.canvas, *array.shape[2:]), np.uint8)
        out[: self.content[0], : self.content[1]] = array
        return out

    def _check(self, shape: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
        if tuple(shape) != tuple(expected):
            raise ValueError(f"the {what} must have shape {list(expected)} to be resized, got {list(shape)}")

    def _check_maps(self, maps: np.ndarray) -> None:
        if maps.ndim != 3 or 0 in maps.shape[1:]:
            raise ValueError(f"maps must be [N, h, w] and not empty, got {list(maps.shape)}")
        if self.kind == "letterbox":
            self._check(maps.shape[1:], self.canvas, "maps")


@lru_cache(maxsize=8)
def _linear_weights(length: int, count: int, span: float) -> np.ndarray:
    """Float32 [length, count]: linear interpolation of the first ``span`` of ``count`` values at ``length`` places.

    Where that makes fewer of them, each place takes the weighted mean of all values near it, as Pillow does.
    """
    step = span / length
    distance = (np.arange(length)[:, None] + 0.5) * step - (np.arange(count) + 0.5)
    weights = np.maximum(1 - np.abs(distance) / max(step, 1), 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _product(rows: np.ndarray, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """``rows @ values @ columns.T``: two matrix products take a fifth of the time of Pillow's resize.

    They are PyTorch's because those of NumPy leave threads behind that wait at full speed and slow the network down.
    """
    import torch

    first, middle, last = (torch.from_numpy(np.ascontiguousarray(part)) for part in (rows, values, columns))
    return (first @ (middle @ last.T)).numpy()


def _reached(above: np.ndarray, weights: np.ndarray) -> slice:
    """The places, as one range, to which a value that is ``above`` contributes; bool [count], float [length, count]."""
    places = np.flatnonzero(weights[:, above].any(1))
    return slice(places[0], places[-1] + 1) if len(places) else slice(0, 0)


def _check_lengths(source: Size, length: int) -> None:
    if min(source) < 1 or length < 1:
        raise ValueError(f"cannot resize an image of size {source} to {length} pixels: both must be at least 1")


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
