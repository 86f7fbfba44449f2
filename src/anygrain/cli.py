"""Which command is meant. Each lives in a file of ``anygrain.commands``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anygrain.commands import annotate, calibrate, convert, data, evaluate, everything, experiment, segment, train

COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "segment": segment.segment,
    "everything": everything.everything,
    "convert unilseg": convert.unilseg,
    "convert semantic-sam": convert.semantic_sam,
    "convert psalm": convert.psalm,
    "convert ram": convert.ram,
    "convert average": convert.average,
    "data build": data.build_shards,
    "data convert": data.convert_dataset,
    "data verify": data.verify_shards,
    "data ledger": data.ledger,
    "data show": data.show_shards,
    "annotate report": annotate.report,
    "annotate check": annotate.check,
    "annotate": annotate.annotate,
    "train": train.train,
    "evaluate": evaluate.evaluate,
    "calibrate-levels": calibrate.calibrate_levels,
    "calibrate-presence": calibrate.calibrate_presence,
    "experiment": experiment.experiment,
}


def run(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments``, at least one, begin with; returns the exit status.

    Raises ValueError for no such command.
    """
    for words in (2, 1):
        if command := COMMANDS.get(" ".join(arguments[:words])):
            return command(arguments[words:])
    parts = [name.split()[1] for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    if parts:
        raise ValueError(f"`anygrain {arguments[0]}` is followed by {' or '.join(parts)}: see `anygrain --help`")
    raise ValueError(f"there is no command '{arguments[0]}'; the commands are {', '.join(COMMANDS)}")
