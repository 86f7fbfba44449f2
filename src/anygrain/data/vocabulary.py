"""What the texts of shards say."""

from __future__ import annotations

import re
from collections.abc import Iterable

from anygrain.data.held_out import holds_unseen_word
from anygrain.data.language import readable, synonyms
from anygrain.nouns import plural
from anygrain.types import Sample
from anygrain.vocabulary import Vocabulary


def gather(samples: Iterable[Sample]) -> Vocabulary:
    """The names of all categories, their synonyms, and every word of every text; without words held out of training."""
    categories, texts = set[str](), set[str]()
    for sample in samples:
        categories.update(sample.exhaustive, (r.category for r in sample.regions if r.category is not None))
        texts.update(sample.absent, *(region.captions for region in sample.regions))
    called = sorted({readable(category) for category in categories})
    names = {way: name for name in called for way in synonyms(name)} | {name: name for name in called}
    texts |= names.keys() | {many for way in names if (many := plural(way)) is not None}
    words = {word for text in texts if not holds_unseen_word(text) for word in re.findall(r"[a-z0-9'-]+", text.lower())}
    return Vocabulary(
        names={way: name for way, name in names.items() if not holds_unseen_word(way)}, words=frozenset(words)
    )
