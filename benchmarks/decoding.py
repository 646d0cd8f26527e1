"""How fast folders of photographs are read: Lamina's threads beside torch's DataLoader with worker processes, and Pillow alone.

    python benchmarks/decoding.py [--rounds 5] [--size 64 224] [--data DIR] [--output FILE]

Work: every image of a folder once, decoded, fitted to one size (the short side scaled bilinearly, the middle cut out), as
uint8 batches of 32. On the sports photographs (longest side 256) and on 2,000 CIFAR-10 JPEGs, unpacked to a temporary
folder. Contenders take turns within a round, after one round that is not counted; figures are medians, ratios are those to
the DataLoader within a round. Workers are kept alive between rounds, so that starting them costs the DataLoader nothing.
Processor time is that of all threads and workers; on a busy machine its ratio says more than that of the clock.

`--draft` measures what decoding JPEG at a reduced scale costs in exactness, at sizes for which it happens with these
photographs (32, 64): the mean and largest difference, in steps of 0 to 255, from decoding in full, for several margins;
beside it the change that saving the photograph once more as JPEG (quality 90) makes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from lamina.data.batching import IndexFeed
from lamina.data.config import DataConfig
from lamina.data.readers import images as images_module
from lamina.data.readers.fitting import Fitting
from lamina.data.readers.image_folder import ImageFolderReader
from lamina.data.readers.images import decode_image
from lamina.data.readers.sources import Source

HERE = Path(__file__).resolve().parent
BATCH = 32
PEER = "DataLoader, 2 workers, Pillow"


class Folder(Dataset[torch.Tensor]):
    """Image files as a map-style dataset, as people write it."""

    def __init__(self, files: list[Path], size: int, *, draft: bool = False) -> None:
        self.files, self.size, self.draft = files, size, draft

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.files[row]) as image:
            if self.draft:
                image.draft("RGB", (2 * self.size, 2 * self.size))
            image = image.convert("RGB")
            scale = self.size / min(image.size)
            width, height = round(image.width * scale), round(image.height * scale)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            left, top = (width - self.size) // 2, (height - self.size) // 2
            image = image.crop((left, top, left + self.size, top + self.size))
            return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def loader(files: list[Path], size: int, *, workers: int, draft: bool = False) -> Callable[[], int]:
    batches = DataLoader(Folder(files, size, draft=draft), BATCH, num_workers=workers, persistent_workers=workers > 0)

    def run() -> int:
        return sum(len(batch) for batch in batches)

    return run


def in_memory(folder: Path, size: int) -> Callable[[], int]:
    """The whole of reading: listing, headers, decoding into one tensor."""
    config = DataConfig(shape=(size, size))

    def run() -> int:
        data = ImageFolderReader().read(Source(folder), config)
        return sum(columns.num_rows for columns in data.splits.values())

    return run


def ahead(folder: Path, size: int) -> Callable[[], int]:
    """One epoch of batches of images that stay in their files."""
    config = DataConfig(shape=(size, size), max_memory_mb=1)
    data = ImageFolderReader().read(Source(folder), config)
    feeds = [IndexFeed(columns, batch_size=BATCH, seed=0) for columns in data.splits.values()]
    if any(columns.in_memory for columns in data.splits.values()):
        raise SystemExit("the folder is too small to be decoded ahead")

    def run() -> int:
        return sum(len(feed.batch(0, number)["row"]) for feed in feeds for number in range(len(feed)))

    return run


def processor_seconds() -> float:
    """Processor time of this process and of its workers, so far."""
    total = time.process_time()
    tick = os.sysconf("SC_CLK_TCK")
    for children in Path("/proc/self/task").glob("*/children"):
        for number in children.read_text().split():
            fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / tick
    return total


def compare(folder: Path, size: int, *, rounds: int) -> list[dict[str, Any]]:
    """Images per second of every contender, in turns."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contenders = {
        PEER: loader(files, size, workers=2),
        f"{PEER}, reduced JPEG decoding": loader(files, size, workers=2, draft=True),
        "Pillow, no workers": loader(files, size, workers=0),
        "Lamina, into memory": in_memory(folder, size),
        "Lamina, decoded ahead": ahead(folder, size),
    }
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    costs: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            begin, spent = time.perf_counter(), processor_seconds()
            count = work()
            if number:
                speeds[name].append(count / (time.perf_counter() - begin))
                costs[name].append((processor_seconds() - spent) / count)
    return [
        {
            "folder": folder.name,
            "images": len(files),
            "size": size,
            "tool": name,
            "images_per_s": round(statistics.median(found)),
            "ratio": round(statistics.median(a / b for a, b in zip(found, speeds[PEER], strict=True)), 2),
            "processor_us_per_image": round(statistics.median(costs[name]) * 1e6),
            "processor_ratio": round(
                statistics.median(b / a for a, b in zip(costs[name], costs[PEER], strict=True)), 2
            ),
        }
        for name, found in speeds.items()
    ]


