"""How fast are data sets converted? Samples a second of reading alone, of the whole ``data convert`` (read, write,
check every byte, image and mask), and, as the baseline of the same run, of putting the same images into a tar.

    python benchmarks/convert.py ../shared/data
"""

import argparse
import os
import tarfile
import tempfile
import time
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the project's folder of data sets: coco and davis are in it")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is shown")
    arguments = parser.parse_args()
    columns = f"{'read/s':>9}{'convert/s':>11}{'tar only/s':>12}{'tar/convert':>13}"
    print(f"{'data set':18}{'samples':>9}{'regions':>9}{columns}")
    with tempfile.TemporaryDirectory() as folder:
        for name, split, root in official_forms(arguments.data.resolve(), Path(folder)):
            print(row(name, split, root, Path(folder), arguments.repeats), flush=True)


def official_forms(data, folder):
    """Data sets of the folder as links in the form of public ones: COCO 2017 and Ref-YouTube-VOS."""
    coco, video = folder / "coco", folder / "ref_youtube_vos"
    (coco / "annotations").mkdir(parents=True)
    link(data / "coco/annotations/instances_train.json", coco / "annotations/instances_train2017.json")
    link(data / "coco/images", coco / "train2017")
    yield "coco_instances", "train", coco
    (video / "meta_expressions/train").mkdir(parents=True)
    link(data / "davis/train", video / "train")
    link(data / "davis/train/meta_expressions.json", video / "meta_expressions/train/meta_expressions.json")
    yield "ref_youtube_vos", "train", video


def link(target, path):
    os.symlink(target, path)


def row(name, split, root, folder, repeats):
    from anygrain.data.convert import convert
    from anygrain.data.datasets import read_dataset

    samples = list(read_dataset(name, root, split))
    reading = best(lambda: sum(1 for _ in read_dataset(name, root, split)), repeats)
    converting = best(lambda: convert(name, root, folder / "out" / name, split), repeats)
    plain = best(lambda: only_images(samples, folder / "plain.tar"), repeats)
    regions, count = sum(len(sample.regions) for sample in samples), len(samples)
    rates = [count / seconds for seconds in (reading, converting, plain)]
    return f"{name:18}{count:9}{regions:9}{rates[0]:9.0f}{rates[1]:11.0f}{rates[2]:12.0f}{rates[2] / rates[1]:12.1f}x"


def only_images(samples, path):
    with tarfile.open(path, "w") as tar:
        for number, sample in enumerate(samples):
            tar.add(sample.image, f"{number}.jpg")


def best(work, repeats):
    """Seconds of the fastest run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
