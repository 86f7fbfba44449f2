"""Phrases about a view, true for exactly their mask, and false ones that nothing in the view fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from anygrain.data.compose import Claim, false_claims, true_claims
from anygrain.data.scene import Scene

ENOUGH = 0.95  # a phrase is not said when, with doubts, less than the rest of the view is known to be outside of it


@dataclass(frozen=True, eq=False)
class Phrase:
    """What is said and what it means.

    text: lower-case words.
    mask: bool [H, W]; empty for a false phrase.
    unknown: bool [H, W], pixels outside of the mask that may belong to it.
    boxed: of what it means only a box is known, at least of a part, so its mask is a box there.
    kind: true: "place", "size", "colour", "relation", "combined", "group", "count", "except", "union", "part";
        false: "wrong place", "wrong size", "wrong colour", "wrong relation", "wrong count",
        "absent anchor", "absent thing".
    """

    text: str
    mask: np.ndarray
    unknown: np.ndarray
    kind: str
    boxed: bool = False


# These mean one thing or a group among others of its name; the rest mean categories, or all but one of them.
POINTING = frozenset({"place", "size", "colour", "relation", "combined", "group"})


def true_phrases(scene: Scene, rng: np.random.Generator, count: int, pointing: int = 0) -> list[Phrase]:
    """Up to ``count`` different phrases, each true for exactly its mask, spread over kinds and things.

    pointing: so many of them, as far as they go, are of the ``POINTING`` kinds. Pixels of ``Phrase.unknown`` may lie
    inside or outside of what a phrase means: ignore them.
    """
    claims = list(true_claims(scene, rng))
    chosen: dict[str, Phrase] = {}
    if pointing:
        first = _spread([claim for claim in claims if claim.kind in POINTING], rng)
        _phrases(scene, first, rng, chosen, min(pointing, count))
    return list(_phrases(scene, _spread(claims, rng), rng, chosen, count).values())


def false_phrases(scene: Scene, rng: np.random.Generator, count: int) -> list[Phrase]:
    """Up to ``count`` different phrases that nothing in the view fits; their masks are empty."""
    return list(_phrases(scene, _spread(list(false_claims(scene, rng)), rng), rng, {}, count).values())


def _phrases(
    scene: Scene, claims: Iterable[Claim], rng: np.random.Generator, chosen: dict[str, Phrase], count: int
) -> dict[str, Phrase]:
    """The chosen phrases by their text, made up to ``count`` by those of the first claims that can be said."""
    for claim in claims:
        if len(chosen) >= count:
            break
        text = claim.say(rng)
        if text not in chosen:
            mask = scene.union(claim.about)
            unknown = _unknown(scene, claim) & ~mask
            if not scene.doubts or np.count_nonzero(mask | unknown) <= ENOUGH * mask.size:
                boxed = any(scene.things[number].boxed for number in claim.about)
                chosen[text] = Phrase(text, mask, unknown, claim.kind, boxed)
    return chosen


def _unknown(scene: Scene, claim: Claim) -> np.ndarray:
    """bool [H, W]: where nothing is known, and where there may be more of what the claim is about."""
    unknown = np.zeros(scene.size, bool) if scene.unknown is None else scene.unknown.copy()
    for name in {scene.things[number].category for number in claim.about} & scene.doubts.keys():
        unknown |= scene.doubts[name]
    return unknown


def _spread(claims: list[Claim], rng: np.random.Generator) -> Iterable[Claim]:
    """All claims, kinds in turn; of a kind, first those about things not spoken of as yet."""
    kinds: dict[str, list[Claim]] = {}
    for index in rng.permutation(len(claims)):
        kinds.setdefault(claims[index].kind, []).append(claims[index])
    spoken: set[tuple[int, ...]] = set()
    while kinds:
        names = sorted(kinds)
        for name in (names[i] for i in rng.permutation(len(names))):
            waiting = kinds[name]
            fresh = next((i for i, claim in enumerate(waiting) if claim.about not in spoken), 0)
            claim = waiting.pop(fresh)
            spoken.add(claim.about)
            if not waiting:
                del kinds[name]
            yield claim