def draft_margins(folder: Path, size: int) -> list[dict[str, Any]]:
    """Differences from decoding in full, and the speed of one thread, for several margins."""
    files = [file for file in Source(folder).files if file.ending in (".jpg", ".jpeg")]
    fitting = Fitting(size, size)
    rows = []
    usual = images_module._DRAFT_MARGIN
    exact: list[np.ndarray] = []
    try:
        for margin in (1e9, 4.0, 3.0, 2.0, 1.5, 1.0):
            images_module._DRAFT_MARGIN = margin  # type: ignore[misc]
            begin = time.perf_counter()
            found = [decode_image(file, channels=3, fitting=fitting) for file in files]
            seconds = time.perf_counter() - begin
            exact = exact or found
            rows.append(_difference(f"margin {margin:g}" if margin < 1e9 else "in full", size, found, exact))
            rows[-1]["images_per_s"] = round(len(files) / seconds)
    finally:
        images_module._DRAFT_MARGIN = usual  # type: ignore[misc]
    rows.append(_difference("saved once more, quality 90", size, list(_saved_again(folder, fitting)), exact))
    return rows


def _saved_again(folder: Path, fitting: Fitting) -> Iterator[np.ndarray]:
    for file in Source(folder).files:
        if file.ending in (".jpg", ".jpeg"):
            stream = io.BytesIO()
            with Image.open(io.BytesIO(file.read())) as image:
                image.convert("RGB").save(stream, "JPEG", quality=90)
            with Image.open(stream) as again:
                yield images_module.fit_image(again, channels=3, fitting=fitting)


def _difference(name: str, size: int, found: list[np.ndarray], exact: list[np.ndarray]) -> dict[str, Any]:
    errors = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(found, exact, strict=True)]
    return {
        "decoding": name,
        "size": size,
        "mean_difference": round(float(np.mean([error.mean() for error in errors])), 3),
        "largest_difference": int(max(error.max() for error in errors)),
    }


def cifar(root: Path, to: Path, *, most: int = 2000) -> Path:
    """The validation JPEGs of CIFAR-10, unpacked."""
    folder = to / "cifar10"
    with tarfile.open(root / "cifar10_jpg" / "val_2k.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.isfile()][:most]
        archive.extractall(folder, members, filter="data")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs="*", default=[64, 224])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "decoding.json")
    parser.add_argument("--draft", action="store_true", help="also measure what reduced decoding changes")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = [(options.data / "sports", size) for size in options.size]
        work.append((cifar(options.data, Path(folder)), 32))
        for path, size in work:
            rows += compare(path, size, rounds=options.rounds)
            for row in rows[-5:]:
                print(
                    f"{row['folder']:>8} {row['size']:>4}  {row['tool']:<56} {row['images_per_s']:>7,}/s"
                    f"  {row['ratio']:.2f}  {row['processor_us_per_image']:>6,} us  {row['processor_ratio']:.2f}",
                    flush=True,
                )
    document: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "rows": rows,
    }
    if options.draft:
        document["draft"] = [row for size in (32, 64) for row in draft_margins(options.data / "sports", size)]
        for row in document["draft"]:
            print(row)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
