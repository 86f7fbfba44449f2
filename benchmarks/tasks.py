"""Evaluation throughput: images and prompts a second of three kinds of benchmark, and where the time goes.

Photographs of the project's data are linked into the official forms of ECSSD (1 prompt an image), Ref-YouTube-VOS
(some expressions a frame) and ADE20K-150 (150 prompts an image), and asked by the rules of those sets. Encoding alone,
in the same run, is the baseline that the ratio is taken to. The figures of quality would mean nothing here.

Then label maps of ADE20K's 150 names on one photograph at three sizes: by probability maps in the photograph's size,
one after another, as it was done before, and by `Segmenter.label_maps`, which enlarges a mask only where it can win.

    python benchmarks/tasks.py ../shared/data --limit 8
    python benchmarks/tasks.py ../shared/data --only maps
"""

import argparse
import io
import json
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the project's folder of data sets: pets, davis and camvid are in it")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--limit", type=int, default=8, help="images of each")
    parser.add_argument("--only", choices=("sets", "parts", "maps"), help="one of the three tables")
    arguments = parser.parse_args()

    from anygrain import load

    segmenter = load(arguments.model)
    photo = next((arguments.data / "camvid" / "images").iterdir())
    if arguments.only in (None, "sets"):
        sets(segmenter, arguments.data.resolve(), arguments.limit)
    if arguments.only in (None, "parts"):
        print("\nCPU milliseconds a prompt, by where they go: what is not the network could be saved at the most")
        for size in SIZES:
            print(f"{size[0]:5} x {size[1]:4}  {inside(segmenter, photo, size)}", flush=True)
    if arguments.only in (None, "maps"):
        print("\nCPU seconds of a label map of ADE20K's 150 names, and what is not the network")
        columns = "".join(
            f"{name:>9}" for name in ("before", "now", "ratio", "network", "before", "now", "ratio", "pixels")
        )
        print(f"{'photo':14}{columns} that differ")
        for size in SIZES:
            print(f"{size[0]:5} x {size[1]:4}  {maps(segmenter, photo, size)}", flush=True)


SIZES = ((384, 288), (683, 512), (2048, 1024))


def sets(segmenter, data, limit):
    """Throughput on the forms of three sets."""
    from anygrain.data.datasets import read_dataset
    from anygrain.eval.label_map_rule import LabelMapRule
    from anygrain.eval.rules import SaliencyRule, VideoRule

    columns = "".join(
        f"{name:>10}" for name in ("images/s", "prompts/s", "read", "encode", "answer", "count", "vs encode")
    )
    print(f"{'form of':18}{columns}")
    with tempfile.TemporaryDirectory() as folder:
        for name, split, rule, make in (
            ("ecssd", "test", SaliencyRule(), ecssd),
            ("ref_youtube_vos", "train", VideoRule(), ref_youtube_vos),
            ("ade20k_150", "val", LabelMapRule(), ade20k),
        ):
            make(data, Path(folder) / name, limit)
            samples = islice(read_dataset(name, Path(folder) / name, split), limit)
            print(f"{name:18}{row(segmenter, rule, samples)}", flush=True)


def maps(segmenter, photo, size, repeats=3):
    """The network answers once, and what it said is joined by both ways: its time would hide theirs."""
    from anygrain.categories import categories
    from anygrain.data.language import all_category
    from anygrain.eval.rules import answers

    texts = [all_category(name) for name in categories("ade20k").names]
    with Image.open(photo) as image:
        (embedding,) = segmenter.embed([image.convert("RGB").resize(size)])
    network = Recorded(segmenter.model.decode)
    segmenter.model.decode = network
    try:
        segmenter.label_maps(embedding, texts)
        network.replay = True
        seconds, found = [], []
        for join in (
            lambda: before_maps(answers(segmenter, embedding, texts), size),
            lambda: segmenter.label_maps(embedding, texts),
        ):
            times = []
            for _ in range(repeats):
                start = time.process_time()
                result = join()
                times.append(time.process_time() - start)
            seconds.append(min(times))
            found.append(result)
    finally:
        del segmenter.model.decode
    differ = max(float(np.mean(found[0][way] != found[1][way])) for way in (0, 1))
    whole = [network.seconds + part for part in seconds]
    figures = [network.seconds, *seconds, seconds[0] / seconds[1], *whole, whole[0] / whole[1]]
    return "".join(f"{figure:9.2f}" for figure in figures) + f"{100 * differ:8.4f}%"


class Recorded:
    """A network that repeats what it said, in the same order."""

    def __init__(self, decode):
        self.decode, self.said, self.place, self.replay, self.seconds = decode, [], 0, False, 0.0

    def __call__(self, *arguments):
        if self.replay:
            self.place = self.place % len(self.said) + 1
            return self.said[self.place - 1]
        start = time.process_time()
        self.said.append(self.decode(*arguments))
        self.seconds += time.process_time() - start
        return self.said[-1]


