"""Commands that are called wrongly, and inputs that do not fit the model they are given to."""

from __future__ import annotations

import io
import shutil
from typing import Final

import numpy as np

from e2e.bad_input_case import Cases, Ground, flowers, npz, pixel_csv, png


def _digits(*, side: int = 8, label: str = "1") -> str:
    """Images as the embedded digits, dark as they are: 0 to 16."""
    header = ",".join(["label", *(f"pixel{i}" for i in range(side * side))])
    rows = [",".join([label if row == 3 else "0", *["9"] * (side * side - 1), "16"]) for row in range(6)]
    return "\n".join([header, *rows]) + "\n"


def _predict(ground: Ground, name: str, content: str | bytes) -> list[str]:
    return ["predict", str(ground.table), ground.write(name, content)]


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _bundle(ground: Ground) -> str:
    return str(shutil.copytree(ground.table / "bundle", ground.folder / "alone"))


CASES: Final[Cases] = {
    "command line": {
        "a command that is not there": (
            lambda g: ["trian", "digits"],
            "There is no command 'trian' | command line, the word after lamina | did you mean `lamina train`?",
        ),
        "an option that is not there": (
            lambda g: ["train", "digits", "--epoch=3"],
            "lamina train has no option '--epoch=3' | command line | `lamina train --help` explains them",
        ),
        "an option without its value": (
            lambda g: ["train", "digits", "--data"],
            "Argument --data: expected one argument | command line of lamina train | `lamina train --help` explains each word",
        ),
        "threads that are no number": (
            lambda g: ["train", "digits", "--threads", "two"],
            "--threads got 'two' | command line, --threads | write --threads 2, say",
        ),
        "no threads": (
            lambda g: ["evaluate", str(g.table), "--threads", "0"],
            "--threads got '0' | command line, --threads | write --threads 2, say",
        ),
        "a device that is none": (
            lambda g: ["train", "iris-mlp", "--device", "gpu"],
            "There is no device 'gpu' here | --device | use --device cpu",
        ),
        "a device that this machine lacks": (
            lambda g: ["predict", str(g.table), "t.csv", "--device", "cuda:17"],
            "There is no device 'cuda:17' here | --device | leave --device out",
        ),
        "a word too many": (
            lambda g: ["list", "models", "tasks"],
            "'tasks' is one word too many | command line of lamina list | leave it out, or quote words that belong",
        ),
        "a kind that is not there": (
            lambda g: ["list", "modles"],
            "There is no kind of thing called 'modles' | command line of lamina list, KIND | did you mean 'models'?",
        ),
        "a thing that is not there": (
            lambda g: ["show", "lenet"],
            "Nothing is called 'lenet' | command line, NAME | did you mean 'lenet5'",
        ),
        "nothing to train": (
            lambda g: ["train"],
            "Nothing says what to train | command line of lamina train | `lamina train digits` is a good first try",
        ),
        "two recipes": (
            lambda g: ["train", "digits", "iris-mlp"],
            "'iris-mlp' is a second recipe | command line of lamina train | leave 'iris-mlp' out",
        ),
        "a recipe that is not there": (
            lambda g: ["train", "irismlp"],
            "There is no recipe called 'irismlp' | command line, RECIPE | did you mean 'iris-mlp' or 'spirals-mlp' or",
        ),
        "a value without an equals sign": (
            lambda g: ["train", "digits", "training.epochs", "5"],
            "'training.epochs' is a second recipe | command line of lamina train | write training.epochs=VALUE without spaces",
        ),
        "a run where a recipe belongs": (
            lambda g: ["train", str(g.table)],
            "is a folder, not a recipe | command line, RECIPE | ` continues that run",
        ),
        "a recipe without its data": (
            lambda g: ["train", "mnist-mlp"],
            "The recipe mnist-mlp needs data of yours | --data | lamina train mnist-mlp --data PATH",
        ),
        "data that is not there": (
            lambda g: ["train", "--data", "irris"],
            "There is nothing at irris | data.path | did you mean iris?",
        ),
        "data twice": (
            lambda g: ["train", "iris-mlp", "--data", "iris", "data.path=wine"],
            "--data and data.path=… are both given | command line | leave data.path=… out",
        ),
        "another section for data": (
            lambda g: ["data", "iris", "training.epochs=3"],
            "There is no key 'training' | command line | leave it out, or look the keys up with",
        ),
        "a key of data that is not there": (
            lambda g: ["data", "iris", "data.lable=x"],
            "There is no key 'lable' | data.lable | did you mean 'label'?",
        ),
    },
    "inspect": {
        "a view that is not there": (
            lambda g: ["inspect", "lenet5", "layer"],
            "There is no view called 'layer' | command line of lamina inspect, VIEW | did you mean 'layers'?",
        ),
        "two views": (
            lambda g: ["inspect", "lenet5", "layers", "kernels"],
            "'kernels' is a second view | command line of lamina inspect | leave 'kernels' out",
        ),
        "nothing of this name": (
            lambda g: ["inspect", "lenet6"],
            "There is no model, recipe or bundle called | command line of lamina inspect | did you mean 'lenet5'",
        ),
        "a key that the model lacks": (
            lambda g: ["inspect", "mlp", "model.hidden_size=[3]"],
            "There is no key 'hidden_size' | model.hidden_size | did you mean 'hidden_sizes'?",
        ),
        "a section that is none": (
            lambda g: ["inspect", "mlp", "training.epochs=3"],
            "There is no key 'training' | command line of lamina inspect | leave it out, or look the keys up with",
        ),
        "values for a trained model": (
            lambda g: ["inspect", str(g.table), "model.hidden_sizes=[3]"],
            "A trained bundle's model cannot be changed | command line of lamina inspect, model.hidden_sizes | leave it out",
        ),
        "a key that the view lacks": (
            lambda g: ["inspect", "mlp", "view.colour=red"],
            "There is no key 'colour' | view layers.colour | leave it out, or look the keys up with",
        ),
        "an input for a model without data": (
            lambda g: ["inspect", "mlp", "--input", g.write("p.png", png())],
            "An input can be read only for a model that | command line of lamina inspect, --input | train first, or name the recipe with --data",
        ),
        "a file of another ending": (
            lambda g: ["inspect", "mlp", "--output", "mlp.txt"],
            "--output got 'mlp.txt' | command line of lamina inspect, --output | --output mlp.json",
        ),
        "a picture of a view without one": (
            lambda g: ["inspect", "mlp", "layers", "--output", "mlp.png"],
            "This view draws no picture | command line of lamina inspect, --output | --output mlp.json",
        ),
        "kernels of a knn": (
            lambda g: ["inspect", "knn", "kernels"],
            "KNN has no convolution and no dense layer | view kernels | `lamina inspect MODEL layers` shows what it",
        ),
        "weights that do not fit": (
            lambda g: ["inspect", "mlp", "--weights", str(g.table)],
            "The weights do not fit MLP | bundle/model.safetensors | build the model with the config that the",
        ),
    },
    "predict": {
        "a recipe without weights": (
            lambda g: ["predict", "digits", "x.png"],
            "digits is a description without trained weights | command line of lamina predict | train it first; then `lamina predict",
        ),
        "no input": (
            lambda g: ["predict", str(g.images)],
            "The following arguments are required: INPUT | command line of lamina predict | `lamina predict --help` explains each word",
        ),
        "an input that is not there": (
            lambda g: ["predict", str(g.images), "p.png"],
            "There is no file or folder 'p.png' | path p.png | check the path",
        ),
        "a picture cut off": (
            lambda g: ["predict", str(g.images), g.write("p.png", png()[:50])],
            "The image is damaged: image file is truncated | p.png | replace or remove the file",
        ),
        "a text for an image model": (
            lambda g: ["predict", str(g.images), g.write("p.txt", "hello")],
            "A row has 1 pixels | p.txt | convert the images to the size that the",
        ),
        "rows with other numbers of pixels": (
            lambda g: ["predict", str(g.images), g.write("a.csv", _digits(side=7))],
            "A row has 49 pixels | a.csv | convert the images to the size that the",
        ),
        "a pixel above 255": (
            lambda g: ["predict", str(g.images), g.write("a.csv", pixel_csv(pixels=64, r3c4="999"))],
            "The pixel is above 255 (it is '999') | a.csv, row 3, column 'pixel3' | `lamina data a.csv` lists them all",
        ),
        "a column missing": (
            lambda g: _predict(g, "t.csv", "\n".join(line.split(",", 1)[1] for line in flowers().splitlines())),
            "The feature 'sepal length (cm)' is missing | t.csv | rename 'petal length (cm)' to 'sepal length",
        ),
        "a word among the numbers": (
            lambda g: _predict(g, "t.csv", flowers(r3c1="wide")),
            "The value is not a number | t.csv, row 3, column 'sepal width (cm)' | `lamina data t.csv` lists them all",
        ),
        "infinity among the numbers": (
            lambda g: _predict(g, "t.csv", flowers(r3c1="inf")),
            "The value is infinite or too large (it is | t.csv, row 3, column 'sepal width (cm)' | `lamina data t.csv` lists them all",
        ),
        "an array for a table model": (
            lambda g: _predict(g, "x.npy", _npy(np.zeros((3, 4)))),
            "There is no table, only x.npy | x.npy | give the rows as text with one of these",
        ),
        "an array of another width": (
            lambda g: ["predict", str(g.images), g.write("x.npy", _npy(np.zeros((3, 7, 7), np.uint8)))],
            "The images are shaped (1, 7, 7) | x.npy | convert the images, or choose another model",
        ),
        "an array of infinity": (
            lambda g: ["predict", str(g.images), g.write("x.npy", _npy(np.full((3, 8, 8), np.inf)))],
            "3 images hold numbers that are not finite | x.npy, 'all', row 0 | remove these rows or replace the values",
        ),
        "an array of objects": (
            lambda g: ["predict", str(g.images), g.write("x.npy", _npy(np.array([[{}]])))],
            "The array holds '|O' | x.npy | write it again with numpy.savez or",
        ),
        "images for a table model": (
            lambda g: _predict(g, "p.png", png()),
            "There is no table, only p.png | p.png | give the rows as text with one of these",
        ),
        "an output of another ending": (
            lambda g: [*_predict(g, "t.csv", flowers()), "--output", "out.xml"],
            "--output got 'out.xml' | command line of lamina predict, --output | --output out.csv",
        ),
    },
    "evaluate": {
        "a split that is not there": (
            lambda g: ["evaluate", str(g.table), "--split", "tset"],
            "The data has no split 'tset' | command line of lamina evaluate, --split | leave --split out",
        ),
        "classes that the model does not know": (
            lambda g: ["evaluate", str(g.images), "--data", g.write("a.csv", _digits(label="cat"))],
            "The data has classes that the model does not | a.csv:5 | rename the classes in the data",
        ),
        "data without labels": (
            lambda g: [
                "evaluate",
                str(g.images),
                "--data",
                g.write("a.csv", "\n".join(line.split(",", 1)[1] for line in _digits().splitlines())),
            ],
            "The data has no column 'label'; it has image | the data to be judged | name the column of the labels with",
        ),
        "images of another size": (
            lambda g: ["evaluate", str(g.images), "--data", g.write("a.csv", _digits(side=7))],
            "The images are 7x7 with 1 channel; in training they were 8x8 with 1 channel | a.csv | resize the images to 8x8",
        ),
        "a table for an image model": (
            lambda g: ["evaluate", str(g.images), "--data", "iris"],
            "The data has no column 'image' | the data to be judged | look at what the file holds with `lamina",
        ),
        "images for a table model": (
            lambda g: ["evaluate", str(g.table), "--data", "digits"],
            "The data has no column 'number' | the data to be judged | look at what the file holds with `lamina",
        ),
        "a table without the target": (
            lambda g: ["evaluate", str(g.table), "--data", g.write("t.csv", flowers(r1c4="kind"))],
            "The target 'species' is missing | t.csv | add the column, name another with",
        ),
        "a species that was not in training": (
            lambda g: ["evaluate", str(g.table), "--data", g.write("t.csv", flowers(r4c4="tulip"))],
            "No class of training is called so (it is | t.csv, row 4, column 'species' | `lamina data t.csv` lists them all",
        ),
        "labels in an array beyond the classes": (
            lambda g: [
                "evaluate",
                str(g.images),
                "--data",
                g.write("a.npz", npz(images=np.zeros((4, 8, 8), np.uint8), labels=np.array([1, 2, 3, 77]))),
            ],
            "The data has classes that the model does not | all row 3 | rename '77' to '7' in the data",
        ),
        "a bundle alone and no data": (
            lambda g: ["evaluate", _bundle(g)],
            "Nothing says which data to judge on | command line of lamina evaluate | alone --data PATH",
        ),
        "data that is not there": (
            lambda g: ["evaluate", str(g.table), "--data", "nothing.csv"],
            "There is no file or folder 'nothing.csv' | path nothing.csv | check the path",
        ),
    },
}
