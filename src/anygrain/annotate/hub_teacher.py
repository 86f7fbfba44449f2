"""Teachers from the Hugging Face Hub or from a folder: their version, and one clear sentence when there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from anygrain.files import sha256

INSTEAD = "or take the small teachers, which need no download"


@dataclass(frozen=True, kw_only=True)
class HubTeacher:
    """Settings that every teacher of ``transformers`` has.

    model: "org/repo" on the Hub, or a folder in the same form.
    revision: branch, tag or commit on the Hub.
    """

    model: str
    revision: str = "main"
    sizes: ClassVar[Mapping[str, str]] = {}

    @property
    def name(self) -> str:
        """The last part of ``model``."""
        return Path(self.model).name

    @property
    def size(self) -> str:
        """What its first use downloads."""
        if Path(self.model).is_dir():
            return "a folder here"
        return f"{self.sizes.get(self.model, 'of unknown size')} from the Hub"

    def version(self) -> str:
        """First 8 hex digits of the Hub's commit, or of the SHA-256 of a folder's files. Fetches a file of some KB."""
        return _hash(self.model) if Path(self.model).is_dir() else self._commit()[:8]

    def read(self, cls: Any, **options: Any) -> Any:
        """``cls.from_pretrained`` of exactly this version. Raises ValueError with one sentence."""
        where = {} if Path(self.model).is_dir() else {"revision": self._commit()}
        try:
            return cls.from_pretrained(self.model, **where, **options)
        except (OSError, ValueError) as error:
            raise self.missing(error) from None

    def missing(self, reason: object) -> ValueError:
        """The sentence that names the teacher, its size, and what can be done."""
        said = str(reason).strip().split("\n")[0].rstrip(".")
        return ValueError(
            f"the teacher {self.name} ({self.model}, {self.size}) could not be loaded ({said}): give a folder that "
            f"holds it, let this machine reach the Hub once, {INSTEAD}"
        )

    def transformers(self) -> Any:
        """The package. Raises ValueError that names the extra."""
        try:
            import transformers
        except ImportError:
            raise ValueError(
                f"the teacher {self.name} needs the package transformers: pip install 'anygrain[annotate]', {INSTEAD}"
            ) from None
        return transformers

    def _commit(self) -> str:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            return _commit_of(self.model, self.revision)
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise self.missing(error) from None


@lru_cache(maxsize=64)
def _commit_of(repo: str, revision: str) -> str:
    """The commit that a revision means, by the folder that the cache keeps its files in."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(repo, "config.json", revision=revision)).parent.name


@lru_cache(maxsize=64)
def _hash(folder: str) -> str:
    files = sorted(path for path in Path(folder).iterdir() if path.is_file())
    listing = "".join(f"{sha256(path)} {path.name}\n" for path in files)  # what a file is called counts too
    return hashlib.sha256(listing.encode()).hexdigest()[:8]
