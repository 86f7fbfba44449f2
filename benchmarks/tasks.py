"""Evaluation throughput: images and prompts a second of three kinds of benchmark, and where the time goes.

Photographs of the project's data are linked into the official forms of ECSSD (1 prompt an image), Ref-YouTube-VOS
(some expressions a frame) and ADE20K-150 (150 prompts an image), and asked by the rules of those sets. Encoding alone,
in the same run, is the baseline that the ratio is taken to. The figures of quality would mean nothing here.

    python benchmarks/tasks.py ../shared/data --limit 8
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
    arguments = parser.parse_args()

    from anygrain import load
    from anygrain.data.datasets import read_dataset
    from anygrain.eval.label_map_rule import LabelMapRule
    from anygrain.eval.rules import SaliencyRule, VideoRule

    segmenter = load(arguments.model)
    columns = "".join(
        f"{name:>10}" for name in ("images/s", "prompts/s", "read", "encode", "answer", "count", "vs encode")
    )
    print(f"{'form of':18}{columns}")
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data.resolve()
        for name, split, rule, make in (
            ("ecssd", "test", SaliencyRule(), ecssd),
            ("ref_youtube_vos", "train", VideoRule(), ref_youtube_vos),
            ("ade20k_150", "val", LabelMapRule(), ade20k),
        ):
            make(data, Path(folder) / name, arguments.limit)
            samples = islice(read_dataset(name, Path(folder) / name, split), arguments.limit)
            print(f"{name:18}{row(segmenter, rule, samples)}", flush=True)
    print("\nCPU milliseconds a prompt, by where they go: what is not the network could be saved at the most")
    photo = next((arguments.data / "camvid" / "images").iterdir())
    for size in ((384, 288), (683, 512), (2048, 1024)):
        print(f"{size[0]:5} x {size[1]:4}  {inside(segmenter, photo, size)}", flush=True)


def row(segmenter, rule, samples):
    """The first sample warms up and is not timed."""
    from anygrain.data.labels import open_photo
    from anygrain.eval.rules import answers

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
        rule.count(sample, rule.record(sample, timed(answers(segmenter, embedding, texts), clock)))
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
