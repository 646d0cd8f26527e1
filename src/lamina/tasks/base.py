"""The interfaces between what a batch means and the engine that trains: Task, Update, Losses, Context, Stage.

The Trainer knows updates and stages, not tasks; a task knows data and models, not the Trainer. A classifier has one
`GradientUpdate`, a GAN two, kNN and word2vec one `DirectUpdate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lamina.core import draws
from lamina.core.config import Config
from lamina.core.errors import ConfigError, UsageError
from lamina.data.batching import Feed, IndexFeed

if TYPE_CHECKING:
    from lamina.data.columns import Columns, DataSpec
    from lamina.data.preprocessing import Preprocessing
    from lamina.tasks.metrics import Metrics

Batch = Mapping[str, Tensor]
State = dict[str, Tensor]
Outputs = dict[str, Tensor]
Prediction = dict[str, Any]
AnyConfig = Config


class Losses:
    """Named (sum, weight) pairs of one batch.

    The Trainer divides sums by weights, over micro-batches and processes together, so that accumulation equals the big
    batch whatever the masks. `total` is what is minimised: the sum over terms of factor * sum / weight.

    Example:
        >>> losses = Losses()
        >>> losses.add("cross_entropy", torch.tensor(6.0), 3)
        >>> losses.add("l2", torch.tensor(2.0), 1, factor=0.5)
        >>> float(losses.total())
        3.0
    """

    def __init__(self) -> None:
        self.terms: dict[str, tuple[Tensor, Tensor | float, float]] = {}

    def add(self, name: str, total: Tensor, weight: Tensor | float, *, factor: float = 1.0) -> None:
        """Add a part: `total` is the sum over the batch (0-d, float), `weight` the number (or weight) of what was summed."""
        self.terms[name] = (total, weight, factor)

    def total(self) -> Tensor:
        """The scalar to minimise when this batch is the whole batch."""
        parts = [total * (factor / weight) for total, weight, factor in self.terms.values() if factor != 0.0]
        return torch.stack(parts).sum() if len(parts) > 1 else parts[0]

    def means(self) -> dict[str, Tensor]:
        """Each part divided by its weight, without its factor, as it is logged."""
        return {name: total / weight for name, (total, weight, _) in self.terms.items()}


@dataclass
class Context:
    """Where training stands, as an update sees it.

    Attributes:
        seed: The run's seed.
        step: Absolute optimizer step, from 0; a 0-d int64 tensor, so that one compiled graph serves all steps.
        epoch: From 0.
        update: Name of the update under way.
        repeat: Which repeat of it, from 0.
        stage: Name of the stage.
        first_row: Index of the micro-batch's first row within the step's batch (gradient accumulation).
        training: False while judging and predicting.
        device: Where the batch lies.
        schedule: Current values of schedules by name (`lr`, …), 0-d tensors or numbers.
        carried: While a split is judged, what a task carries from batch to batch (hidden states of a stream); empty at first.
    """

    seed: int = 0
    step: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.int64))
    epoch: int = 0
    update: str = ""
    repeat: int = 0
    stage: str = ""
    first_row: int = 0
    training: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    schedule: Mapping[str, Tensor | float] = field(default_factory=dict)
    carried: State = field(default_factory=dict)

    def key(self, stream: str, *position: int | str) -> Tensor:
        """A key (0-d int32) for this step, update and repeat in a named stream; use it with `core.draws`."""
        base = draws.stream_key(self.seed, stream, self.update, self.repeat, *position)
        return draws.combine(base, self.step)

    def normal(self, stream: str, num_rows: int, width: int) -> Tensor:
        """Standard normal draws (num_rows, width), keyed by step and row."""
        rows = torch.arange(self.first_row, self.first_row + num_rows, device=self.device)
        return draws.normal(self.key(stream), draws.counters(rows, width))

    def uniform(self, stream: str, num_rows: int, width: int) -> Tensor:
        """Uniform draws in [0, 1), (num_rows, width), keyed by step and row."""
        rows = torch.arange(self.first_row, self.first_row + num_rows, device=self.device)
        return draws.uniform(self.key(stream), draws.counters(rows, width))


class Update:
    """One of the updates that a step performs, in order. Subclassed by GradientUpdate and DirectUpdate only.

    Attributes:
        name: Unique within the task; names the optimizer's checkpoint and the logged losses.
        module: What it trains. Batch-norm statistics of everything else stand still meanwhile.
        repeats: How often per step; each repeat gets a batch of its own (a Wasserstein critic: 5).
    """

    name: str
    module: nn.Module
    repeats: int = 1


LossFunction = Callable[[Batch, Context, State], "tuple[Losses, State]"]


@dataclass
class GradientUpdate(Update):
    """Descend the gradient of a loss.

    Attributes:
        loss: (batch, ctx, state) -> (Losses, new state). Must be a function of its arguments and of the parameters and
            buffers of the model: no reads back from the device, no side effects but batch-norm statistics.
        parameters: Names (of `module`) to train; None: all that require gradients.
        optimizer: Its own optimizer section (`{"name": "adam", "lr": …}`); None: the recipe's.
        double_backward: The loss differentiates through gradients (gradient penalties): plain kernels, fp32, not compiled.
        compilable: The Trainer may trace the loss and run many steps in one graph.
    """

    name: str
    module: nn.Module
    loss: LossFunction
    parameters: Sequence[str] | None = None
    optimizer: Mapping[str, Any] | None = None
    repeats: int = 1
    double_backward: bool = False
    compilable: bool = True

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """What this update trains, in the module's order."""
        wanted = None if self.parameters is None else set(self.parameters)
        return [
            (name, p)
            for name, p in self.module.named_parameters()
            if (name in wanted if wanted is not None else p.requires_grad)
        ]


