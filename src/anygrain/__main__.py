"""The command line: ``anygrain COMMAND ...``. Until a command is named, nothing is imported that takes time."""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from anygrain import __version__

USAGE = """\
usage: anygrain COMMAND [OPTIONS]

Segment images and video by saying what you want, at any granularity.

commands:
  segment               find what phrases mean, or what clicks are on, in photos, videos or a file of requests
  everything            find everything in photos, at any granularity, from a grid of clicks
  convert unilseg       turn an official UniLSeg checkpoint into a model folder
  convert semantic-sam  the same for Semantic-SAM
  convert psalm         the same for PSALM's released folder
  convert ram           turn the official RAM checkpoint, a tagger, into a model folder
  convert average       make one model of several
  data build            turn downloaded data sets into shards
  data convert          turn a public data set (RefCOCO, ADE20K, DAVIS ...) into shards
  data verify           check shards, byte by byte and mask by mask
  data ledger           record in a model folder which images it was trained on
  data show             draw random samples of shards on one page
  annotate              turn photos with boxes, masks or nothing into shards to train on
  annotate report       show what annotating has made
  annotate check        compare annotations with true ones
  train                 train a model by a recipe
  evaluate              measure a model on shards
  calibrate-levels      order the masks of a click from large to small, for a retrained Semantic-SAM
  calibrate-presence    find how sure a PSALM must be that a phrase means something, from labelled phrases
  experiment            train and tabulate what the paper compares: fig5, fig6, table8

  -h, --help            show this help, or that of a command
  --version             show the version

examples:
  anygrain segment street.jpg -t "all people" -t "the sky"
  anygrain segment photos/ -t "the red car on the left" --out results
  anygrain segment --requests requests.jsonl --out results.jsonl
  anygrain segment --help
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 parts failed, 2 it could not be done, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"anygrain {__version__}")
        return 0
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a phrase may hold letters that the terminal lacks
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=UserWarning, module="anygrain")
            warnings.showwarning = _show_warning
            return _run(arguments)
    except KeyboardInterrupt:
        print("\nanygrain: interrupted; results that were finished are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `anygrain ... | head`: nobody reads on, and Python must not try to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ImportError) as error:
        if not _meant_for_the_user(error):
            raise
        print(f"anygrain: error: {_sentence(error)}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    from anygrain import cli

    return cli.run(arguments)


def _meant_for_the_user(error: Exception) -> bool:
    """Whether the error speaks of the input: the system's own errors, and what a ``raise`` in anygrain says.

    Any other, for instance of numpy about shapes, is a mistake of ours, and its traceback must be seen.
    """
    if isinstance(error, OSError):
        return True
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(__file__).parent in Path(last.filename).parents
    return ours and (last.line or "").startswith("raise")


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split())


def _show_warning(message: Warning | str, *_where: object) -> None:
    print(f"anygrain: warning: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
