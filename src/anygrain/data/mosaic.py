"""New pictures from annotated ones: several photos side by side, or objects of one pasted into another.

Everything said of the new picture is true of all its pixels. Only categories are carried over, never captions: what
"the person" or "the red car on the left" meant in one photo may be something else, or two things, in the new picture.
A category that one of the photos does not speak of is unknown there: an ignored region, a box without a mask, says so.
H W: size of a photo or of the new picture, h w: of the place where a photo lands in it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, pairwise

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from anygrain.data.labels import open_photo
from anygrain.data.language import readable
from anygrain.data.transforms import View
from anygrain.masks import fill_holes, remove_islands
from anygrain.types import Box, Mask, Region, Sample, Size

LEFT = 0.1  # a thing of which less can be seen is not asked about, but not called absent either
VISIBLE = 1 / 1500  # part of the picture that all things of a category together must fill to be asked about
_LONGEST = 4.0  # a photo that is this many times longer than wide would be a strip in a mosaic
_MARGIN = 3  # pixels around a pasted object over which its edge fades
_PASTED = (0.2, 0.7)  # long side of a pasted object, as a part of the picture's short side
_LEAST = 1 / 6  # long side of an object that is taken, as a part of its photo's: a book of a shelf says little alone


def composable(sample: Sample) -> bool:
    """Whether the sample has a mask of a category, so that something of it can be asked about in a new picture."""
    return max(sample.size) <= _LONGEST * min(sample.size) and any(
        region.category is not None and region.mask is not None and not region.ignore for region in sample.regions
    )


def pastable(sample: Sample) -> list[tuple[str, Mask]]:
    """Readable name and mask of what ``copy_paste`` may take from a donor: single, whole objects that humans outlined.

    Parts of a thing are not, nor what the photo's rim cuts off, what others cut to pieces, and what is small.
    """
    if sample.whole is not None:
        return []
    objects = [region for region in sample.regions if region.instance is not None and region.score is None]
    return [
        (readable(region.category), region.mask)
        for region in objects
        if region.category is not None and region.mask is not None and not region.ignore
        if region.granularity != "part" and _is_apart(region.mask)
    ]


def _is_apart(mask: Mask) -> bool:
    """Whether a mask is large enough, clear of the photo's rim and not cut to pieces by what stands before it."""
    x0, y0, x1, y1 = mask.box or (0, 0, 0, 0)
    (height, width), long_side = mask.size, max(x1 - x0, y1 - y0)
    if min(x0, y0, width - x1, height - y1) < 2 or long_side < _LEAST * max(mask.size):
        return False
    return int(np.count_nonzero(remove_islands(mask.to_array(), math.inf))) >= 0.9 * mask.area


# ---------------------------------------------------------------------------------------------------- layers