@dataclass
class DirectUpdate(Update):
    """Learn without gradients: kNN storing rows, Rosenblatt's rule, the word2vec kernel.

    Attributes:
        apply: (batch, ctx, state) -> (Losses, new state); changes the module's parameters and buffers itself.
        scheduled: It takes steps of a rate: `ctx.schedule["lr"]` is the optimizer section's `lr` times the schedule's factor.
    """

    name: str
    module: nn.Module
    apply: LossFunction
    repeats: int = 1
    scheduled: bool = False


@runtime_checkable
class DirectLearner(Protocol):
    """A model that learns from batches by its own rule (registered with `has_gradients=False`): kNN, the perceptron.

    A task makes one `DirectUpdate` of it, whatever the model.
    """

    def learn(self, inputs: Tensor, targets: Tensor) -> Mapping[str, tuple[Tensor, Tensor | float]]:
        """Take in a preprocessed batch, changing parameters and buffers, and return what is logged: name -> (sum, weight)."""


def direct_update(
    model: nn.Module, inputs: Callable[[Batch], tuple[Tensor, Tensor]], *, name: str = "train"
) -> DirectUpdate:
    """The update of a `DirectLearner`.

    Args:
        model: The learner.
        inputs: Batch -> what the model's `learn` takes: inputs and targets.
    """
    assert isinstance(model, DirectLearner)
    learn = model.learn

    def apply(batch: Batch, ctx: Context, state: State) -> tuple[Losses, State]:
        losses = Losses()
        for term, (total, weight) in learn(*inputs(batch)).items():
            losses.add(term, total, weight)
        return losses, state

    return DirectUpdate(name, model, apply)


@dataclass
class Stage:
    """A stretch of training with its own trainable part, optimizer, length and structure.

    Attributes:
        name: `train` where there is only one.
        epochs, steps: How long; None: the training section's.
        trainable: Patterns (fnmatch) of parameter names that learn, the rest being frozen and in evaluation mode; None:
            all that required gradients when training began.
        frozen: Patterns of names that do not learn although `trainable` has them.
        optimizer: Changes to the optimizer section.
        schedule: In place of the schedule section.
        warmup: Share of the steps over which the rate rises; None: as the schedule says.
        layer_decay: Factor of the rate from each stage of the model to the one before it, counted from the head.
        augment: Apply the augmentation.
        features_once: Where only the head learns and nothing random stands before it, compute its inputs once.
        begins_from_best: Begin from the best weights so far instead of the latest.
        prepare: Called with the model when the stage begins (also after a resume): growing, unfreezing.
    """

    name: str = "train"
    epochs: int | None = None
    steps: int | None = None
    trainable: Sequence[str] | None = None
    frozen: Sequence[str] = ()
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] | None = None
    warmup: float | None = None
    layer_decay: float = 1.0
    augment: bool = True
    features_once: bool = False
    begins_from_best: bool = False
    prepare: Callable[[nn.Module], None] | None = None

    def trains(self, name: str, *, default: bool = True) -> bool:
        """Whether a parameter learns in this stage; `default` where the stage says nothing of it."""
        if any(fnmatchcase(name, pattern) for pattern in self.frozen):
            return False
        return default if self.trainable is None else any(fnmatchcase(name, pattern) for pattern in self.trainable)


