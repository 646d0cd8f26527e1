"""Bad files of data."""

from __future__ import annotations

import gzip
import os
import pickle
from typing import Final

import numpy as np

from e2e.bad_input_case import Cases, Ground, flowers, idx, npz, photos, pixel_csv, png, tarred, unpack, zipped

_IMAGES: Final = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4)
_LABELS: Final = np.array([0, 1, 2, 0, 1, 2], np.uint8)


def _pair(ground: Ground, images: bytes, labels: bytes, *words: str) -> list[str]:
    ground.write("m/train-images-idx3-ubyte", images)
    ground.write("m/train-labels-idx1-ubyte", labels)
    return ["data", "m", *words]


def _cifar(ground: Ground, content: bytes) -> list[str]:
    ground.write("cifar-10-batches-bin/data_batch_1.bin", content)
    return ["data", "cifar-10-batches-bin"]


def _cifar_python(ground: Ground, content: bytes) -> list[str]:
    ground.write("cifar-10-batches-py/data_batch_1", content)
    return ["data", "cifar-10-batches-py"]


def _photos(ground: Ground, *names: str) -> list[str]:
    unpack(ground.folder / "photos", photos(*names))
    return ["train", "mnist-mlp", "--data", "photos"]


class Malice:
    """Unpickling it would make a folder."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("broken-in",)


def _cifar_rows(label: int) -> bytes:
    return b"".join(bytes([1 if row < 9 else label]) + bytes(3072) for row in range(10))


CASES: Final[Cases] = {
    "pixel CSV": {
        "a pixel above 255": (
            lambda g: g.data("a.csv", pixel_csv(r4c2="300")),
            "the pixel is above 255 | a.csv, row 4, column 'pixel1', value '300' | correct the file, or leave such rows out",
        ),
        "a pixel that is a word": (
            lambda g: g.data("a.csv", pixel_csv(r4c2="dark")),
            "the pixel is not a number | a.csv, row 4, column 'pixel1', value 'dark' | correct the file, or leave such rows out",
        ),
        "a pixel that is NaN": (
            lambda g: g.data("a.csv", pixel_csv(r4c2="nan")),
            "the pixel is not finite | a.csv, row 4, column 'pixel1', value 'nan' | correct the file, or leave such rows out",
        ),
        "a missing pixel": (
            lambda g: g.data("a.csv", pixel_csv(r5c3="")),
            "the pixel is missing | a.csv, row 5, column 'pixel2', value '' | correct the file, or leave such rows out",
        ),
        "a row that is too long": (
            lambda g: g.data("a.csv", pixel_csv(r5c4="1,2")),
            "it has 18 columns, not 17 | a.csv, row 5, value '1,21,22,23,1,2 | correct the file, or leave such rows out",
        ),
        "a negative pixel at training": (
            lambda g: ["train", "mnist-mlp", "--data", g.write("a.csv", pixel_csv(r3c1="-5"))],
            "The pixel is below 0 (it is '-5') | a.csv, row 3, column 'pixel0' | a.csv` lists them all",
        ),
        "pixels that make no square": (
            lambda g: g.data("a.csv", pixel_csv(pixels=17)),
            "17 values per row make no square of grey | a.csv | say data.shape=[1,17] (channels",
        ),
        "a shape that does not fit": (
            lambda g: g.data("a.csv", pixel_csv(), "data.shape=[3,3]"),
            "data.shape=[3, 3] has 9 values, but a row has | a.csv | use data.shape=[4,4]",
        ),
        "a label column that is not there": (
            lambda g: g.data("a.csv", pixel_csv(), "data.label=labl"),
            "There is no column called 'labl' | data.label, header of a.csv | did you mean 'label'?",
        ),
        "a header without rows": (
            lambda g: g.data("a.csv", pixel_csv(0)),
            "There are no rows that can be used | a.csv | check the file, or whether data.label",
        ),
        "a gzip cut off": (
            lambda g: g.data("a.csv.gz", gzip.compress(pixel_csv(200).encode())[:-40]),
            "The gzip data is damaged after 0 unpacked | a.csv.gz | download or copy the file again",
        ),
        "rows without labels at training": (
            lambda g: [
                "train",
                "mnist-mlp",
                "--data",
                g.write("a.csv", "\n".join(line.split(",", 1)[1] for line in pixel_csv().splitlines())),
            ],
            "The data has no classes | column 'label' | name the column of the labels with data.label=…",
        ),
    },
    "IDX": {
        "images cut off": (
            lambda g: _pair(g, idx(_IMAGES)[:-5], idx(_LABELS)),
            "The header promises 6 x 4 x 4 elements of 1 | m/train-images-idx3-ubyte | download or copy the file again",
        ),
        "fewer labels than images": (
            lambda g: _pair(g, idx(_IMAGES), idx(_LABELS[:4])),
            "There are 6 images but 4 labels | m/train-images-idx3-ubyte and m/train-labels-idx1-ubyte | put the pair together that belongs together",
        ),
        "an element type that is none": (
            lambda g: _pair(g, b"\0\0\x77" + idx(_IMAGES)[3:], idx(_LABELS)),
            "There are labels but no images | m | download or copy the file again",
        ),
        "no IDX file at all": (
            lambda g: _pair(g, b"hello world, hello", idx(_LABELS)),
            "There are labels but no images | m | download or copy the file again",
        ),
        "a header that promises too much": (
            lambda g: _pair(g, b"\0\0\x08\x03" + b"\xff" * 12 + bytes(64), idx(_LABELS)),
            "The header promises 4294967295 x 4294967295 x | m/train-images-idx3-ubyte | download or copy the file again",
        ),
    },
    "image folder": {
        "a picture that is none": (
            lambda g: _photos(g, "cat/9.png"),
            "The file is no image | photos/cat/9.png | photos` lists them all",
        ),
        "a picture cut off": (
            lambda g: (unpack(g.folder / "photos", {**photos(), "horse/9.png": png(64)[:60]}), ["data", "photos"])[1],
            "The image is damaged: image file is truncated | photos/horse/9.png | correct the file, or leave such rows out",
        ),
        "a folder of nothing": (
            lambda g: (g.folder.joinpath("photos", "cat").mkdir(parents=True), ["data", "photos"])[1],
            "The folder holds no files, or only empty ones | photos | check the path, or whether a download was",
        ),
        "one class alone": (
            lambda g: (
                unpack(g.folder / "photos", {f"cat/{n}.png": png(value=n) for n in range(6)}),
                ["train", "mnist-mlp", "--data", "photos"],
            )[1],
            "The data has only the class 'cat' | labels of the images | the images of each class into a folder of its own",
        ),
    },
    "image archive": {
        "a zip that is none": (
            lambda g: g.data("photos.zip", b"PK\x03\x04 and nothing more"),
            "The zip archive is damaged | photos.zip | download or copy the archive again",
        ),
        "a zip that climbs out": (
            lambda g: g.data("photos.zip", zipped({**photos(), "../evil.png": png()})),
            "The member '../evil.png' leads out of the | photos.zip | pack the archive again without it",
        ),
        "a zip with a member twice": (
            lambda g: g.data("photos.zip", zipped({**photos(), "cat/0.PNG": png(), "./cat/0.png": png()})),
            "The member 'cat/0.png' stands twice | photos.zip | pack the archive again",
        ),
        "a damaged picture in a zip": (
            lambda g: g.data("photos.zip", zipped(photos("horse/9.png"))),
            "The file is no image | photos.zip:horse/9.png | correct the file, or leave such rows out",
        ),
        "a tar.gz cut off": (
            lambda g: g.data("photos.tar.gz", tarred(photos())[:-30]),
            "The gzip data is damaged after 0 unpacked | photos.tar.gz | download or copy the file again",
        ),
        "a tar that climbs out": (
            lambda g: g.data("photos.tar.gz", tarred({**photos(), "/etc/evil.png": png()})),
            "The member '/etc/evil.png' is an absolute path | photos.tar.gz | pack the archive again without it",
        ),
    },
    "CIFAR": {
        "a file that is no whole rows": (
            lambda g: [*_cifar(g, _cifar_rows(3)[:-7]), "data.reader=cifar"],
            "The file has 30723 bytes | cifar-10-batches-bin/data_batch_1.bin | download or copy the file again",
        ),
        "a label outside the classes": (
            lambda g: _cifar(g, _cifar_rows(200)),
            "The label 200 is outside the 10 classes | cifar-10-batches-bin/data_batch_1.bin, row 9 | download or copy the file again",
        ),
        "a pickle that would run code": (
            lambda g: _cifar_python(g, pickle.dumps({b"data": Malice(), b"labels": [1]}, protocol=2)),
            "mkdir at byte 54; that is not plain data | cifar-10-batches-py/data_batch_1 | do not trust this file",
        ),
        "a pickle cut off": (
            lambda g: _cifar_python(g, pickle.dumps({b"labels": [1, 2], b"data": b"x" * 99}, protocol=2)[:-20]),
            "The pickle is damaged near byte | cifar-10-batches-py/data_batch_1 | download or copy the file again",
        ),
        "a batch without data": (
            lambda g: _cifar_python(g, pickle.dumps({b"labels": [1, 2]}, protocol=2)),
            "`data` is NoneType, not bytes shaped (N, 3072) | cifar-10-batches-py/data_batch_1 | download or copy the file again",
        ),
    },
    "NPZ": {
        "no NPZ file": (
            lambda g: g.data("a.npz", b"some bytes that are nothing"),
            "No reader understands what is there: a.npz | a.npz | choose a reader with data.reader=…",
        ),
        "arrays of objects": (
            lambda g: g.data("a.npz", npz(images=_IMAGES, labels=np.array([None] * 6, object))),
            "The array holds '|O' | a.npz:labels.npy | write it again with numpy.savez or",
        ),
        "images and labels of different length": (
            lambda g: g.data("a.npz", npz(images=_IMAGES, labels=_LABELS[:5])),
            "There are 6 rows of inputs but labels shaped | a.npz, all inputs | check that inputs and labels were selected",
        ),
        "an array with NaN": (
            lambda g: g.data(
                "a.npz", npz(x=np.array([[1.0, 2.0], [np.nan, 1.0], [3.0, np.inf]]), y=np.array([0, 1, 0]))
            ),
            "The value inf is not finite | a.npz, all inputs, row 2, column 1 | replace or remove it",
        ),
        "labels that are fractions": (
            lambda g: g.data("a.npz", npz(images=_IMAGES, labels=_LABELS + 0.5), "data.target=class"),
            "The label 0.5 is no whole number | a.npz, all labels, row 0 | use data.target=number for a regression",
        ),
        "two arrays of inputs": (
            lambda g: g.data("a.npz", npz(images=_IMAGES, x=_IMAGES, labels=_LABELS)),
            "The arrays 'images' and 'x' both look like | a.npz | leave one of them out",
        ),
        "channels that could stand first or last": (
            lambda g: g.data("a.npz", npz(images=np.zeros((4, 3, 5, 3), np.uint8), labels=_LABELS[:4])),
            "An array shaped (4, 3, 5, 3) can be read as | a.npz | say data.channels_first=true (NCHW) or",
        ),
        "no inputs": (
            lambda g: g.data("a.npz", npz(labels=_LABELS)),
            "No array holds inputs; there are labels | a.npz | rename the arrays, or give them as",
        ),
    },
    "table": {
        "a row that is too short": (
            lambda g: g.data("t.csv", flowers() + "1.0,2.0\n"),
            "the row has 2 cells, the table 5 columns | t.csv, row 14, value '1.0,2.0' | correct the file, or leave such rows out",
        ),
        "a word among numbers": (
            lambda g: g.data("t.csv", flowers(60, r7c1="wide")),
            "the value is not a number | t.csv, row 7, column 'sepal width (cm)', value 'wide' | correct the file, or leave such rows out",
        ),
        "a row without its class": (
            lambda g: ["train", "tabular-mlp", "--data", g.write("t.csv", flowers(r5c4=""))],
            "The target is missing (it is '') | t.csv, row 5, column 'species' | t.csv` lists them all",
        ),
        "infinity in a column": (
            lambda g: g.data("t.csv", flowers(r6c2="inf")),
            "the value is infinite or too large | t.csv, row 6, column 'petal length (cm)', value 'inf' | correct the file, or leave such rows out",
        ),
        "a target that is not there": (
            lambda g: g.data("t.csv", flowers(), "data.label=specis"),
            "There is no column called 'specis' | data.label, columns of t.csv | did you mean 'species'?",
        ),
        "two columns of one name": (
            lambda g: g.data("t.csv", flowers(r1c1="sepal length (cm)")),
            "Two columns are called 'sepal length (cm)' | t.csv, header | rename or remove one of them",
        ),
        "a quote that never ends": (
            lambda g: g.data("t.csv", flowers(r4c4='"setosa')),
            "The row that ends in line 13 cannot be parsed | t.csv, line 13 | look for a quote that is opened and not",
        ),
        "a table of one column": (
            lambda g: g.data("t.csv", "species\nsetosa\nvirginica\nsetosa\n"),
            "No reader understands what is there: t.csv | t.csv | choose a reader with data.reader=…",
        ),
        "words as a target that is a number": (
            lambda g: g.data("t.csv", flowers(), "data.target=number"),
            "There are no rows that can be used. The first | t.csv | check the file, or whether data.label",
        ),
        "a class for every row": (
            lambda g: [
                "train",
                "tabular-mlp",
                "--data",
                g.write("t.csv", "a,b,name\n" + "".join(f"{n},{n}.5,who{n}\n" for n in range(300))),
                "data.target=class",
                "data.label=name",
            ],
            "The target 'name' would have 300 classes in 300 | t.csv, column 'name' | choose the target with data.label=…",
        ),
        "missing numbers and no step that fills them": (
            lambda g: [
                "train",
                "tabular-mlp",
                "--data",
                g.write("t.csv", flowers(r5c1="", r8c1="")),
                "preprocess=[one-hot,standardise]",
            ],
            "The feature 'sepal width (cm)' has 2 missing | preprocess | add {name: impute}, or leave preprocess out",
        ),
    },
    "any file": {
        "an empty file": (
            lambda g: g.data("a.csv", b""),
            "The file is empty | a.csv | check the path, or whether a download was",
        ),
        "bytes that are nothing": (
            lambda g: g.data("a.bin", bytes(range(256)) * 4),
            "No reader understands what is there: a.bin | a.bin | choose a reader with data.reader=…",
        ),
        "a path that is not there": (
            lambda g: (g.write("train.csv", "1"), ["data", "trian.csv"])[1],
            "There is no file or folder 'trian.csv' | path trian.csv | did you mean 'train.csv'?",
        ),
        "a reader that is not there": (
            lambda g: g.data("a.csv", pixel_csv(), "data.reader=pixelcsv"),
            "There is no reader called 'pixelcsv' | data.reader | did you mean 'pixel-csv'?",
        ),
        "a reader that does not fit": (
            lambda g: g.data("a.csv", pixel_csv(), "data.reader=idx"),
            "No file begins with an IDX magic number | a.csv | download or copy the file again",
        ),
        "a group that is not there": (
            lambda g: g.data("t.csv", flowers(), "data.group=gardn"),
            "There is no column called 'gardn' | data.group, columns of t.csv | give a header as it stands in the file",
        ),
    },
}