@dataclass(frozen=True, eq=False)
class _Layer:
    """A photo, or a piece of one, in the new picture.

    view: which part of the photo lands where in the picture.
    shown: bool [h, w], the pixels of that place where the layer is seen.
    cut: bool [H, W] of the photo, the piece that is taken; None for the whole photo.
    """

    sample: Sample
    view: View
    shown: np.ndarray
    cut: np.ndarray | None = None

    @cached_property
    def exhaustive(self) -> frozenset[str]:
        """Names of which every occurrence is annotated."""
        return frozenset(map(readable, self.sample.exhaustive))

    @cached_property
    def known(self) -> frozenset[str]:
        """Names of which it is known where in this layer they are, if anywhere."""
        named = {readable(r.category) for r in self.sample.regions if r.category is not None}
        vague = {
            readable(r.category)
            for r in self.sample.regions
            if r.category is not None and r.mask is None and (r.box is None or self.cut is not None)
        }
        return frozenset((self.exhaustive | named) - vague)

    def regions(self, size: Size, numbers: Iterator[int]) -> Iterator[Region]:
        """What the picture of ``size`` shows of the photo's regions, without captions; instances are counted anew."""
        renumbered: dict[int, int] = {}
        for region in self.sample.regions:
            moved = self._moved(region, size)
            if moved is None:
                continue
            if moved.instance is not None:
                if moved.instance not in renumbered:
                    renumbered[moved.instance] = next(numbers)
                moved = replace(moved, instance=renumbered[moved.instance])
            yield moved

    def _moved(self, region: Region, size: Size) -> Region | None:
        if region.category is None and not region.ignore:
            return None
        named = replace(region, captions=(), category=region.category and readable(region.category))
        if region.mask is not None:
            return self._moved_mask(named, region.mask, size)
        if self.cut is not None:
            return None  # whether the piece shows it is not known; ``known`` says so
        if region.box is None:
            return named
        box = self._moved_box(region.box)
        return replace(named, box=box, ignore=region.ignore or self._hides(box))

    def _moved_mask(self, region: Region, mask: Mask, size: Size) -> Region | None:
        array = mask.to_array()  # [H, W]
        taken = array if self.cut is None else array & self.cut
        if not taken.any():
            return None
        here = self.view.seen(taken) & self.shown  # [h, w]
        pixels = np.count_nonzero(here)
        if region.category is not None and pixels < max(1, LEFT * mask.area * self._zoom[0] * self._zoom[1]):
            return _perhaps(region.category, self._moved_box(_box(taken)))
        if not pixels:
            return None
        if size == mask.size and pixels == mask.area and self._zoom == (1.0, 1.0) and self.cut is None:
            return replace(region, box=None)  # untouched: no need to encode it again
        x0, y0, x1, y1 = self.view.target
        canvas = np.zeros(size, bool)
        canvas[y0:y1, x0:x1] = here
        return replace(region, mask=Mask.from_array(canvas), box=None)

    @property
    def _zoom(self) -> tuple[float, float]:
        """Along x and y."""
        (x0, y0, x1, y1), (u0, v0, u1, v1) = self.view.source, self.view.target
        return (u1 - u0) / (x1 - x0), (v1 - v0) / (y1 - y0)

    def _moved_box(self, box: Box) -> Box:
        (x0, y0), (u0, v0), (zoom_x, zoom_y) = self.view.source[:2], self.view.target[:2], self._zoom
        return (
            (box[0] - x0) * zoom_x + u0,
            (box[1] - y0) * zoom_y + v0,
            (box[2] - x0) * zoom_x + u0,
            (box[3] - y0) * zoom_y + v0,
        )

    def _hides(self, box: Box) -> bool:
        """Whether other layers cover a part of a box of the picture."""
        x0, y0 = (max(0, int(np.floor(v - o))) for v, o in zip(box[:2], self.view.target[:2], strict=True))
        x1, y1 = (max(0, int(np.ceil(v - o))) for v, o in zip(box[2:], self.view.target[:2], strict=True))
        return not self.shown[y0:y1, x0:x1].all()


def _perhaps(name: str, box: Box) -> Region:
    """There may be more of a category inside a box."""
    return Region(box=box, category=name, ignore=True, origin={"step": "compose"})


