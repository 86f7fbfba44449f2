"""From annotated photos to one batch of clicks and boxes, each with every mask that it may mean.

A click means all masks that it lies in: a wheel, the car, the row of cars (Semantic-SAM, arXiv 2307.04767).
What a photo teaches follows from its regions: masks alone, masks with names of objects, or objects and their parts.

B images, N prompts, M target masks, K pairs of a prompt and one of its targets, O object or part names, S side of the
training square. Boxes are (cx, cy, w, h) in 0..1 of the square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from anygrain.data import language, transforms
from anygrain.data.batch import TensorBatch, normalised
from anygrain.data.labels import Labels, open_photo
from anygrain.data.loader import Source, StepDataset, some_annotations
from anygrain.data.mixture import MixtureConfig
from anygrain.data.transforms import IGNORE, AugmentConfig, View
from anygrain.models.semantic_sam import Prompts, TrainingOutput
from anygrain.models.templates import TEMPLATES
from anygrain.types import Region, Sample

_SAME_BOX = 0.9  # IoU of two boxes that one box prompt means
_LOOKED_AT = 2000  # samples of a source whose names are gathered


@dataclass(frozen=True, kw_only=True)
class ClickConfig:
    """What one batch of clicks and boxes holds; the defaults are the released recipe's.

    size: side S of the training square in pixels.
    prompts_per_image: clicks and boxes asked about each photo.
    box_ratio: part of them that are boxes. The released training had none, though its network takes them.
    max_targets: most masks that one prompt means; with more, the one it was made from and a random choice of
        the others. At most the network's ``num_tokens``; 1 for many-to-one.
    min_area: masks with fewer pixels of the square are left out.
    merge_iou: of masks so alike, as those of two annotators, one is drawn by chance; 1 keeps all.
    click_noise, box_noise: uniform change of the centre by up to this part of half the prompt's sides, and of the
        sides by up to this part.
    names: most object names, and most part names, of a batch: those of its masks, and others of the same sources.
    augment: variation of the photo.
    click_size, click_type, box_type, templates, mean, std: as in the model's config (``mean`` and ``std`` in 0..255);
        the trainer puts the model's own here.
    """

    size: int = 1024
    prompts_per_image: int = 60
    box_ratio: float = 0.0
    max_targets: int = 6
    min_area: int = 1
    merge_iou: float = 1.0
    click_noise: float = 0.004
    box_noise: float = 0.004
    names: int = 80
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(scale=(0.99, 1.01), jitter=0.0, hide_and_seek=0.0)
    )
    click_size: float = 0.005
    click_type: int = 0
    box_type: int = 0
    templates: bool = True
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)

    def __post_init__(self):
        for name in ("size", "prompts_per_image", "max_targets", "min_area"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("box_ratio", "merge_iou", "click_noise", "box_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")

    def of_model(self, model: Any) -> ClickConfig:
        """The same with what a model's config says. Raises ValueError when it has fewer tokens than ``max_targets``."""
        if self.max_targets > model.num_tokens:
            raise ValueError(f"max_targets is {self.max_targets}, but the model answers with {model.num_tokens} masks")
        names = ("click_size", "click_type", "box_type", "templates", "mean", "std")
        return dataclasses.replace(self, **{name: getattr(model, name) for name in names})


@dataclass(frozen=True)
class ClickBatch(TensorBatch):
    """One training batch; all that ``SemanticSAM.loss`` reads (``semantic_sam_loss.Targets``), and the input.

    pixels: float32 [B, 3, S, S], normalised; zero (the mean colour) in the padding.
    boxes: float32 [N, 4]. types: int64 [N]. image_index: int64 [N], ascending. All N = B * prompts_per_image prompts.
    masks: uint8 [M, S, S]: 1 inside, 0 outside and in the padding, 255 unknown. mask_boxes: float32 [M, 4].
    mask_image: int64 [M].
    pair_prompt: int64 [K], ascending; pair_mask: int64 [K], of one prompt from the largest mask to the smallest.
    texts: object names, then part names, as sentences.
    object_labels, part_labels: uint8 [M, O]: 1 what a mask is called, 0 what it is not, 255 unknown.
    object_others, part_others: uint8 [B, O]: 0 for names that what is no target of the photo's prompts is not called.
    """

    pixels: torch.Tensor
    boxes: torch.Tensor
    types: torch.Tensor
    image_index: torch.Tensor
    masks: torch.Tensor
    mask_boxes: torch.Tensor
    mask_image: torch.Tensor
    pair_prompt: torch.Tensor
    pair_mask: torch.Tensor
    texts: tuple[str, ...]
    object_labels: torch.Tensor
    part_labels: torch.Tensor
    object_others: torch.Tensor
    part_others: torch.Tensor

    def decode(self, model: Any, features: tuple[torch.Tensor, ...], texts: Any) -> TrainingOutput:
        """The model's answers of all layers. texts: of ``model.encode_text``, None without names."""
        prompts = Prompts(self.boxes, self.types, self.image_index)
        layers = model.decode(features, prompts, all_layers=True)
        return TrainingOutput(features[0], layers, None if texts is None else texts.vectors)


