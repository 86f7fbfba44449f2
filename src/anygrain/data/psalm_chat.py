"""Conversations about a whole photo: those of the data set, its captions, and questions made from exhaustive names."""

from __future__ import annotations

import numpy as np

from anygrain.data.language import readable
from anygrain.nouns import is_plural
from anygrain.types import Sample

Turn = tuple[str, str]

DESCRIBE = (
    "Describe this photo in one sentence.",
    "What does this picture show?",
    "Give a short caption for the image.",
    "What can be seen here?",
    "Say in a few words what is in the photo.",
)
_TURNS = 3  # questions about names in one conversation


def turns_about(sample: Sample, rng: np.random.Generator) -> tuple[Turn, ...] | None:
    """A random conversation; in its first turn ``<image>`` stands where the photo belongs. None when nothing is known.

    A conversation of the data set comes before a caption of the whole photo (a region without a place), and that before
    questions for names that are known to be there or not: these are made by template.
    """
    if sample.chats:
        return _with_image(sample.chats[rng.integers(len(sample.chats))])
    if captions := _captions(sample):
        asked, answer = DESCRIBE[rng.integers(len(DESCRIBE))], captions[rng.integers(len(captions))]
        return _with_image(((asked, answer),))
    turns = _about_names(sample, rng)
    return _with_image(turns) if turns else None


def has_description(sample: Sample) -> bool:
    """Whether there is a conversation or a caption of the whole photo."""
    return bool(sample.chats or _captions(sample))


def _captions(sample: Sample) -> list[str]:
    return [text for r in sample.regions if r.mask is None and r.box is None for text in r.captions]


def _about_names(sample: Sample, rng: np.random.Generator) -> tuple[Turn, ...]:
    """ "Is there a dog?" "Yes.": half of the names are there."""
    seen = {readable(region.category) for region in sample.regions if region.category is not None}
    there = sorted(seen)
    missing = sorted({readable(category) for category in sample.exhaustive} - seen)
    turns = []
    for _ in range(_TURNS):
        names, answer = (there, "Yes.") if rng.random() < 0.5 else (missing, "No.")
        if names:
            turns.append((_question(names.pop(int(rng.integers(len(names))))), answer))
    return tuple(turns)


def _question(name: str) -> str:
    if is_plural(name):
        return f"Are there {name} in the photo?"
    return f"Is there {'an' if name[0] in 'aeiou' else 'a'} {name} in the photo?"


def _with_image(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """``<image>`` before the first question unless it stands in it; other marks of prompts are taken out."""
    plain = [(_plain(question), _plain(answer)) for question, answer in turns]
    (first, answer), rest = plain[0], plain[1:]
    return ((f"<image>\n{first.strip()}", answer), *rest)


def _plain(text: str) -> str:
    for mark in ("<image>", "<seg>", "<cls>", "<region>", "<refer>"):
        text = text.replace(mark, "")
    return text.strip()
