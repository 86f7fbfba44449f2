"""The released tokenizer: GPT-2's byte-level BPE with CodeGen's runs of blanks, ``[PAD]`` and ``[SEG]``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

END, PAD, SEG = "<|endoftext|>", "[PAD]", "[SEG]"


class BPETokenizer:
    """A byte-level BPE whose text is split as GPT-2 splits it.

    tokenizer: of the ``tokenizers`` package. Raises ValueError when it lacks one of the tokens that prompts name.
    """

    def __init__(self, tokenizer: Any, where: str = "tokenizer"):
        self.tokenizer = tokenizer
        ids = [tokenizer.token_to_id(token) for token in (SEG, END)]
        if None in ids:
            raise ValueError(f"{where} has no token {(SEG, END)[ids.index(None)]}: it is not PSALM's tokenizer")
        self.seg: int = ids[0]

    @classmethod
    def read(cls, path: Path) -> BPETokenizer:
        """A ``tokenizer.json``. Raises ValueError when it is missing or of another kind."""
        from tokenizers import Tokenizer

        if not path.is_file():
            raise ValueError(f"{path.parent}: not a complete model folder, {path.name} is missing")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises plain Exception
            raise ValueError(f"{path}: not a tokenizer file ({error})") from None
        return cls(tokenizer, str(path))

    @classmethod
    def learn(cls, texts: Iterable[str], size: int) -> BPETokenizer:
        """A vocabulary of at most ``size`` tokens made of texts, always the same of the same texts.

        Any text can be written in it: the 256 bytes are among its tokens.
        """
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel
        from tokenizers.trainers import BpeTrainer

        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        trainer = BpeTrainer(
            vocab_size=size,
            special_tokens=[END, PAD, SEG],
            initial_alphabet=ByteLevel.alphabet(),
            show_progress=False,
        )  # pyright: ignore[reportCallIssue]
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    @classmethod
    def of_released(cls, folder: Path) -> BPETokenizer:
        """The three files of the published folder: ``vocab.json``, ``merges.txt``, ``added_tokens.json``.

        Raises OSError when one is missing, ValueError when one is damaged or they do not fit together.
        """
        return cls(cls.of_files(folder), str(folder))

    @staticmethod
    def of_files(folder: Path) -> Any:
        """The same as ``tokenizers`` has it, which need not know PSALM's own tokens; Phi-1.5's folder for instance."""
        from tokenizers import AddedToken, Tokenizer
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        vocabulary, added = (_table(folder / name) for name in ("vocab.json", "added_tokens.json"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        try:
            tokenizer = Tokenizer(BPE(vocabulary, merges))  # pyright: ignore[reportArgumentType]
        except Exception as error:  # the package raises plain Exception
            raise ValueError(f"{folder}: vocab.json and merges.txt do not fit together ({error})") from None
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.add_special_tokens([AddedToken(END, special=True)])
        for token, number in sorted(added.items(), key=lambda item: item[1]):
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
            if tokenizer.token_to_id(token) != number:
                raise ValueError(
                    f"{folder / 'added_tokens.json'}: token {token!r} would get id {tokenizer.token_to_id(token)} "
                    f"instead of {number}; the files of the folder do not belong together"
                )
        return tokenizer

    def encode(self, text: str) -> list[int]:
        """Ids of a text, nothing added; ``[SEG]`` and ``<|endoftext|>`` in it are one token each."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def words(self) -> list[str]:
        """Whole words of the vocabulary, of three letters and more."""
        pieces = (token.removeprefix("\u0120") for token in self.tokenizer.get_vocab() if token.startswith("\u0120"))
        return sorted(word for word in pieces if len(word) >= 3 and word.isalpha())

    def text(self) -> str:
        """What ``tokenizer.json`` holds."""
        return self.tokenizer.to_str(pretty=True)

    def save(self, path: Path) -> None:
        """Write ``tokenizer.json``."""
        path.write_text(self.text(), encoding="utf-8")


def _table(path: Path) -> dict[str, int]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(table, dict) or not all(isinstance(number, int) for number in table.values()):
        raise ValueError(f"{path} is not a table of tokens and their ids")
    return table