class Names(NamedTuple):
    """Names of objects and of parts, as a person says them."""

    objects: frozenset[str]
    parts: frozenset[str]


class Called(NamedTuple):
    """What a region is called: the object that it is or belongs to, and the part, where known."""

    object: str | None
    part: str | None


class ClickDataset(StepDataset[ClickBatch]):
    """The batch of every step of a run, in any order; item i depends on (seed, i) only."""

    def __init__(
        self, sources: Mapping[str, Source], mixture: MixtureConfig, batch: ClickConfig, *, images: int, seed: int
    ):
        super().__init__(sources, mixture, images=images, seed=seed)
        self.batch = batch
        self.names = {name: names_of(source) for name, source in self.sources.items()}

    def __getitem__(self, step: int) -> ClickBatch:
        """The batch of step ``step`` (from 0)."""
        rng = self.numbers(2, step)
        photos = [self._photo(position, rng) for position in self.positions(step)]
        return make_click_batch(photos, self.batch, rng)

    def _photo(self, position: int, rng: np.random.Generator) -> Photo:
        """The photo at a position of the mixture, or its next neighbour with masks to click on."""
        name = self.mixture[position][0]
        for sample in self.neighbours(position):
            photo = see(sample, self.names[name], self.batch, rng)
            if photo is not None:
                return photo
        raise self.nothing_to_train_on(position)


def names_of(source: Source) -> Names:
    """All names in a source, or in 2000 samples evenly spread over it."""
    objects, parts = set[str](), set[str]()
    for sample in some_annotations(source, _LOOKED_AT):
        for region in sample.regions:
            name = called(region, sample)
            objects.update([name.object] if name.object else [])
            parts.update([name.part] if name.part else [])
    return Names(frozenset(objects), frozenset(parts))


def called(region: Region, sample: Sample) -> Called:
    """The names of a region. A part's category may name its whole too, as in "dog:ear"."""
    name = None if region.category is None else language.readable(region.category)
    if region.granularity != "part":
        whole = sample.whole if region.granularity == "object" else None
        return Called(name or whole, None)
    whole, colon, part = (name or "").partition(":")
    return Called(whole.strip(), part.strip()) if colon else Called(sample.whole, name)


# ---------------------------------------------------------------------------------------------------- one photo


@dataclass(frozen=True)
class Photo:
    """One photo as it is seen, its masks from the largest to the smallest, and what is asked about it.

    pixels: float32 [S, S, 3]. masks: uint8 [M, S, S]. mask_boxes: float32 [M, 4]. names: of each mask. known: of the
    source. boxes: float32 [N, 4]; types: int64 [N]; targets: numbers of the masks that each prompt means.
    """

    pixels: np.ndarray
    masks: np.ndarray
    mask_boxes: np.ndarray
    names: list[Called]
    known: Names
    boxes: np.ndarray
    types: np.ndarray
    targets: list[list[int]]


def see(sample: Sample, known: Names, config: ClickConfig, rng: np.random.Generator) -> Photo | None:
    """A photo under a random view (whole, when that shows no mask) with random prompts; None without any mask."""
    regions = [region for region in sample.regions if _is_target(region)]
    if not regions:
        return None
    flip = bool(rng.random() < config.augment.flip)
    drawn = transforms.draw_view(sample.size, config.size, config.augment, rng)
    for view in (drawn, transforms.whole(sample.size, config.size)):
        view = dataclasses.replace(view, flip=flip)
        found = [(view.place(view.seen(r.mask.to_array()), False), r) for r in regions if r.mask is not None]
        found = [(mask, region) for mask, region in found if np.count_nonzero(mask) >= config.min_area]
        if found:
            return _ask(sample, view, found, known, config, rng)
    return None


def _is_target(region: Region) -> bool:
    """Whether a region may be meant by a click: a mask of something, not of all the rest."""
    there = region.mask is not None and region.mask.area > 0
    return there and not region.ignore and region.origin.get("step") != "complement"


