"""Bad recipes: files in YAML and values on the command line."""

from __future__ import annotations

from typing import Final

from e2e.bad_input_case import Cases, flowers, pixel_csv

_IRIS: Final = "extends: iris-mlp\n"

CASES: Final[Cases] = {
    "recipe file": {
        "YAML that does not parse": (
            lambda g: g.recipe(_IRIS + "training: {epochs: 5\n"),
            "This is not readable YAML | my.yaml, line 3, column 1 | correct that line",
        ),
        "a tab in YAML": (
            lambda g: g.recipe(_IRIS + "training:\n\tepochs: 5\n"),
            "This is not readable YAML | my.yaml, line 3, column 1 | correct that line",
        ),
        "a key twice": (
            lambda g: g.recipe(_IRIS + "training:\n  epochs: 5\n  epochs: 6\n"),
            "This is not readable YAML | my.yaml, line 4, column 3 | correct that line",
        ),
        "an alias": (
            lambda g: g.recipe(_IRIS + "training: &t {epochs: 5}\noptimizer: *t\n"),
            "YAML aliases are not read | my.yaml | write the value out in full",
        ),
        "a tag that would run code": (
            lambda g: g.recipe(_IRIS + "seed: !!python/object/apply:os.mkdir [broken-in]\n"),
            "This is not readable YAML | my.yaml, line 2, column 7 | correct that line",
        ),
        "a list instead of a mapping": (
            lambda g: g.recipe("- iris-mlp\n"),
            "The file holds list | my.yaml | write `section:` lines",
        ),
        "an empty recipe": (
            lambda g: g.recipe(""),
            "The recipe has no task | my.yaml, key `task` | give task.name=…, or begin the file with",
        ),
        "bytes that are no text": (
            lambda g: ["train", g.write("my.yaml", b"extends: \xff\xfe")],
            "The file is not UTF-8 text | my.yaml | `lamina train --data my.yaml` trains on a",
        ),
        "extends a recipe that is not there": (
            lambda g: g.recipe("extends: iris-mpl\n"),
            "There is no recipe called 'iris-mpl' | my.yaml, key `extends` | did you mean 'iris-mlp' or 'spirals-mlp'?",
        ),
        "extends two recipes": (
            lambda g: g.recipe("extends: [iris-mlp, digits]\n"),
            "extends got ['iris-mlp', 'digits'] | my.yaml, key `extends` | name one recipe",
        ),
        "no model": (
            lambda g: g.recipe("task: tabular-classification\ndata: {path: iris}\n"),
            "The recipe has no model | my.yaml, key `model` | give model.kind=…, or begin the file with",
        ),
        "a section that is no mapping": (
            lambda g: g.recipe(_IRIS + "training: 5\n"),
            "training got 5 | my.yaml, key `training` | write the values below `training:`",
        ),
        "a section that is not there": (
            lambda g: g.recipe(_IRIS + "trainig: {epochs: 5}\n"),
            "There is no key 'trainig' | my.yaml, key `trainig` | did you mean 'training'?",
        ),
        "a key that is not there": (
            lambda g: g.recipe(_IRIS + "training: {epoch: 5}\n"),
            "There is no key 'epoch' | my.yaml, key `training.epoch` | did you mean 'epochs'?",
        ),
        "a word for a number": (
            lambda g: g.recipe(_IRIS + "training: {epochs: many}\n"),
            "training.epochs got 'many' | my.yaml, key `training.epochs` | change training.epochs",
        ),
        "a file that is not there": (
            lambda g: (g.recipe(_IRIS), ["train", "mi.yaml"])[1],
            "There is no file mi.yaml | command line, RECIPE | did you mean my.yaml?",
        ),
        "data that is not there": (
            lambda g: g.recipe(_IRIS + "data: {path: irises.csv}\n"),
            "There is nothing at irises.csv | data.path | check the path",
        ),
    },
    "recipe value": {
        "a section misspelt": (
            lambda g: ["train", "iris-mlp", "optimiser.lr=0.1"],
            "There is no key 'optimiser' | command line, key `optimiser` | did you mean 'optimizer'?",
        ),
        "a key misspelt": (
            lambda g: ["train", "iris-mlp", "optimizer.learning_rate=0.1"],
            "There is no key 'learning_rate' | command line, key `optimizer.learning_rate` | leave it out, or look the keys up with",
        ),
        "a fraction for a whole number": (
            lambda g: ["train", "iris-mlp", "training.epochs=2.5"],
            "training.epochs got 2.5 | command line, key `training.epochs` | change training.epochs",
        ),
        "below the bound": (
            lambda g: ["train", "iris-mlp", "training.epochs=0"],
            "training.epochs got 0: it is below 1 | command line, key `training.epochs` | change training.epochs",
        ),
        "above the bound": (
            lambda g: ["train", "iris-mlp", "model.dropout=1.5"],
            "MLP got dropout=1.5 | MLP, key `dropout` | leave dropout out, or use 0.2, say",
        ),
        "a learning rate below zero": (
            lambda g: ["train", "iris-mlp", "optimizer.lr=-0.1"],
            "optimizer.lr got -0.1: it must be above 0 | command line, key `optimizer.lr` | change optimizer.lr",
        ),
        "a learning rate that is NaN": (
            lambda g: ["train", "iris-mlp", "optimizer.lr=.nan"],
            "optimizer.lr got nan: it is not finite | command line, key `optimizer.lr` | change optimizer.lr",
        ),
        "a layer without units": (
            lambda g: ["train", "iris-mlp", "model.hidden_sizes=[16,0]"],
            "MLP got hidden_sizes=(16, 0) | MLP, key `hidden_sizes` | leave the empty layer out",
        ),
        "a choice that is none": (
            lambda g: ["train", "iris-mlp", "training.precision=fp23"],
            "training.precision got 'fp23' | command line, key `training.precision` | change training.precision",
        ),
        "an optimizer that is not there": (
            lambda g: ["train", "iris-mlp", "optimizer.name=adma"],
            "There is no optimizer called 'adma' | command line, key `optimizer.name` | did you mean 'adam' or 'adamw'?",
        ),
        "a schedule that is not there": (
            lambda g: ["train", "iris-mlp", "schedule=cosin"],
            "There is no schedule called 'cosin' | command line, key `schedule.name` | did you mean 'cosine'?",
        ),
        "a model that is not there": (
            lambda g: ["train", "iris-mlp", "model=mpl"],
            "There is no model called 'mpl' | command line, key `model.kind` | did you mean 'mlp'?",
        ),
        "an activation that is not there": (
            lambda g: ["train", "iris-mlp", "model.activation=rellu"],
            "There is no activation called 'rellu' | name of an activation | did you mean 'relu' or 'prelu' or 'elu'?",
        ),
        "a step of preprocessing that is not there": (
            lambda g: ["train", "iris-mlp", "preprocess=[standardize]"],
            "There is no preprocessing called 'standardize' | command line, key `preprocess.name` | did you mean 'standardise'?",
        ),
        "an augmentation that is not there": (
            lambda g: ["train", "digits", "augment=[rotat]"],
            "There is no augmentation called 'rotat' | command line, key `augment.name` | did you mean 'rotate' or 'contrast'?",
        ),
        "a loss that is not there": (
            lambda g: ["train", "iris-mlp", "loss=cross-entrpy"],
            "There is no loss called 'cross-entrpy' | command line, key `loss.name` | did you mean 'cross-entropy' or",
        ),
        "a metric to watch that is not there": (
            lambda g: ["train", "iris-mlp", "training.monitor=acuracy"],
            "There is no metric called 'acuracy' | training.monitor | did you mean 'accuracy' or 'top5_accuracy'",
        ),
        "a seed that is a word": (
            lambda g: ["train", "iris-mlp", "seed=lucky"],
            "seed got 'lucky': it is not a whole number | command line, key `seed` | change seed, or leave it out to use the",
        ),
        "a value inside a value": (
            lambda g: ["train", "iris-mlp", "training.epochs=2", "training.epochs.more=3"],
            "'training.epochs.more' goes inside a value that | command line, 'training.epochs.more=3' | drop epochs=… or training.epochs.more=3",
        ),
        "no key before the equals sign": (
            lambda g: ["train", "iris-mlp", "=3"],
            "'=3' is not of the form section.key=value | command line | put an equals sign between key and value",
        ),
        "a fold that is not there": (
            lambda g: ["train", "iris-mlp", "data.split=kfold", "data.folds=3", "data.fold=3"],
            "data.fold is 3, but there are 3 folds, counted | data.fold | use data.fold=2 or more data.folds",
        ),
        "groups without a column": (
            lambda g: ["train", "iris-mlp", "data.split=group"],
            "data.split=group needs to know the groups | data.group | name the column with data.group=…",
        ),
        "more held out than there is": (
            lambda g: ["train", "iris-mlp", "data.valid_fraction=1.0"],
            "data.valid_fraction got 1.0: it must be below 1 | command line, key `data.valid_fraction` | change data.valid_fraction",
        ),
        "a norm that is not there": (
            lambda g: ["train", "iris-mlp", "model.norm=batchnorm"],
            "There is no layer called 'batchnorm' | name of a norm | did you mean 'batch-norm'?",
        ),
    },
    "recipe and data": {
        "a network for images on a table": (
            lambda g: ["train", "mnist-lenet5", "--data", "iris"],
            "The recipe mnist-lenet5 learns from images; iris holds a table | data.path | lamina train iris-mlp --data iris, say",
        ),
        "a network for a table on images": (
            lambda g: ["train", "tabular-mlp", "--data", "digits"],
            "The recipe tabular-mlp learns from a table; digits holds images | data.path | lamina train digits --data digits, say",
        ),
        "a data file as a recipe": (
            lambda g: ["train", g.write("a.csv", pixel_csv()), "seed=3"],
            "a.csv is a data file, not a recipe | command line, RECIPE | lamina train --data a.csv seed=3",
        ),
        "a key without its section": (
            lambda g: ["train", "digits", "epochs=3"],
            "There is no key 'epochs' | command line, 'epochs=3' | did you mean training.epochs=3?",
        ),
        "images too small for the network": (
            lambda g: ["train", "mnist-lenet5", "--data", g.write("a.csv", pixel_csv())],
            "LeNet-5 got image_size=(4 | LeNet, argument `image_size` | use larger images, or the model cnn with",
        ),
        "a regression on classes": (
            lambda g: ["train", "tabular-regression-mlp", "--data", g.write("t.csv", flowers())],
            "The data has no target | column 'target' | name the column with data.label=… and set",
        ),
        "a classifier on numbers": (
            lambda g: ["train", "tabular-mlp", "--data", "diabetes"],
            "The data has no classes | column 'label' | name the column of the labels with",
        ),
        "fewer classes than the data has": (
            lambda g: ["train", "iris-mlp", "model.num_classes=2"],
            "MLP has 2 outputs; the data has 3 classes | tabular-classification, model and column 'label' | set model.num_classes=3",
        ),
        "a loss for numbers on classes": (
            lambda g: ["train", "iris-mlp", "loss=huber"],
            "huber compares numbers; the data has classes | loss.name | leave loss out for cross-entropy",
        ),
        "two rows to divide": (
            lambda g: ["train", "tabular-mlp", "--data", g.write("t.csv", flowers(1)), "data.target=class"],
            "1 rows are too few for a training and a valid | t.csv | give more rows, or use data.valid_fraction=0",
        ),
        "class weights for other classes": (
            lambda g: ["train", "iris-mlp", "task.class_weights=[1,2]"],
            "There are 2 class weights for 3 classes | task.class_weights | leave it out and set data.balance=weight",
        ),
    },
}
