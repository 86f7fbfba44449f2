"""From one annotated photo to one question of a task of PSALM and its answer (arXiv 2403.14598, §3.4).

What a photo can be asked follows from what is known of it: categories of which every occurrence has a mask make a
panoptic question, a mask with a caption (or with a place or colour of its own) a referring one, any mask an interactive
one, and a conversation, a caption of the whole photo or the list of what it shows a chat.

S side of the training square, K masks of the answer, R regions that are marked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from anygrain.data import transforms
from anygrain.data.labels import Labels, open_photo
from anygrain.data.language import readable, union
from anygrain.data.psalm_chat import has_description, turns_about
from anygrain.data.psalm_marks import draw_mark
from anygrain.data.referring import false_phrases, true_phrases
from anygrain.data.transforms import AugmentConfig, View, swap_sides
from anygrain.data.views import scene_of
from anygrain.types import Mask, Region, Sample

JOINT = ("panoptic", "referring", "interactive", "chat")
"""Tasks of the second stage."""
PADDING = 128  # grey of the part of the square that the photo does not fill, as in ``Resize.corner``


@dataclass(frozen=True, kw_only=True)
class PSALMBatchConfig:
    """What a batch and each of its questions hold; the defaults are the released recipe's, on data of every kind.

    tasks: how often each task is trained, relative to the others: "panoptic", "referring", "interactive", "chat", and
        "caption", the alignment of the projector.
    categories: most names of a panoptic question; those that the photo shows come before others, drawn by chance.
    semantic_ratio: part of the panoptic questions in which the masks of a category are one, in the wording for that.
    regions: most regions of an interactive question.
    sentences: most captions of a thing that are said together, as the official code does; 0 says them all.
    phrase_ratio: part of the referring questions that are phrases made from place, size, colour and neighbours, where
        the photo has a mask with a natural caption too.
    absent_ratio: part of the referring questions about something that is not there.
    min_area: masks with fewer pixels of the square count as unknown.
    most_tokens: ids of a chat, beyond which it is cut.
    size, queries, mean, std: side S of the square, most masks of an answer, normalisation in 0..255; the trainer puts
        the model's own here.
    augment: variation of the photo; the official training has none.
    """

    tasks: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(JOINT, 1.0))
    categories: int = 500
    semantic_ratio: float = 0.0
    regions: int = 100
    sentences: int = 0
    phrase_ratio: float = 0.0
    absent_ratio: float = 0.0
    min_area: int = 16
    most_tokens: int = 2048
    size: int = 1024
    queries: int = 100
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(scale=(1.0, 1.0), flip=0.0, jitter=0.0))

    def __post_init__(self):
        if unknown := sorted(set(self.tasks) - set(MAKE)):
            raise ValueError(f"there is no task {unknown[0]!r}; give some of {', '.join(MAKE)}")
        for name, least in (("categories", 1), ("regions", 1), ("sentences", 0), ("min_area", 1), ("most_tokens", 16)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("semantic_ratio", "phrase_ratio"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.absent_ratio < 1:
            raise ValueError(f"absent_ratio must be at least 0 and below 1, got {self.absent_ratio}")

    def of_model(self, model: Any) -> PSALMBatchConfig:
        """The same with what a model's config says."""
        mean, std = (tuple(255 * value for value in values) for values in (model.mean, model.std))
        return replace(self, size=model.input_size, queries=model.mask_decoder.num_queries, mean=mean, std=std)


@dataclass(frozen=True)
class Asked:
    """A question in words.

    words: names of categories, phrases of one thing, or what person and model say in turn.
    order: of the names and the background, as they are said; see ``about_categories``. semantic: the wording.
    """

    words: tuple[str, ...] = ()
    order: tuple[int, ...] = ()
    semantic: bool = False


@dataclass(frozen=True)
class Example:
    """A photo as it is seen, what is asked about it, and the answer.

    image: uint8 [S, S, 3]. masks: bool [K, S, S]. conditions: the category or region of each mask, 0 for a phrase.
    unknown: bool [S, S], of which nothing is known. marks: bool [R, S, S], the regions that are asked for.
    """

    image: np.ndarray
    asked: Asked
    masks: np.ndarray
    conditions: tuple[int, ...]
    unknown: np.ndarray
    marks: np.ndarray


Make = Callable[[Sample, PSALMBatchConfig, np.random.Generator], Example | None]


# ---------------------------------------------------------------------------------------------------- categories


