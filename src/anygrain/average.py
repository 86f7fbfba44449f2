"""The mean of several models' weights: one model, often better than each (model soups, arXiv 2203.05482)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anygrain import hub
from anygrain.vocabulary import Vocabulary

if TYPE_CHECKING:
    from anygrain.hub import Network


def average(models: Sequence[str | Path]) -> Network:
    """The model whose every weight is the mean of that weight in ``models``, in eval mode on the CPU.

    models: two or more, as `hub.find` takes them, of one configuration. It helps when one was trained on from another,
        or all from the same start: weights of unrelated runs have a useless mean. A model given twice counts twice.
    The vocabulary is what any of them was trained on.
    Raises ValueError for fewer than two models, another configuration or another tokenizer.
    """
    if len(models) < 2:
        raise ValueError("the mean of one model is that model: name at least two")
    mean = hub.read_model(hub.find(models[0]))
    total = {key: value.double() for key, value in mean.state_dict().items()}
    words, vocabularies = _words(mean), [mean.vocabulary]
    for name in models[1:]:  # one beside the mean at a time, so that memory does not grow with their number
        other = hub.read_model(hub.find(name))
        if other.config != mean.config:
            raise ValueError(f"{name}: its configuration is not that of {models[0]}; only like models have a mean")
        if _words(other) != words:
            raise ValueError(f"{name}: its tokenizer is not that of {models[0]}; only like models have a mean")
        for key, value in other.state_dict().items():
            total[key] += value
        vocabularies.append(other.vocabulary)
    state = mean.state_dict()
    mean.load_state_dict({key: (value / len(models)).to(state[key].dtype) for key, value in total.items()})
    mean.vocabulary = _union([vocabulary for vocabulary in vocabularies if vocabulary is not None])
    return mean


def _words(model: Network) -> list[str]:
    """Of the tokenizer; nothing where a model knows no text."""
    return [] if model.tokenizer is None else model.tokenizer.words()


def _union(vocabularies: Sequence[Vocabulary]) -> Vocabulary | None:
    """Of two names for a way to call a category the first stays."""
    if not vocabularies:
        return None
    names = {way: name for vocabulary in reversed(vocabularies) for way, name in vocabulary.names.items()}
    return Vocabulary(names=names, words=frozenset().union(*(vocabulary.words for vocabulary in vocabularies)))
