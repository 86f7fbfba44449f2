"""Is the loader ever the limit of training? Photographs a second that it prepares, alone in this process and by one
worker process, against those that a training step of ``unilseg_nano`` takes, all in one run, and the ratio of the two.
The same for pictures made by mosaic and by copy and paste, and the seconds that a step waits when both run together.

    python benchmarks/loader.py data_cache/nano/train
    python benchmarks/loader.py data_cache/nano/train --steps 20 --mosaic 0.3 --copy-paste 0.2
"""

import argparse
import tempfile
import time
from dataclasses import replace


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of shard folders, one a source")
    parser.add_argument("--steps", type=int, default=12, help="batches that each figure is a mean over")
    parser.add_argument("--mosaic", type=float, default=1.0, help="probability in the rows that use it")
    parser.add_argument("--copy-paste", type=float, default=1.0)
    arguments = parser.parse_args()

    from anygrain.data.loader import open_sources
    from anygrain.recipes import unilseg_nano
    from anygrain.train.trainer import Trainer

    config = unilseg_nano.config(arguments.data)
    sources = open_sources(config.data)
    rows = {
        "as the recipe says": config.batch,
        "plain photographs": replace(config.batch, mosaic=0.0, copy_paste=0.0),
        f"mosaic {arguments.mosaic:g}": replace(config.batch, mosaic=arguments.mosaic, copy_paste=0.0),
        f"copy-paste {arguments.copy_paste:g}": replace(config.batch, mosaic=0.0, copy_paste=arguments.copy_paste),
    }
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(replace(config, steps=10**6), unilseg_nano.build(config), folder, sources=sources)
        step, cpu = time_step(trainer, arguments.steps)
        wait, together = wait_of(trainer, arguments.steps)
        print(f"training step: {step:.1f} photographs/s, {1e3 * cpu:.0f} CPU ms each; with a worker {together:.1f}/s")
        print(f"a step of {config.batch_images} photographs then waits {1e3 * wait:.0f} ms for its batch\n")
        print(f"{'photographs a second':24}{'in process':>12}{'1 worker':>12}{'worker/step':>13}{'CPU ms each':>13}")
        for name, batch in rows.items():
            trainer.dataset.batch = replace(batch, mean=config.model.mean, std=config.model.std)
            alone, cpu = time_loader(trainer.dataset, arguments.steps, workers=0)
            worker, _ = time_loader(trainer.dataset, arguments.steps, workers=1)
            print(f"{name:24}{alone:12.1f}{worker:12.1f}{worker / step:12.1f}x{1e3 * cpu:13.1f}", flush=True)


def time_step(trainer, steps):
    """Photographs a second of the step alone, on batches that are ready, and seconds of CPU a photograph."""
    ready = [trainer.dataset[number] for number in range(3)]
    trainer._step(1, ready[0])
    start, cpu, images = time.perf_counter(), time.process_time(), steps * trainer.config.batch_images
    for number in range(steps):
        trainer._step(number + 2, ready[number % len(ready)])
    return images / (time.perf_counter() - start), (time.process_time() - cpu) / images


def wait_of(trainer, steps):
    """Seconds that a step waits for its batch from one worker, and photographs a second of both together."""
    from anygrain.data.loader import batches

    stream, waited = batches(trainer.dataset, 0, steps + 2, workers=1), 0.0
    for number in range(2):  # the worker starts
        trainer._step(number + 1, next(stream))
    start = time.perf_counter()
    for number in range(2, steps + 2):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        trainer._step(number + 1, batch)
    return waited / steps, steps * trainer.config.batch_images / (time.perf_counter() - start)


def time_loader(dataset, steps, *, workers):
    """Photographs a second, and seconds of this process's CPU a photograph."""
    from anygrain.data.loader import batches

    warm = 4 if workers else 1  # the worker starts, and what it makes ahead of time is taken away
    stream = batches(dataset, 0, steps + warm, workers=workers)
    for _ in range(warm):
        next(stream)
    start, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        next(stream)
    images = steps * dataset.images
    return images / (time.perf_counter() - start), (time.process_time() - cpu) / images


if __name__ == "__main__":
    main()