def before_maps(answers, size):
    """Every mask and probability map in the photograph's size, compared one after another, all and those present."""
    best = np.full((2, size[1], size[0]), -1.0, np.float32)
    index = np.full(best.shape, -1, np.int32)
    for number, answer in enumerate(answers):
        probability = answer.probability()
        for way in (0, 1):
            if way == 0 or answer.present:
                higher = probability > best[way]
                best[way][higher], index[way][higher] = probability[higher], number
    return index


def row(segmenter, rule, samples):
    """The first sample warms up and is not timed."""
    from anygrain.data.labels import open_photo
    from anygrain.eval.rules import PromptRule, answers

    seconds, images, prompts = dict.fromkeys(("read", "encode", "answer", "count"), 0.0), 0, 0
    clock = Clock(seconds)
    for number, sample in enumerate(samples):
        if number == 1:
            seconds.update(dict.fromkeys(seconds, 0.0))
            images = prompts = 0
            clock.last = time.perf_counter()
        photo, texts = open_photo(sample), rule.ask(sample)
        clock.add("read")
        (embedding,) = segmenter.embed([photo])
        clock.add("encode")
        if isinstance(rule, PromptRule):
            records = rule.answer(sample, segmenter, embedding)
            clock.add("answer")
        else:
            records = rule.record(sample, timed(answers(segmenter, embedding, texts), clock))
        rule.count(sample, records)
        clock.add("count")
        images, prompts = images + 1, prompts + len(texts)
    total = sum(seconds.values())
    shares = "".join(f"{100 * part / total:9.0f}%" for part in seconds.values())
    return f"{images / total:10.2f}{prompts / total:10.1f}{shares}{total / seconds['encode']:9.1f}x"


def inside(segmenter, photo, size, prompts=7, repeats=3):
    """Time of the processor: other work on the machine counts less."""
    import torch

    model = segmenter.model
    with Image.open(photo) as image:
        (embedding,) = segmenter.embed([image.convert("RGB").resize(size)])
    text = model.encode_text([f"all thing number {number}" for number in range(prompts)])
    index = torch.zeros(prompts, dtype=torch.long)
    with torch.inference_mode():
        logits = model.decode(embedding.features, text, index).mask_logits
        steps = {
            "text": lambda: model.encode_text([f"all thing number {number}" for number in range(prompts)]),
            "network": lambda: model.decode(embedding.features, text, index),
            "mask": lambda: [model.masks(row[None], embedding.resize, 0.5) for row in logits],
            "probability": lambda: [model.probabilities(row[None], embedding.resize) for row in logits],
        }
        parts = []
        for name, step in steps.items():
            start = time.process_time()
            for _ in range(repeats):
                step()
            parts.append(f"{name} {1000 * (time.process_time() - start) / repeats / prompts:.2f}")
    return ", ".join(parts)


class Clock:
    def __init__(self, seconds):
        self.seconds, self.last = seconds, time.perf_counter()

    def add(self, name):
        now = time.perf_counter()
        self.seconds[name] += now - self.last
        self.last = now


def timed(answers, clock):
    """Answers, their making counted as "answer" and what is done with them as "count"."""
    while True:
        clock.add("count")
        answer = next(answers, None)
        clock.add("answer")
        if answer is None:
            return
        yield answer


def png(index):
    out = io.BytesIO()
    Image.fromarray(index.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def ecssd(data, folder, limit):
    (folder / "images").mkdir(parents=True)
    (folder / "ground_truth_mask").mkdir()
    for path in sorted((data / "pets" / "masks").iterdir())[:limit]:
        os.symlink(data / "pets" / "images" / f"{path.stem}.jpg", folder / "images" / f"{path.stem}.jpg")
        trimap = np.asarray(Image.open(path))
        (folder / "ground_truth_mask" / path.name).write_bytes(png(255 * (trimap == 1)))


def ref_youtube_vos(data, folder, _):
    meta = folder / "meta_expressions" / "train"
    meta.mkdir(parents=True)
    os.symlink(data / "davis" / "train", folder / "train")
    os.symlink(data / "davis" / "train" / "meta_expressions.json", meta / "meta_expressions.json")


def ade20k(data, folder, limit):
    names = json.loads((data / "camvid" / "classes.json").read_text())
    fill = [*names[1:], *(f"thing number {n}" for n in range(150))][:150]
    lines = [f"{n}\t0\t0\t0\t{name}" for n, name in enumerate(fill, start=1)]
    for kind in ("images", "annotations"):
        (folder / kind / "validation").mkdir(parents=True)
    (folder / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tName\n" + "\n".join(lines))
    for path in sorted((data / "camvid" / "masks").iterdir())[:limit]:
        (image,) = (data / "camvid" / "images").glob(f"{path.stem}.*")
        os.symlink(image, folder / "images" / "validation" / image.name)
        index = np.asarray(Image.open(path)).copy()
        index[index > 149] = 0
        (folder / "annotations" / "validation" / path.name).write_bytes(png(index))


if __name__ == "__main__":
    main()