def _ask(
    sample: Sample,
    view: View,
    found: list[tuple[np.ndarray, Region]],
    known: Names,
    config: ClickConfig,
    rng: np.random.Generator,
) -> Photo:
    masks = np.stack([mask for mask, _ in found])  # bool [M, S, S]
    names = [called(region, sample) for _, region in found]
    kept = _distinct(masks, names, config.merge_iou, rng)
    masks, names = masks[kept], [names[i] for i in kept]
    mask_boxes = np.stack([_box(mask) for mask in masks])
    boxes, types, targets = _prompts(masks, mask_boxes, view, config, rng)
    image = view.image(open_photo(sample))
    if config.augment.jitter:
        image = transforms.jitter_colours(image, config.augment.jitter, rng)
    content = normalised(image, config.mean, config.std)
    if config.augment.hide_and_seek:
        transforms.hide_patches(content, config.augment.hide_and_seek, rng)
    unknown = view.place(view.seen(Labels(sample).unknown), False)
    labels = np.where(masks, np.uint8(1), np.where(unknown, np.uint8(IGNORE), np.uint8(0)))
    return Photo(view.place(content, 0.0), labels, mask_boxes, names, known, boxes, types, targets)


def _distinct(masks: np.ndarray, names: list[Called], most: float, rng: np.random.Generator) -> list[int]:
    """Numbers of masks [M, S, S] of which no two have an IoU of ``most`` or more, from the largest to the smallest.

    Of two alike the one with a name stays, else either, by chance.
    """
    areas = masks.sum((1, 2))
    kept = list(range(len(masks)))
    if most < 1:
        flat = masks[:, ::2, ::2].reshape(len(masks), -1).astype(np.float32)
        shared = flat @ flat.T
        sizes = np.diag(shared)
        iou = shared / np.maximum(sizes[:, None] + sizes - shared, 1)
        kept = []
        for i in sorted(rng.permutation(len(masks)).tolist(), key=lambda i: names[i].object is None):
            if not (iou[i, kept] >= most).any():
                kept.append(i)
    return sorted(kept, key=lambda i: (-areas[i], i))


def _box(mask: np.ndarray) -> np.ndarray:
    """The tight box of a mask [S, S] that is not empty."""
    sides = []
    for axis in (0, 1):
        there = np.flatnonzero(mask.any(axis))
        sides.append((there[0] / mask.shape[1 - axis], (there[-1] + 1) / mask.shape[1 - axis]))
    (x0, x1), (y0, y1) = sides
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], np.float32)


def _prompts(
    masks: np.ndarray, mask_boxes: np.ndarray, view: View, config: ClickConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[list[int]]]:
    """Boxes [N, 4], types [N] and targets of random prompts: every mask comes once before any comes twice."""
    x0, y0, x1, y1 = view.target
    side = np.array([x1 - x0, y1 - y0]) / config.size * config.click_size
    count, order = config.prompts_per_image, rng.permutation(len(masks))
    boxes, types, targets = np.empty((count, 4), np.float32), np.empty(count, np.int64), []
    for i, mask in enumerate(np.resize(order, count).tolist()):
        if rng.random() < config.box_ratio:
            boxes[i], types[i], noise = mask_boxes[mask], config.box_type, config.box_noise
            meant = box_iou(mask_boxes[mask], mask_boxes) >= _SAME_BOX
        else:
            inside = np.flatnonzero(masks[mask])
            y, x = divmod(int(inside[rng.integers(len(inside))]), config.size)
            boxes[i] = *((np.array([x, y]) + 0.5) / config.size), *side
            types[i], noise = config.click_type, config.click_noise
            meant = masks[:, y, x]
        boxes[i] = jitter_boxes(boxes[i], noise, rng.random(4))
        others = [i for i in np.flatnonzero(meant).tolist() if i != mask]
        if len(others) >= config.max_targets:
            others = rng.choice(others, config.max_targets - 1, replace=False).tolist()
        targets.append(sorted([mask, *others]))
    return boxes, types, targets


def jitter_boxes(boxes: np.ndarray, amount: float, numbers: np.ndarray) -> np.ndarray:
    """Boxes [*, 4] moved by up to ``amount`` of half their sides, and their sides changed by up to as much of them.

    numbers: [*, 4] in 0..1, which say how far.
    """
    width, height = boxes[..., 2], boxes[..., 3]
    most = np.stack([width / 2, height / 2, width, height], -1) * amount
    return np.clip(boxes + (2 * numbers - 1) * most, 0, 1).astype(np.float32)


