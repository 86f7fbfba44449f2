"""What PSALM is told: the prompts of the paper's task types as token ids (paper §3.2, official template ``llava_phi``).

A prompt is text around marks: ``<image>`` the picture's tokens, ``<cls>`` a category's name, ``<refer>`` a phrase,
``<region>`` a region's feature, ``<seg>`` the mask tokens. Each piece of text between marks is encoded on its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

IMAGE, MASKS, CATEGORY, REGION, PHRASE = -200, -201, -202, -203, -204
"""Ids that stand for the marks; the official code's numbers."""
MARKS = {"<image>": IMAGE, "<seg>": MASKS, "<cls>": CATEGORY, "<region>": REGION, "<refer>": PHRASE}
IGNORE = -100
"""Label of a token that no loss asks for."""

BACKGROUND = "background"
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
DONE = "Sure, the segmentation result is <seg>"


WORDINGS = (
    SYSTEM,
    "[INST] <<SYS>>\n",
    "\n<</SYS>>\n\n",
    " [/INST] ",
    "This is an image",
    ", Please do Panoptic Segmentation.\nThis is all the candidate categories: ",
    ", Please do Semantic Segmentation.\nThis is all the candidate categories: ",
    ", Please doing Referring Segmentation according to the following instruction:\n",
    ", Please segment by given regions\nThis is all regions: ",
    "\nSure, the segmentation result is ",
    BACKGROUND,
)
"""Pieces of text that stand in prompts, for a vocabulary of its own."""


class PhiTokenizer(Protocol):
    """What turns text into the language model's ids."""

    seg: int
    """Id of the token ``[SEG]``, which ends every condition."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text, nothing added; ``[SEG]`` and ``<|endoftext|>`` in it are one token each."""
        ...

    def words(self) -> list[str]:
        """Whole words of the vocabulary, of three letters and more."""
        ...


@dataclass(frozen=True)
class Question:
    """A prompt for one picture as ids, from the first word to the mask tokens.

    ids: token ids, IMAGE once where the picture stands, REGION once a region, MASKS once at the end.
    owner: for each id which condition it is part of (a category, or 0 for the phrase); -1 for none. A condition ends
        with the token [SEG]. A REGION is part of none: its own hidden state counts.
    kind: "categories", "phrase" or "regions"; "text" for a chat, which asks for no mask.
    """

    ids: tuple[int, ...]
    owner: tuple[int, ...]
    kind: str

    @property
    def conditions(self) -> int:
        """How many categories (background included), phrases (1) or regions are asked for."""
        return self.ids.count(REGION) if self.kind == "regions" else max(self.owner) + 1


def about_categories(
    tokenizer: PhiTokenizer, names: Sequence[str], *, semantic: bool = False, order: Sequence[int] | None = None
) -> Question:
    """Panoptic, instance and open-vocabulary segmentation: ``names``, and "background" after them.

    The order in which they are said has an influence, as the model reads from left to right. order: numbers of the
    names as they are to be said, with len(names) for the background, which comes last when None; conditions keep the
    numbers of ``names`` in any case. semantic: the wording of the official COCO semantic task; all others are asked
    like panoptic. Raises ValueError for a name that is empty.
    """
    if not names or not all(name.strip() for name in names):
        raise ValueError("a category has no name: give each category a word or a phrase")
    order = range(len(names) + 1) if order is None else order
    if sorted(order) != list(range(len(names) + 1)):
        raise ValueError(f"the order of {len(names)} names and the background must hold 0..{len(names)} once each")
    marks = ", ".join(["<cls>"] * (len(names) + 1))
    human = (
        f"This is an image <image>, Please do {'Semantic' if semantic else 'Panoptic'} Segmentation.\n"
        f"This is all the candidate categories: {marks}.\n"
    )
    said = [(number, (*names, BACKGROUND)[number]) for number in order]
    conditions = [(number, [*tokenizer.encode(name), tokenizer.seg]) for number, name in said]
    return _fill(encode(tokenizer, conversation((human, "\n" + DONE))), conditions, "categories")