def complete_categories(sample: Sample) -> dict[str, list[Region]]:
    """The names of which it is known where in the photo they are and are not, with their regions; [] for none there.

    Categories that are one when read ("traffic_light", "traffic light") are one.
    """
    groups: dict[str, list[Region]] = {readable(category): [] for category in sorted(sample.exhaustive)}
    unknown = set()
    for region in sample.regions:
        if region.category is None:
            continue
        name = readable(region.category)
        if region.mask is None or region.category not in sample.exhaustive:
            unknown.add(name)
        elif name in groups:
            groups[name].append(region)
    return {name: regions for name, regions in groups.items() if name not in unknown}


def serves_panoptic(sample: Sample) -> bool:
    """Whether a category is complete and there."""
    return any(any(map(_counts, regions)) for regions in complete_categories(sample).values())


def panoptic(sample: Sample, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """All masks of some categories, in any order of their names; None where the view shows none of them."""
    groups = complete_categories(sample)
    semantic = bool(rng.random() < config.semantic_ratio)
    view = _view(sample, [], config, rng)
    things: list[tuple[str, np.ndarray]] = []
    unknown = view.seen(Labels(sample).unknown)
    for name, regions in groups.items():
        for mask in _masks(regions, semantic):
            seen = view.seen(mask.to_array())
            if np.count_nonzero(seen) >= config.min_area:
                things.append((name, seen))
            else:
                unknown = unknown | seen
    shown = sorted({name for name, _ in things})
    if not shown:
        return None
    if len(shown) > config.categories:
        shown = sorted(rng.choice(shown, config.categories, replace=False).tolist())
    others = sorted(groups.keys() - {name for name, _ in things})
    count = min(len(others), config.categories - len(shown))
    names = sorted([*shown, *rng.choice(others, count, replace=False).tolist()]) if count else shown
    things = [(name, seen) for name, seen in things if name in names]
    things.sort(key=lambda thing: -np.count_nonzero(thing[1]))
    for _, seen in things[config.queries :]:
        unknown = unknown | seen
    things = things[: config.queries]
    for name in names:
        for region in groups[name]:
            if region.ignore and region.mask is not None:
                unknown = unknown | view.seen(region.mask.to_array())
    # A mirrored car's left mirror is its right one.
    said = [swap_sides(name) if view.flip else name for name in names]
    asked = Asked(tuple(said), tuple(rng.permutation(len(names) + 1).tolist()), semantic)
    numbers = tuple(names.index(name) for name, _ in things)
    return _example(sample, view, asked, [seen for _, seen in things], numbers, unknown, config, rng)


def _masks(regions: Sequence[Region], semantic: bool) -> list[Mask]:
    """One mask an instance; what has no number, and everything when ``semantic``, is one together."""
    drawn = [region for region in regions if _counts(region)]
    stuff = [r.mask for r in drawn if r.mask is not None and (semantic or r.instance is None)]
    apart = [r.mask for r in drawn if r.mask is not None and not (semantic or r.instance is None)]
    return [*apart, *([union(stuff)] if stuff else [])]


# ---------------------------------------------------------------------------------------------------- phrases


def serves_referring(sample: Sample) -> bool:
    """Whether a mask has a natural caption, or a name among complete ones so that a phrase can be made."""
    return any(_counts(region) and region.captions for region in sample.regions) or serves_panoptic(sample)


def referring(sample: Sample, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """One thing or group by what is said of it; or, for ``absent_ratio`` of the questions, what is not there."""
    absent = rng.random() < config.absent_ratio
    spoken = [region for region in sample.regions if _counts(region) and region.captions]
    if absent and sample.absent:
        phrase = str(rng.choice(sample.absent))
        view = _view(sample, [], config, rng)
        said = swap_sides(phrase) if view.flip else phrase
        return _example(sample, view, Asked((said,)), [], (), _unknown(sample, view), config, rng)
    if not spoken or absent or rng.random() < config.phrase_ratio:
        found = _made_phrase(sample, absent, config, rng)
        if found is not None or not spoken:
            return found
    region = spoken[rng.integers(len(spoken))]
    assert region.mask is not None
    mask = region.mask.to_array()
    view = _view(sample, [(mask, True)], config, rng)
    seen = view.seen(mask)
    if np.count_nonzero(seen) < config.min_area:
        return None
    captions = [region.captions[i] for i in rng.permutation(len(region.captions))[: config.sentences or None]]
    said = tuple(swap_sides(caption) if view.flip else caption for caption in captions)
    return _example(sample, view, Asked(said), [seen], (0,), _unknown(sample, view), config, rng)


def _made_phrase(sample: Sample, absent: bool, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """A generated phrase about what a view shows, true or false."""
    view = _view(sample, [], config, rng)
    labels = Labels(sample)
    scene = scene_of(sample, view, np.asarray(view.image(open_photo(sample))), labels)
    phrases = false_phrases(scene, rng, 1) if absent else true_phrases(scene, rng, 1, pointing=int(rng.random() < 0.8))
    phrases = [phrase for phrase in phrases if not phrase.boxed]
    if not phrases:
        return None
    (phrase,) = phrases
    unknown = view.seen(labels.unknown)
    if absent:
        return _example(sample, view, Asked((phrase.text,)), [], (), unknown, config, rng)
    if np.count_nonzero(phrase.mask) < config.min_area:
        return None
    return _example(
        sample, view, Asked((phrase.text,)), [phrase.mask], (0,), unknown | phrase.unknown & ~phrase.mask, config, rng
    )


# ---------------------------------------------------------------------------------------------------- regions


def serves_interactive(sample: Sample) -> bool:
    """Whether there is a mask."""
    return any(map(_counts, sample.regions))


def interactive(sample: Sample, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """Some masks, each by a mark of a random kind: those of the data set, or drawn as a person might."""
    view = _view(sample, [], config, rng)
    regions = [region for region in sample.regions if _counts(region)]
    masks, marks = [], []
    for number in rng.permutation(len(regions)).tolist():
        region = regions[number]
        assert region.mask is not None
        seen = view.seen(region.mask.to_array())
        if np.count_nonzero(seen) < config.min_area:
            continue
        mark = draw_mark(region, seen, view, rng)
        if mark.any():
            masks.append(seen)
            marks.append(mark)
        if len(masks) == min(config.regions, config.queries):
            break
    if not masks:
        return None
    numbers = tuple(range(len(masks)))
    example = _example(sample, view, Asked(), masks, numbers, _unknown(sample, view), config, rng)
    return replace(example, marks=np.stack([view.place(mark, False) for mark in marks]))


# ---------------------------------------------------------------------------------------------------- chats


def serves_chat(sample: Sample) -> bool:
    """Whether there is a conversation, a caption of the whole photo, or a list of what it shows."""
    return turns_about(sample, np.random.default_rng(0)) is not None


def chat(sample: Sample, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """A conversation about the photo."""
    turns = turns_about(sample, rng)
    if turns is None:
        return None
    view = _view(sample, [], config, rng)
    words = tuple(swap_sides(text) if view.flip else text for turn in turns for text in turn)
    return _example(sample, view, Asked(words), [], (), np.zeros(0, bool), config, rng)


def caption(sample: Sample, config: PSALMBatchConfig, rng: np.random.Generator) -> Example | None:
    """A photo and its caption, for the projector: the last answer of a conversation, whatever was asked."""
    example = chat(sample, config, rng)
    return None if example is None else replace(example, asked=Asked(example.asked.words[-1:]))


SERVES: dict[str, Callable[[Sample], bool]] = {
    "panoptic": serves_panoptic,
    "referring": serves_referring,
    "interactive": serves_interactive,
    "chat": serves_chat,
    "caption": has_description,
}
MAKE: dict[str, Make] = {
    "panoptic": panoptic,
    "referring": referring,
    "interactive": interactive,
    "chat": chat,
    "caption": caption,
}


# ---------------------------------------------------------------------------------------------------- one view


def _counts(region: Region) -> bool:
    """Whether a region may be an answer: a mask of something, not of all the rest."""
    there = region.mask is not None and region.mask.area > 0
    return there and not region.ignore and region.origin.get("step") != "complement"


def _unknown(sample: Sample, view: View) -> np.ndarray:
    return view.seen(Labels(sample).unknown)


def _view(
    sample: Sample, targets: list[tuple[np.ndarray, bool]], config: PSALMBatchConfig, rng: np.random.Generator
) -> View:
    """A random view; without zoom the whole photo in the upper left corner, as at inference."""
    if config.augment.scale == (1.0, 1.0):
        flip = bool(rng.random() < config.augment.flip)
        return replace(transforms.whole(sample.size, config.size), flip=flip)
    return transforms.choose_view(sample.size, config.size, targets, config.augment, rng)


def _example(
    sample: Sample,
    view: View,
    asked: Asked,
    masks: Sequence[np.ndarray],
    conditions: tuple[int, ...],
    unknown: np.ndarray,
    config: PSALMBatchConfig,
    rng: np.random.Generator,
) -> Example:
    """Put the view's part of everything, bool [h, w] each, on the square; vary the colours where none is named."""
    image = view.image(open_photo(sample))
    if config.augment.jitter and not any(map(transforms.names_colour, asked.words)):
        image = transforms.jitter_colours(image, config.augment.jitter, rng)
    empty = np.zeros((0, config.size, config.size), bool)
    return Example(
        image=view.place(np.asarray(image), PADDING),
        asked=asked,
        masks=np.stack([view.place(mask, False) for mask in masks]) if masks else empty,
        conditions=conditions,
        unknown=view.place(unknown, False) if unknown.size else np.zeros(empty.shape[1:], bool),
        marks=empty,
    )
