"""A small PSALM in a model folder, with the weights of the parity fixture and a real byte-level tokenizer."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent / "parity"))

from psalm_golden import official_state, tiny_config

from anygrain import hub
from anygrain.models.psalm.convert import psalm
from anygrain.models.psalm.network import PSALM
from anygrain.models.psalm.tokenizer import BPETokenizer


def byte_tokenizer() -> BPETokenizer:
    """Every byte is its own id; 256..258 are the tokens that prompts name: the ids of the goldens."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # GPT-2 writes the other bytes as 256, 257, ...
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    tokenizer = Tokenizer(BPE({letters[byte]: byte for byte in range(256)}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|endoftext|>", "[PAD]", "[SEG]")])
    return BPETokenizer(tokenizer)


def save(folder: Path, **changes) -> Path:
    """A model folder; ``changes`` are fields of the configuration."""
    import dataclasses

    network = PSALM(dataclasses.replace(tiny_config(), **changes), byte_tokenizer())
    network.load_state_dict(psalm(official_state(), tiny_config())[0])
    return hub.save(network, folder, card="a small PSALM\n")