def box_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU of a box [4] with boxes [M, 4]: [M]."""
    low = np.maximum(box[:2] - box[2:] / 2, others[:, :2] - others[:, 2:] / 2)
    high = np.minimum(box[:2] + box[2:] / 2, others[:, :2] + others[:, 2:] / 2)
    shared = np.clip(high - low, 0, None).prod(1)
    return shared / (box[2:].prod() + others[:, 2:].prod(1) - shared)


# ---------------------------------------------------------------------------------------------------- a batch


def make_click_batch(photos: Sequence[Photo], config: ClickConfig, rng: np.random.Generator) -> ClickBatch:
    """Photos and their prompts as tensors, with the masks that are targets and the names to tell apart."""
    used = [sorted({mask for masks in photo.targets for mask in masks}) for photo in photos]
    starts = np.cumsum([0, *map(len, used)])
    place = [{mask: start + i for i, mask in enumerate(masks)} for masks, start in zip(used, starts, strict=False)]
    pairs = [
        (prompt, place[b][mask])
        for prompt, (b, masks) in enumerate((b, masks) for b, photo in enumerate(photos) for masks in photo.targets)
        for mask in masks
    ]
    pixels = torch.from_numpy(np.stack([photo.pixels for photo in photos]))
    counts = [len(photo.targets) for photo in photos]
    objects, object_labels, object_others = _labels(photos, used, "object", config.names, rng)
    parts, part_labels, part_others = _labels(photos, used, "part", config.names, rng)
    return ClickBatch(
        pixels=pixels.permute(0, 3, 1, 2),  # [B, 3, S, S] in channels_last layout, without a copy
        boxes=torch.from_numpy(np.concatenate([photo.boxes for photo in photos])),
        types=torch.from_numpy(np.concatenate([photo.types for photo in photos])),
        image_index=torch.from_numpy(np.repeat(np.arange(len(photos)), counts)),
        masks=torch.from_numpy(np.concatenate([p.masks[rows] for p, rows in zip(photos, used, strict=True)])),
        mask_boxes=torch.from_numpy(np.concatenate([p.mask_boxes[rows] for p, rows in zip(photos, used, strict=True)])),
        mask_image=torch.from_numpy(np.repeat(np.arange(len(photos)), [len(rows) for rows in used])),
        pair_prompt=torch.tensor([prompt for prompt, _ in pairs]),
        pair_mask=torch.tensor([mask for _, mask in pairs]),
        texts=tuple(_say(name, config, rng) for name in (*objects, *parts)),
        object_labels=torch.from_numpy(object_labels),
        part_labels=torch.from_numpy(part_labels),
        object_others=torch.from_numpy(object_others),
        part_others=torch.from_numpy(part_others),
    )


def _labels(
    photos: Sequence[Photo], used: list[list[int]], kind: str, most: int, rng: np.random.Generator
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names, and what of them each used mask and each photo's other tokens are: O names, [M, O] and [B, O].

    Only names of one source exclude each other: another's "street" may be this one's "road". In a photo whose parts
    have names, an object is none of them.
    """
    mine = [[getattr(photo.names[mask], kind) for mask in rows] for photo, rows in zip(photos, used, strict=True)]
    shown = {name for names in mine for name in names if name is not None}
    vocabularies = [
        getattr(photo.known, f"{kind}s") if any(own) else frozenset() for photo, own in zip(photos, mine, strict=True)
    ]
    others = sorted(frozenset[str]().union(*vocabularies) - shown)
    others = [others[i] for i in rng.permutation(len(others))[: max(0, most - len(shown))]]
    names = sorted(shown) + others
    rows, rest = [], []
    for own, vocabulary in zip(mine, vocabularies, strict=True):
        possible = np.array([name in vocabulary or name in own for name in names], bool)
        none = np.where(possible, np.uint8(0), np.uint8(IGNORE))  # [O]
        rest.append(none)
        for name in own:
            if name is None:
                rows.append(none if kind == "part" else np.full_like(none, IGNORE))
            else:
                rows.append(np.where(np.array(names) == name, np.uint8(1), none))
    return names, np.stack(rows), np.stack(rest)


def _say(name: str, config: ClickConfig, rng: np.random.Generator) -> str:
    """A name in one of CLIP's sentences, or alone."""
    return TEMPLATES[rng.integers(len(TEMPLATES))].format(name) if config.templates else name
