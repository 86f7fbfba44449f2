"""Picture -> words: BLIP (arXiv 2201.12086) through ``transformers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from anygrain.annotate.hub_teacher import HubTeacher
from anygrain.annotate.origin import changed, trace
from anygrain.annotate.pictures import CLIP_MEAN, CLIP_STD, box_of, crop, normalised
from anygrain.annotate.step import Worker
from anygrain.types import Region, Sample

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, kw_only=True)
class BlipTeacher(HubTeacher):
    """BLIP's captioner, ViT-B ("-base") or ViT-L ("-large"). beams, max_tokens: of the search for words."""

    model: str = "Salesforce/blip-image-captioning-base"
    beams: int = 3
    max_tokens: int = 20
    sizes: ClassVar = {
        "Salesforce/blip-image-captioning-base": "990 MB",
        "Salesforce/blip-image-captioning-large": "1.9 GB",
    }

    def load(self, device: str) -> Blip:
        """Read weights and tokenizer."""
        from anygrain.hub import pick_device

        device, transformers = pick_device(device), self.transformers()
        model = self.read(transformers.BlipForConditionalGeneration).to(device).eval().requires_grad_(False)
        options = {"num_beams": self.beams, "max_new_tokens": self.max_tokens}
        return Blip(model, self.read(transformers.AutoTokenizer), device, options)


class Blip:
    """Pictures -> captions.

    model: transformers' BlipForConditionalGeneration; options: of its ``generate``.
    """

    def __init__(self, model: Any, tokenizer: Any, device: str, options: dict[str, int]):
        self.model, self.tokenizer, self.device, self.options = model, tokenizer, device, options
        self.side = int(model.config.vision_config.image_size)

    def captions(self, images: Sequence[Image.Image]) -> list[str]:
        """One lower-case caption a picture, squashed to the model's square as it was trained; "" when it is silent."""
        import torch
        from PIL import Image

        small = [image.resize((self.side, self.side), Image.Resampling.BICUBIC) for image in images]
        with torch.inference_mode():
            ids = self.model.generate(pixel_values=normalised(small, CLIP_MEAN, CLIP_STD, self.device), **self.options)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [" ".join(text.lower().split()).strip(" .") for text in texts]


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Says in words what each region is that has a box or a mask and no caption.

    whole: caption the whole photograph instead, as a new region without a place, for a step that finds it.
    context: how much of a box's size is shown around it.
    batch_size: pictures captioned together.
    """

    name: ClassVar[str] = "caption"
    teacher: BlipTeacher = BlipTeacher()
    whole: bool = False
    context: float = 0.2
    batch_size: int = 8

    @property
    def teachers(self) -> tuple[BlipTeacher]:
        """BLIP."""
        return (self.teacher,)

    def __call__(self, samples: list[Sample], worker: Worker) -> list[Sample]:
        """A region for which no word comes stays when it has a category, else it goes."""
        blip = worker.teacher(self.teacher)
        if self.whole:
            samples = [changed(sample, (*sample.regions, Region())) for sample in samples]
        asked = [[self._is_asked(region) for region in sample.regions] for sample in samples]
        places = [(row, number) for row, flags in enumerate(asked) for number, flag in enumerate(flags) if flag]
        words = {}
        for start in range(0, len(places), self.batch_size):
            group = places[start : start + self.batch_size]
            pictures = [self._picture(samples[row], samples[row].regions[number], worker) for row, number in group]
            words.update(zip(group, blip.captions(pictures), strict=True))
        return [self._said(sample, row, words, worker) for row, sample in enumerate(samples)]

    def _is_asked(self, region: Region) -> bool:
        if self.whole:
            return region == Region()
        return box_of(region) is not None and not region.captions and not region.ignore

    def _picture(self, sample: Sample, region: Region, worker: Worker) -> Image.Image:
        box = box_of(region)
        image = worker.image(sample)
        return image if box is None else crop(image, box, self.context)

    def _said(self, sample: Sample, row: int, words: dict[tuple[int, int], str], worker: Worker) -> Sample:
        regions = []
        for number, region in enumerate(sample.regions):
            text = words.get((row, number))
            if text:
                regions.append(trace(region, self.name, self.teachers, captions=(text,)))
            elif text is None or region.category is not None:
                regions.append(region)
            else:
                worker.drop(self.name, "no words")
        return changed(sample, regions)
