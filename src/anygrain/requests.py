"""Many questions from a file: one ``{"id", "image", "text"}`` a line in, one result a line out, in the same order.

Lines are taken in windows: inside a window all requests of an image are answered together, so that it is encoded once,
and memory does not grow with the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from anygrain.images import ImageError
from anygrain.inputs import printable
from anygrain.types import ImageEmbedding, Prompt

if TYPE_CHECKING:
    from anygrain.segmenter import Segmenter

WINDOW = 4096  # requests held at a time; their results take some kilobytes each
LONGEST = 1 << 20  # bytes of a line
KEPT = 2  # embeddings kept from window to window, for an image whose requests lie in both


class Request(NamedTuple):
    """One line of the file. error: why it cannot be answered; then image and text mean nothing."""

    line: int
    id: str | int | None
    image: str = ""
    text: str = ""
    error: str | None = None


def read_requests(file: IO[bytes]) -> Iterator[Request]:
    """The lines of a file of requests; blank ones are passed over. A bad line gives a request with ``error``."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while (rest := file.readline(LONGEST)) and not rest.endswith(b"\n"):
                pass
            yield Request(number, None, error=f"line {number} is longer than {LONGEST:,} bytes")
        elif line.strip():
            yield parse(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number)


def parse(line: bytes, number: int) -> Request:
    """One line; what is wrong with it goes into ``error``."""
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Request(number, None, error=f"line {number} is not UTF-8: byte {error.start + 1} is invalid")
    except (ValueError, RecursionError) as error:
        return Request(number, None, error=f"line {number} is not JSON: {error}")
    if not isinstance(values, dict):
        return Request(number, None, error=f"line {number} is not an object with id, image and text")
    known = values.get("id")
    known = known if isinstance(known, (str, int)) and not isinstance(known, bool) else None
    return Request(number, known, error=error) if (error := _fault(values, number)) else _request(values, number)


def _request(values: dict[str, Any], number: int) -> Request:
    return Request(number, values["id"], values["image"], values["text"])


def _fault(values: dict[str, Any], number: int) -> str | None:
    """What is wrong with the fields; other fields than these three are passed over."""
    kinds = {"id": ((str, int), "a string or a whole number"), "image": (str, "a path"), "text": (str, "a phrase")}
    for name, (kind, meaning) in kinds.items():
        if name not in values:
            return f"line {number} has no {name!r}"
        value = values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            return f"line {number}: {name!r} must be {meaning}, got {json.dumps(value)[:100]}"
        if isinstance(value, str) and not (value.strip() or name == "id"):
            return f"line {number}: {name!r} is empty"
    if "\0" in values["image"] or not _is_unicode(values["text"]):
        return f"line {number} holds characters that do not exist"
    return None


def _is_unicode(text: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell but nothing can encode."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def answer_requests(segmenter: Segmenter, requests: Iterable[Request]) -> Iterator[dict[str, Any]]:
    """One row a request, in order and as early as the order allows.

    A row is ``{"id", "image", "prompt", "score", "present", "box", "area", "segmentation"}``, or
    ``{"id", "line", "error"}`` for a bad line or an image that cannot be read.
    """
    stream = iter(requests)
    embed = lru_cache(maxsize=KEPT)(lambda image: segmenter.embed([Path(image)])[0])
    while window := list(islice(stream, WINDOW)):
        yield from _in_order(_answer_window(segmenter, window, embed))


def _in_order(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Rows that come with their places 0, 1, 2, ... in any order, in the order of the places."""
    waiting: dict[int, dict[str, Any]] = {}
    place = 0
    for at, row in rows:
        waiting[at] = row
        while place in waiting:
            yield waiting.pop(place)
            place += 1


def _answer_window(
    segmenter: Segmenter, window: Sequence[Request], embed: Callable[[str], ImageEmbedding]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with their places in the window, image by image."""
    places: dict[str, list[int]] = {}
    for place, request in enumerate(window):
        if request.error is None:
            places.setdefault(request.image, []).append(place)
        else:
            yield place, _error(request, request.error)
    for image, group in places.items():
        requests = [window[place] for place in group]
        try:
            embedding = embed(image)
        except ImageError as error:
            yield from ((place, _error(window[place], str(error))) for place in group)
        else:
            yield from zip(group, _answer_image(segmenter, embedding, requests), strict=True)


def _answer_image(
    segmenter: Segmenter, embedding: ImageEmbedding, requests: Sequence[Request]
) -> Iterator[dict[str, Any]]:
    predictions = segmenter.answer(embedding, [Prompt(text=request.text) for request in requests])
    size = {"width": embedding.image.width, "height": embedding.image.height}
    for request, prediction in zip(requests, predictions, strict=True):
        (segment,) = prediction.segments()
        yield {"id": request.id, "image": {"file": printable(request.image), **size}} | segment | {"id": request.id}


def _error(request: Request, sentence: str) -> dict[str, Any]:
    return {"id": request.id, "line": request.line, "error": sentence}