def _box(mask: np.ndarray) -> Box:
    """Tight box of a non-empty bool mask [H, W]."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _compose(layers: Sequence[_Layer], picture: Image.Image, source: str) -> Sample:
    """The sample of a picture whose pixels each belong to one layer."""
    size, numbers = (picture.height, picture.width), count(1)
    regions = _without_tiny([r for layer in layers for r in layer.regions(size, numbers)], size)
    names = sorted({r.category for r in regions if r.category is not None and not r.ignore})
    doubts = [
        _perhaps(name, tuple(map(float, layer.view.target)))  # type: ignore[arg-type]
        for layer in layers
        for name in names
        if name not in layer.known
    ]
    return Sample(
        id="+".join(layer.sample.id for layer in layers),
        image=_encode(picture),
        size=size,
        regions=(*regions, *doubts),
        source=source,
        exhaustive=frozenset.intersection(*(layer.exhaustive for layer in layers)),
    )


def _without_tiny(regions: list[Region], size: Size) -> list[Region]:
    """Categories that became too small to see are ignored where they are."""
    areas: dict[str, int] = {}
    for region in regions:
        if region.category is not None and region.mask is not None and not region.ignore:
            areas[region.category] = areas.get(region.category, 0) + region.mask.area
    tiny = {name for name, area in areas.items() if area < VISIBLE * size[0] * size[1]}
    return [
        _perhaps(r.category, r.mask.box) if r.category in tiny and r.category and r.mask and r.mask.box else r
        for r in regions
    ]


def _encode(picture: Image.Image) -> bytes:
    """The pixels as they are, in the form that costs least time to write and to read again."""
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    return buffer.getvalue()


# ---------------------------------------------------------------------------------------------------- mosaic


def mosaic(samples: Sequence[Sample], rng: np.random.Generator, *, long_side: int = 768) -> Sample:
    """One sample that shows 2 to 4 photos side by side, each whole, without gaps; the order is random.

    long_side: of the new picture, in pixels. The arrangement is the one nearest to a square.
    What is not exhaustive in all photos is not in the new picture, and its ``whole`` is None: "the wheels of the car"
    would not say of which. Raises ValueError for another number of photos, and for one that would become a line.
    """
    if not 2 <= len(samples) <= 4:
        raise ValueError(f"a mosaic needs 2 to 4 photos, got {len(samples)}")
    samples = [samples[i] for i in rng.permutation(len(samples))]
    boxes, size = _arrange([sample.size for sample in samples], long_side, flip=bool(rng.random() < 0.5))
    picture = Image.new("RGB", (size[1], size[0]))
    layers = []
    for sample, (x0, y0, x1, y1) in zip(samples, boxes, strict=True):
        if min(x1 - x0, y1 - y0) < 1:
            raise ValueError(f"sample {sample.id!r} of {sample.size} is too narrow for a mosaic: leave it out")
        view = View((0.0, 0.0, float(sample.size[1]), float(sample.size[0])), (x0, y0, x1, y1), long_side)
        picture.paste(view.image(open_photo(sample)), (x0, y0))
        layers.append(_Layer(sample, view, np.ones((y1 - y0, x1 - x0), bool)))
    return _compose(layers, picture, "mosaic")


def _arrange(sizes: Sequence[Size], long_side: int, *, flip: bool) -> tuple[list[tuple[int, int, int, int]], Size]:
    """Where each photo goes, and the size (H, W) of all: rows of photos, or columns, whichever is nearer to a square.

    flip: of three, the single one comes first.
    """
    aspects = np.array([width / height for height, width in sizes])
    rows = {2: (1, 1), 3: (1, 2) if flip else (2, 1), 4: (2, 2)}[len(sizes)]
    heights, widths = _height(aspects, rows), _height(1 / aspects, rows)  # of rows of width 1, of columns of height 1
    if abs(np.log(sum(heights))) <= abs(np.log(sum(widths))):
        return _rows(aspects, rows, heights, long_side)
    boxes, (width, height) = _rows(1 / aspects, rows, widths, long_side)
    return [(y0, x0, y1, x1) for x0, y0, x1, y1 in boxes], (height, width)


def _height(aspects: np.ndarray, rows: Sequence[int]) -> list[float]:
    """Height of each row of photos of one height that together are 1 wide."""
    return [1 / float(row.sum()) for row in np.split(aspects, np.cumsum(rows)[:-1])]


def _rows(
    aspects: np.ndarray, rows: Sequence[int], heights: Sequence[float], long_side: int
) -> tuple[list[tuple[int, int, int, int]], Size]:
    unit = long_side / max(1.0, sum(heights))
    y = np.round(unit * np.cumsum([0.0, *heights])).astype(int)
    width, boxes = round(unit), []
    for number, row in enumerate(np.split(aspects, np.cumsum(rows)[:-1])):
        x = np.round(unit * heights[number] * np.cumsum([0.0, *row])).astype(int)
        x[-1] = width  # a sum that is a hair above or below a half would be rounded another way
        boxes += [(int(x0), int(y[number]), int(x1), int(y[number + 1])) for x0, x1 in pairwise(x)]
    return boxes, (int(y[-1]), width)


# ---------------------------------------------------------------------------------------------------- copy and paste


def copy_paste(target: Sample, donor: Sample, rng: np.random.Generator, *, most: int = 3) -> Sample:
    """The target's photo with 1 to ``most`` objects of the donor's, each at a random place and scale, over its things.

    The target itself when the donor has no object for it: one that is ``pastable`` and of a category of which the
    target tells where it is or that it is not there; with any other, hardly a pixel around it could be called outside.
    What is annotated on a pasted object comes along; the target's masks lose what is covered.
    """
    known = _whole(target, np.ones(target.size, bool)).known
    objects = [mask for name, mask in pastable(donor) if name in known]
    if not objects:
        return target
    chosen = rng.permutation(len(objects))[: 1 + rng.integers(most)]
    picture, photo = open_photo(target).copy(), open_photo(donor)
    pieces = []
    for index in chosen:
        mask = objects[index].to_array()
        cut = fill_holes(mask, 0.25 * objects[index].area)  # a person's tie is a hole in the person
        view = _place(_box(mask), donor.size, target.size, rng)
        shape = view.seen(cut)
        picture.paste(view.image(photo), view.target[:2], _faded(shape))
        pieces.append((view, cut, shape))
    return _compose(_stack(target, donor, pieces), picture, target.source)


def _place(box: Box, source: Size, size: Size, rng: np.random.Generator) -> View:
    """Which window of the donor holds an object and its margin, and where in a picture of ``size`` it goes."""
    x0, y0, x1, y1 = box
    long_side = min(size) * float(np.exp(rng.uniform(*np.log(_PASTED))))
    zoom = min(long_side / max(x1 - x0, y1 - y0), 1.0)  # enlarged, it would be the only blurred thing
    margin = _MARGIN / zoom
    window = (max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, source[1]), min(y1 + margin, source[0]))
    width, height = (max(1, round((window[i + 2] - window[i]) * zoom)) for i in (0, 1))
    width, height = min(width, size[1]), min(height, size[0])
    left, top = int(rng.integers(size[1] - width + 1)), int(rng.integers(size[0] - height + 1))
    return View(window, (left, top, left + width, top + height), max(size))


def _faded(shape: np.ndarray) -> Image.Image:
    """Opacity of a pasted bool mask [h, w]: its edge fades over about two pixels, but thin parts stay."""
    opaque = Image.fromarray(shape.astype(np.uint8) * np.uint8(255))
    faded = opaque.filter(ImageFilter.GaussianBlur(0.8))
    return ImageChops.lighter(faded, opaque.point(lambda value: 0.7 * value))


def _stack(target: Sample, donor: Sample, pieces: Sequence[tuple[View, np.ndarray, np.ndarray]]) -> list[_Layer]:
    """The target below, the pieces (view, cut [H, W], shape [h, w]) above it, a later one over the earlier ones."""
    covered, layers = np.zeros(target.size, bool), []
    for view, cut, shape in reversed(pieces):
        x0, y0, x1, y1 = view.target
        layers.append(_Layer(donor, view, shape & ~covered[y0:y1, x0:x1], cut))
        covered[y0:y1, x0:x1] |= shape
    return [_whole(target, ~covered), *reversed(layers)]


def _whole(sample: Sample, shown: np.ndarray) -> _Layer:
    """A photo at its place and size; shown: bool [H, W]."""
    height, width = sample.size
    return _Layer(sample, View((0.0, 0.0, float(width), float(height)), (0, 0, width, height), max(sample.size)), shown)
