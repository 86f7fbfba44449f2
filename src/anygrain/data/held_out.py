"""Words that no training text may hold, so that they measure what the model makes of a word it never learned.

Chosen on 2026-11-21, before the training that they measure; no text of any training set of any earlier model holds
one of them either. "sign symbol" and "traffic sign" and the like mean the same thing in the set they are measured on.
"""

from __future__ import annotations

import re

# (source, the name that training says, the word that it never says); both are asked as "all {word}" on the val split.
UNSEEN_WORDS: tuple[tuple[str, str, str], ...] = (
    ("pets", "dog", "puppy"),
    ("pets", "dog", "hound"),
    ("pets", "cat", "kitty"),
    ("pets", "cat", "feline"),
    ("horses", "horse", "pony"),
    ("horses", "horse", "stallion"),
    ("horses", "horse", "steed"),
    ("coco_person", "person", "human"),
    ("coco_person", "person", "individual"),
    ("camvid", "car", "automobile"),
    ("camvid", "sidewalk", "footpath"),
    ("camvid", "road", "roadway"),
    ("camvid", "pedestrian", "passerby"),
    ("clothing", "bag", "satchel"),
    ("camvid", "sign symbol", "traffic sign"),
    ("camvid", "building", "edifice"),
    ("camvid", "fence", "railing"),
    ("sky", "sky", "heavens"),
    ("facade", "vegetation", "greenery"),
    ("facade", "shop", "store"),
    ("facade", "balcony-fence", "balustrade"),
    ("facade", "window", "windowpane"),
    ("clothing", "pants", "trousers"),
    ("clothing", "sunglasses", "shades"),
    ("clothing", "shoes", "footwear"),
    ("clothing", "dress", "gown"),
    ("clothing", "coat", "overcoat"),
    ("clothing", "sweater", "pullover"),
    ("clothing", "hair", "hairdo"),
    ("clothing", "hat", "headgear"),
    ("faces", "mouth", "lips"),
    ("faces", "eyes", "eyeballs"),
    ("car_parts", "hood", "bonnet"),
    ("car_parts", "front_glass", "windscreen"),
    ("coco", "couch", "sofa"),
    ("coco", "tv", "television"),
    ("sysu_shapes", "bicycle", "pushbike"),
    ("sysu_shapes", "airplane", "airliner"),
    ("sysu_shapes", "boat", "vessel"),
    ("caltech_outlines", "cell phone", "smartphone"),
)

HELD_OUT = frozenset(word for _, _, word in UNSEEN_WORDS)

# Any of the words, also in the plural: puppies, bikes, passersby.
_ANY = re.compile(
    r"\b(?:"
    + "|".join(sorted(re.escape(w[:-1]) + "(?:y|ies)" if w.endswith("y") else re.escape(w) for w in HELD_OUT))
    + r"|passersby)(?:e?s)?\b",
    re.IGNORECASE,
)


def holds_unseen_word(text: str) -> bool:
    """Whether a text says one of ``HELD_OUT``, and so must not be trained on.

    >>> holds_unseen_word("Two puppies on the sofa"), holds_unseen_word("the passer")
    (True, False)
    """
    return _ANY.search(text) is not None