class Task(ABC):
    """What a batch means. One task, one file; a Config says its options.

    Args:
        config: The task's own options (its section `task` in the recipe, without the name).
        spec: The data's spec.
    """

    Config: type[AnyConfig] = AnyConfig
    name: ClassVar[str] = ""  # under which it is registered
    # Whether `forward` gives a model what `model_input` reads and nothing else, so that a head can be trained on features.
    reads_model_input: ClassVar[bool] = False

    def __init__(self, config: AnyConfig, spec: DataSpec) -> None:
        self.config = config
        self.spec = spec

    @abstractmethod
    def check(self, spec: DataSpec, model: nn.Module) -> None:
        """Refuse what cannot work before step one: label sets, widths, ranges. Cheap; shapes by a dry pass on meta tensors."""

    def cautions(self) -> Sequence[str]:
        """Sentences that should be known before training begins: what the options give up."""
        return ()

    def check_columns(self, columns: Columns) -> None:
        """Refuse values out of range by one scan over a split's compact tensors."""

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch, ctx: Context) -> Outputs:
        """Model inputs from a preprocessed batch, and the model's outputs by name (`logits`); shared by loss, judging, prediction, export."""

    @abstractmethod
    def updates(self, model: nn.Module) -> Sequence[Update]:
        """The updates of one step, in order."""

    def refuse_mixed(self, model: nn.Module) -> str | None:
        """Why rows mixed of two (mixup, CutMix) cannot be learned from, as a clause; None: they can."""
        return "its loss knows one target per row"

    def stages(self, model: nn.Module) -> Sequence[Stage]:
        """The stages of training; one by default."""
        return (Stage(),)

    def initial_state(self, model: nn.Module, batch_size: int) -> State:
        """What is carried from step to step besides parameters: hidden states per stream row, fade-in alpha."""
        return {}

    def feed(self, columns: Columns, *, batch_size: int, seed: int, training: bool, **options: Any) -> Feed:
        """How batches are drawn from a split: by default shuffled rows in training, rows in order in judging."""
        return IndexFeed(columns, batch_size=batch_size, seed=seed, shuffle=training, **options)

    @abstractmethod
    def metrics(self) -> Metrics:
        """A fresh accumulator for this task's metrics."""

    @abstractmethod
    def judge(self, outputs: Outputs, batch: Batch, metrics: Metrics) -> None:
        """Accumulate one batch on the device; `metrics.finish()` reads back once."""

    @abstractmethod
    def decode(self, outputs: Outputs) -> list[Prediction]:
        """Outputs -> one JSON-ready prediction per row."""

    def complete(self, predictions: list[Prediction], columns: Columns, first_row: int) -> list[Prediction]:
        """Add to the predictions for rows `first_row` … of raw columns what only those know: the words that tags belong to."""
        return predictions

    def generate(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        *,
        num: int = 1,
        prompt: str | None = None,
        **options: Any,
    ) -> list[Prediction]:
        """Make `num` samples: texts that begin with a prompt, JSON-ready.

        Raises:
            UsageError: The task's models decide about inputs and make none.
        """
        raise UsageError(
            f"A model of {self.name or 'this task'} makes nothing new; it decides about inputs.",
            where="generate",
            accepts="a model of the task text-generation",
            mend="`lamina predict BUNDLE INPUT` says what it decides",
        )

    @property
    def chooses_thresholds(self) -> bool:
        """Whether the config asks for decision thresholds, which cost a pass over the held-out rows."""
        return False

    def choose_thresholds(self, outputs: Outputs, columns: Columns) -> dict[str, float]:
        """Choose decision thresholds from the outputs for held-out labelled rows, use them from now on, and say them."""
        return {}

    def choose_rejection(self, metrics: Metrics) -> dict[str, float]:
        """Choose from judged validation rows what a row of a known class looks like, and say it; nothing by default."""
        return {}

    def insider_scores(self, outputs: Outputs) -> tuple[Tensor, float]:
        """How much each row looks like one of a known class, float (B,), and the least score that is not refused.

        Raises:
            UsageError: The task knows no classes, or no threshold was chosen.
        """
        raise UsageError(
            f"The task {self.name} has no known classes, so nothing can be an outsider.",
            where="refusing of outsiders",
            accepts="models that decide for one of several classes",
            mend="leave --reject or --outsiders out",
        )

    def thresholds_from(self, values: Mapping[str, float]) -> None:
        """Use these decision thresholds (as a bundle keeps them).

        Raises:
            ConfigError: The task knows no such threshold.
        """
        if values:
            raise ConfigError(
                f"The task takes no thresholds, but was given {', '.join(values)}.",
                where="thresholds",
                accepts="none",
                mend="leave them out",
            )

    def input_columns(self) -> Iterable[str]:
        """Raw columns from which predictions are made, those of them that the data has."""
        return ("image", "signal", "volume", "number", "category", "text", "text_pair")

    @property
    def monitor(self) -> tuple[str, str]:
        """(metric name, "max" or "min") by which the best checkpoint is chosen on the validation split."""
        return ("cross_entropy", "min")