def about_phrase(tokenizer: PhiTokenizer, phrases: Sequence[str]) -> Question:
    """Referring segmentation: one thing, said in one or several phrases. Raises ValueError for an empty phrase."""
    if not phrases or not all(phrase.strip() for phrase in phrases):
        raise ValueError("a phrase is empty: say what to segment, for instance 'the red car'")
    human = "This is an image <image>, Please doing Referring Segmentation according to the following instruction:\n"
    condition = [*tokenizer.encode("".join(f" {phrase}." for phrase in phrases)), tokenizer.seg]
    return _fill(encode(tokenizer, conversation((human + "<refer>", "\n" + DONE))), [(0, condition)], "phrase")


def about_regions(tokenizer: PhiTokenizer, count: int) -> Question:
    """Interactive segmentation of ``count`` regions, which share one prompt. Raises ValueError for none."""
    if count < 1:
        raise ValueError("no region given: mark at least one by points, a scribble, a box or a mask")
    marks = ",".join([" <region>"] * count)
    human = f"This is an image <image>, Please segment by given regions\nThis is all regions: {marks}.\n"
    return _fill(encode(tokenizer, conversation((human, "\n[SEG]<seg>"))), [], "regions")


def about_chat(
    tokenizer: PhiTokenizer, turns: Sequence[tuple[str, str]], most: int = 2048
) -> tuple[Question, tuple[int, ...]]:
    """A conversation about a picture, and a label for each of its ids: itself in answers, IGNORE elsewhere.

    turns: what the person says and the answer; ``<image>`` once, in the first. most: ids of further turns beyond that
    are left out, and the first turn is cut there.
    """
    ids: list[int] = []
    labels: list[int] = []
    for number, (human, answer) in enumerate(turns):
        told = encode(tokenizer, _told(number, human))
        said = encode(tokenizer, _said(answer))
        if number and len(ids) + len(told) + len(said) > most:
            break
        ids += told + said
        labels += [IGNORE] * len(told) + said
    return Question(tuple(ids[:most]), (-1,) * len(ids[:most]), "text"), tuple(labels[:most])


def about_caption(tokenizer: PhiTokenizer, caption: str, most: int = 2048) -> tuple[Question, tuple[int, ...]]:
    """A picture and then its caption, nothing else, as the projector is first trained (LLaVA 1.5); labels as above."""
    said = tokenizer.encode(caption + "\n")[: most - 1]
    return Question((IMAGE, *said), (-1,) * (len(said) + 1), "text"), (IGNORE, *said)


def conversation(*turns: tuple[str, str]) -> str:
    """Turns of a person's text and the answer, as the language model was trained on them."""
    return "".join(_told(number, human) + _said(answer) for number, (human, answer) in enumerate(turns))


def _told(number: int, human: str) -> str:
    start = "<|endoftext|>" if number else ""
    system = "" if number else f"<<SYS>>\n{SYSTEM}\n<</SYS>>\n\n"
    return f"{start}[INST] {system}{human} [/INST]"


def _said(answer: str) -> str:
    return f" {answer} <|endoftext|>"


def encode(tokenizer: PhiTokenizer, text: str) -> list[int]:
    """A text with marks as ids; each mark is one negative id."""
    ids: list[int] = []
    for piece in re.split("(" + "|".join(MARKS) + ")", text):
        ids += [MARKS[piece]] if piece in MARKS else tokenizer.encode(piece) if piece else []
    return ids


def _fill(ids: Sequence[int], conditions: Iterable[tuple[int, Sequence[int]]], kind: str) -> Question:
    """Put numbered conditions in place of their marks; cut what follows the mask tokens and so has no influence."""
    waiting = iter(conditions)
    filled: list[int] = []
    owner: list[int] = []
    for token in ids[: ids.index(MASKS) + 1]:
        number, tokens = next(waiting) if token in (CATEGORY, PHRASE) else (-1, [token])
        filled += tokens
        owner += [number] * len(tokens)
    return Question(tuple(filled), tuple(owner), kind)
