"""What is taken away: weights, architecture, preprocessing, labels, metrics and golden examples.

`core/bundle.py` knows the files and refuses what is damaged; here their meaning is checked: the task and the model are
registered, their values pass their Configs, every weight fits a place of its shape and type, all of it before the
model takes memory. Loading a bundle runs no code from it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from lamina import __version__
from lamina.core import registry
from lamina.core.bundle import (
    MEND,
    PREPROCESSING_PREFIX,
    BundleConfig,
    BundleParts,
    Labels,
    MetricsFile,
    Part,
    read_bundle,
    write_bundle,
)
from lamina.core.errors import BundleError, LaminaError, UnknownNameError, nearest
from lamina.data.columns import Columns, DataSpec
from lamina.data.preprocessing import Preprocessing
from lamina.data.ragged import LENGTH, with_lengths
from lamina.models.factory import create_model, model_values
from lamina.tasks.base import Prediction, Task
from lamina.tasks.bundle_readme import write_readme
from lamina.tasks.pipeline import Evaluation, Pipeline

GOLDEN_ROWS: Final = 4
GOLDEN_BYTES: Final = 64 * 2**20
# Another machine's kernels may round differently; relative to the largest golden output.
GOLDEN_TOLERANCE: Final = 1e-3


class Bundle:
    """A trained model as it is taken away. Build it with `from_pipeline` or `load_bundle`.

    Attributes:
        pipeline: Model, task and preprocessing, on the CPU unless moved.
        parts: The content as it is written.

    Example:
        >>> import lamina                                                       # doctest: +SKIP
        >>> lamina.load_bundle("digits.bundle").predict("photo.png")[0]["label"]  # doctest: +SKIP
        '7'
    """

    def __init__(self, pipeline: Pipeline, parts: BundleParts) -> None:
        self.pipeline = pipeline
        self.parts = parts

    @classmethod
    def from_pipeline(
        cls,
        pipeline: Pipeline,
        *,
        metrics: Mapping[str, float] | None = None,
        examples: Columns | None = None,
        precision: Mapping[str, str] | None = None,
    ) -> Bundle:
        """A bundle of a trained pipeline: rebuilt from what would be written, so that it is known to be complete.

        Args:
            pipeline: The trained model with its task and preprocessing; it is copied.
            metrics: `split/name` -> value; those that are not finite are left out.
            examples: Raw rows; outputs for the first 4 become the golden examples.
            precision: Facts about the arithmetic, such as `{"training": "bf16"}`.

        Raises:
            BundleError: The model or task is not a registered one, or its weights are not finite.
        """
        model, task = pipeline.model, pipeline.task
        name, values = _described(model, task)
        tensors = {key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}
        taken = [key for key in tensors if key.startswith(PREPROCESSING_PREFIX)]
        if taken:
            raise BundleError(
                f"The model has weights called {taken[0]!r}.",
                where=type(model).__name__,
                accepts=f"names that do not begin with {PREPROCESSING_PREFIX!r}",
                mend="rename that module of the model",
            )
        steps = {f"{PREPROCESSING_PREFIX}{key}": t for key, t in pipeline.preprocessing.tensors().items()}
        parts = BundleParts(
            config=BundleConfig(
                lamina=__version__,
                task=Part(name=task.name, config=task.config.values()),
                model=Part(name=name, config=values),
                spec=pipeline.spec.values(),
                thresholds=_thresholds(task),
                precision=dict(precision or {}),
            ),
            tensors={**tensors, **steps},
            preprocessing=pipeline.preprocessing.describe(),
            labels=_labels(task),
            tokenizer=pipeline.preprocessing.tokenizer(),
            metrics=MetricsFile(metrics={k: float(v) for k, v in (metrics or {}).items() if math.isfinite(v)}),
        )
        bundle = cls(_pipeline(parts, where=f"bundle of {type(model).__name__}"), parts)
        if examples is not None and examples.num_rows:
            parts.golden = bundle._golden(examples)
        parts.readme = write_readme(parts, bundle.pipeline)
        return bundle

    # --- what it holds ---

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the outputs, or the names of the targets."""
        return self.parts.labels.classes or self.parts.labels.targets

    @property
    def metrics(self) -> dict[str, float]:
        """`split/name` -> value at the best checkpoint."""
        return dict(self.parts.metrics.metrics)

    @property
    def model(self) -> nn.Module:
        """The model, a plain module in evaluation mode."""
        return self.pipeline.model

    @property
    def task(self) -> Task:
        """The task."""
        return self.pipeline.task

    @property
    def spec(self) -> DataSpec:
        """The spec of the raw data that it was trained on."""
        return self.pipeline.spec

    # --- use ---

    def predict(
        self, inputs: Any, *, batch_size: int = 256, channels_first: bool | None = None, reject: bool = False
    ) -> list[Prediction]:
        """Predictions for paths, arrays, tensors or tables; see `Pipeline.predict`."""
        return self.pipeline.predict(inputs, batch_size=batch_size, channels_first=channels_first, reject=reject)

    def generate(self, prompt: str | None = None, *, num: int = 1, **options: Any) -> list[Prediction]:
        """Make `num` samples, such as texts that begin with `prompt`.

        Args:
            options: The task's: for texts the fields of `lamina.tasks.sampling.SamplingConfig`, such as temperature=0.8.

        Raises:
            UsageError: The task makes nothing new.
        """
        return self.task.generate(self.model, self.pipeline.preprocessing, num=num, prompt=prompt, **options)

    def evaluate(self, columns: Columns, *, spec: DataSpec | None = None, batch_size: int = 256) -> Evaluation:
        """Judge on labelled raw columns; with their `spec`, classes and features match by name."""
        return self.pipeline.evaluate(columns, spec=spec, batch_size=batch_size)

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write a folder, or one file where the name ends in `.zip`; whole or not at all.

        Raises:
            StorageError: Something is there and `overwrite` is false, or the disk is full or read-only.
        """
        self.parts.config = write_bundle(path, self.parts, overwrite=overwrite)
        return Path(path)

    def verify_golden(self) -> float:
        """The largest absolute difference between the golden outputs and what comes out now; 0 without examples.

        A NaN or a missing output counts as infinite. See `golden_holds` for whether the difference matters.
        """
        inputs = {k.removeprefix("input."): v for k, v in self.parts.golden.items() if k.startswith("input.")}
        wanted = {k.removeprefix("output."): v for k, v in self.parts.golden.items() if k.startswith("output.")}
        if not wanted:
            return 0.0
        found = self.pipeline.outputs(Columns(inputs))
        if found.keys() != wanted.keys() or any(found[k].shape != wanted[k].shape for k in wanted):
            return math.inf
        errors = [float((found[k].double() - wanted[k].double()).abs().max()) for k in wanted]
        return math.inf if any(math.isnan(error) for error in errors) else max(errors)

    def golden_holds(self, *, tolerance: float = GOLDEN_TOLERANCE) -> bool:
        """Whether the golden outputs come out again, within `tolerance` times the largest of them (at least 1)."""
        outputs = [v.double().abs().max() for k, v in self.parts.golden.items() if k.startswith("output.")]
        return self.verify_golden() <= tolerance * max(1.0, *map(float, outputs))

    def _golden(self, examples: Columns) -> dict[str, Tensor]:
        examples = examples.raw
        names = [name for name in self.task.input_columns() if name in self.spec.columns]
        inputs = with_lengths(examples.batch(torch.arange(min(GOLDEN_ROWS, examples.num_rows))), names)
        if sum(tensor.numel() * tensor.element_size() for tensor in inputs.values()) > GOLDEN_BYTES:
            inputs = {name: tensor[:1] for name, tensor in inputs.items()}
        outputs = self.pipeline.outputs(Columns(inputs))
        return {
            **{f"input.{name}": tensor for name, tensor in inputs.items()},
            **{f"output.{name}": tensor for name, tensor in outputs.items()},
        }


def load_bundle(path: str | Path, *, device: torch.device | str = "cpu") -> Bundle:
    """Load a bundle, verifying everything before it is used.

    Args:
        path: A bundle (folder or `.zip`), or a run folder (its best checkpoint).
        device: Where to compute.

    Raises:
        BundleError: It is missing, damaged, tampered with, not a bundle, or made for something unknown here.
    """
    path = bundle_path(path)
    parts = read_bundle(path)
    bundle = Bundle(_pipeline(parts, where=str(path)), parts)
    _check_golden(bundle, where=str(path))
    bundle.pipeline.to(device)
    return bundle


def bundle_path(path: str | Path) -> Path:
    """The bundle that a path means: itself, or the one of a run folder.

    Raises:
        BundleError: The run has no bundle yet.
    """
    path = Path(path)
    if (path / "recipe.yaml").is_file() and not (path / "config.json").is_file():
        if not (path / "bundle").is_dir():
            raise BundleError(
                "The run has no bundle yet.",
                where=str(path),
                accepts="a run that is finished, or a bundle",
                mend=f"lamina train --resume {path} brings it to its end",
            )
        return path / "bundle"
    if not path.exists() and path.parent.is_dir():
        near = nearest(path.name, [entry.name for entry in path.parent.iterdir()])
        if near:
            raise BundleError(
                "There is nothing at this path.",
                where=str(path),
                accepts="a bundle (folder or .zip) or a run folder",
                mend=f"did you mean {path.parent / near[0]}?",
            )
    return path


# --- from a pipeline ---------------------------------------------------------------------------------------------


def _described(model: nn.Module, task: Task) -> tuple[str, dict[str, Any]]:
    """Name and values of a registered model; an error for anything else."""
    described = model_values(model)
    if described is None:
        raise BundleError(
            f"{type(model).__name__} does not say how it was built, so a bundle could not build it again.",
            where="the model",
            accepts="a model made by create_model",
            mend="register the class with @register('model', …) and build it with create_model, or keep its state_dict yourself",
        )
    if not task.name:
        raise BundleError(
            f"{type(task).__name__} is not a registered task, so a bundle could not name it.",
            where="the task",
            accepts=", ".join(registry.names("task")),
            mend="register the class with @register('task', …) and give it that `name`",
        )
    return described


def _thresholds(task: Task) -> dict[str, float]:
    thresholds = getattr(task, "thresholds", None)
    return dict(thresholds.given()) if thresholds is not None else {}


def _labels(task: Task) -> Labels:
    return Labels(classes=getattr(task, "classes", ()), targets=getattr(task, "targets", ()))


# --- from parts ----------------------------------------------------------------------------------------------------


def _pipeline(parts: BundleParts, *, where: str) -> Pipeline:
    """Build everything that a bundle describes; any fault is a BundleError that names the file."""
    config = parts.config
    step = "config.json"
    try:
        spec = DataSpec.from_values(config.spec, where="spec")
        step = "preprocessing.json"
        tensors = {
            key.removeprefix(PREPROCESSING_PREFIX): tensor
            for key, tensor in parts.tensors.items()
            if key.startswith(PREPROCESSING_PREFIX)
        }
        preprocessing = Preprocessing.restore(
            parts.preprocessing, tensors, spec, tokenizer=parts.tokenizer, where=f"{where}, {step}"
        )
        step = "config.json"
        task = _build_task(config, preprocessing.spec)
        step = "labels.json"
        if _labels(task) != parts.labels:
            raise BundleError(
                f"The labels are {list(parts.labels.classes or parts.labels.targets)[:12]}; config.json says "
                f"{list(_labels(task).classes or _labels(task).targets)[:12]}.",
                where=where,
                accepts="the same names in both",
                mend=MEND,
            )
        step = "model.safetensors"
        weights = {key: t for key, t in parts.tensors.items() if not key.startswith(PREPROCESSING_PREFIX)}
        model = _build_model(config.model, weights)
        step = "config.json"
        task.check(preprocessing.spec, model)
    except LaminaError as error:
        place = error.where if step in error.where else f"{where}, {step}: {error.where}".removesuffix(f": {where}")
        raise BundleError(error.what, where=place, accepts=error.accepts, mend=_mend(error)) from error
    except ImportError:  # an installation that is broken, not a bundle
        raise
    except Exception as error:  # the values are a stranger's: whatever they provoke is a fault of the bundle
        first = str(error).strip().split("\n", 1)[0][:200]
        raise BundleError(
            f"What the bundle describes cannot be built: {type(error).__name__}: {first}",
            where=f"{where}, {step}",
            accepts="values that `save` writes",
            mend=MEND,
        ) from error
    return Pipeline(model, task, preprocessing, spec)


def _mend(error: LaminaError) -> str:
    if isinstance(error, UnknownNameError):
        return "install the version of Lamina, or the plug-in, with which it was made"
    return error.mend if isinstance(error, BundleError) else MEND


def _build_task(config: BundleConfig, spec: DataSpec) -> Task:
    entry = registry.lookup("task", config.task.name, where="task.name")
    assert entry.config is not None
    task = entry.target(entry.config.from_values(config.task.config, where="task"), spec)
    assert isinstance(task, Task)
    task.thresholds_from(config.thresholds)
    return task


def _build_model(part: Part, weights: Mapping[str, Tensor]) -> nn.Module:
    entry = registry.lookup("model", part.name, where="model.name")
    assert entry.config is not None
    entry.config.from_values(part.config, where="model")
    # Without memory first: sizes that the weights do not bear out must not be allocated.
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        outline = create_model(part.name, **part.config)
    _check_weights(outline, weights)
    model = create_model(part.name, seed=0, **part.config)
    model.load_state_dict(dict(weights), strict=True)
    check_state = getattr(model, "check_state", None)
    if check_state is not None:  # of models whose state is more than weights of a fixed shape
        check_state()
    return model.eval()


def _check_weights(outline: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Every weight has a place and every place a weight, of the same shape and type, and all numbers are finite."""
    places = outline.state_dict()
    missing, strangers = sorted(places.keys() - weights.keys()), sorted(weights.keys() - places.keys())
    if missing or strangers:
        parts = [f"no {', '.join(missing[:8])}"] if missing else []
        parts += [f"{', '.join(strangers[:8])}, which the model does not know"] if strangers else []
        raise BundleError(
            f"Of {len(places)} weights there are {' and '.join(parts)}.",
            where="weights",
            accepts="exactly the weights of the model that config.json describes",
            mend=MEND,
        )
    # A model that stores rows makes room for them as it loads; of all others the places stay what they were.
    with contextlib.suppress(RuntimeError):
        outline.load_state_dict({key: torch.empty_like(t, device="meta") for key, t in weights.items()}, strict=True)
    places = outline.state_dict()
    for name, tensor in weights.items():
        if (tensor.shape, tensor.dtype) != (places[name].shape, places[name].dtype):
            raise BundleError(
                f"The weight {name!r} is {_kind(tensor)}.",
                where=f"weight {name!r}",
                accepts=f"{_kind(places[name])}, by the model that config.json describes",
                mend=MEND,
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise BundleError(
                f"The weight {name!r} holds NaN or infinity.",
                where=f"weight {name!r}",
                accepts="finite numbers",
                mend="take an earlier checkpoint of the run, or train again with a lower optimizer.lr",
            )


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _check_golden(bundle: Bundle, *, where: str) -> None:
    """Golden inputs must be rows of the data's columns; whether the outputs hold is `verify_golden`'s to say."""
    counts = {len(tensor) if tensor.ndim else -1 for tensor in bundle.parts.golden.values()}
    for name, tensor in bundle.parts.golden.items():
        kind, _, column = name.partition(".")
        ragged = column.removesuffix(LENGTH)
        is_length = kind == "input" and ragged != column and column not in bundle.spec.columns
        spec = bundle.spec.columns.get(ragged if is_length else column)
        fits = len(counts) == 1 and tensor.ndim > 0 and 0 < len(tensor) <= 1024
        if kind == "input":
            roles = ("image", "series", "volume", "number", "category", "text")
            fits = fits and spec is not None and spec.role in roles
            if is_length:
                fits = fits and _are_lengths(tensor, bundle.parts.golden.get(f"input.{ragged}"))
            else:
                fits = fits and spec is not None and _fits(tensor, spec.shape)
        if not fits or kind not in ("input", "output") or not column:
            raise BundleError(
                f"The golden example {name!r} is {_kind(tensor)}.",
                where=f"{where}, golden.safetensors",
                accepts="input.COLUMN and output.NAME with the same few rows",
                mend=MEND,
            )


def _are_lengths(lengths: Tensor, padded: Tensor | None) -> bool:
    """Whether these can be the lengths of padded rows."""
    if padded is None or padded.ndim < 2 or lengths.dtype != torch.int64 or lengths.ndim != 1:
        return False
    return bool(((lengths >= 0) & (lengths <= padded.shape[1])).all())


def _fits(tensor: Tensor, shape: tuple[int, ...]) -> bool:
    own = tuple(tensor.shape[1:])
    return len(own) == len(shape) and all(want in (-1, got) for want, got in zip(shape, own, strict=True))
