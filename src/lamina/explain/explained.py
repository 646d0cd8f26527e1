"""Which output a view explains, in which quantity, and what it is called.

Of a classifier the logit of a class, or its probability; of two classes with one output, the logit of the first is the
negative of the second's. Of a regression a prediction. Without a task, outputs are logits of numbered classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lamina.core.errors import UsageError, nearest
from lamina.explain.activations import evaluating
from lamina.explain.views import Subject
from lamina.tasks.classification import Classification

__all__ = ["Explained", "Quantity", "describe_explained", "explain_output", "image_inputs", "output_names"]

Quantity = Literal["logit", "probability"]


@dataclass(frozen=True)
class Explained:
    """What is explained of a batch.

    Attributes:
        names: Of the outputs.
        target: Index of the explained output per row, (B,).
        quantity: `logit`, `probability` or `prediction`.
        values: (B,), of the explained output.
        predicted: Index of the largest output per row, (B,).
        probabilities: (B, outputs); None for a regression.
    """

    subject: Subject
    names: tuple[str, ...]
    target: Tensor
    quantity: str
    values: Tensor
    predicted: Tensor
    probabilities: Tensor | None

    def read(self, outputs: Tensor) -> Tensor:
        """The model's outputs as the quantity, one column per name; differentiable."""
        return _quantity(self.subject, outputs, self.quantity)

    def in_words(self) -> str:
        """For titles: `logit of the predicted class`."""
        one = len(set(self.target.tolist())) == 1
        if self.quantity == "prediction":
            return f"prediction of {self.names[int(self.target[0])]}"
        if bool((self.target == self.predicted).all()):
            return f"{self.quantity} of the predicted class"
        return f"{self.quantity} of class {self.names[int(self.target[0])]}" if one else self.quantity


def image_inputs(subject: Subject, view: str) -> Tensor:
    """The subject's input as a batch with positions (B, C, *positions).

    Raises:
        UsageError: There is none, or it has no positions (tables), or the model takes several tensors.
    """
    inputs = subject.inputs
    if inputs is None or (isinstance(inputs, Tensor) and inputs.is_meta):
        raise UsageError(
            "This view needs an input to look at.",
            where=f"view {view}",
            accepts="a file like those that the model was trained on, or a tensor in Python",
            mend=f"lamina inspect BUNDLE {view} --input FILE; in Python Subject(model, inputs=tensor)",
        )
    if not isinstance(inputs, Tensor) or inputs.ndim < 3 or not inputs.is_floating_point():
        got = f"shaped {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else "of several tensors"
        raise UsageError(
            f"The model reads inputs {got}, which have no positions that could be drawn.",
            where=f"view {view}",
            accepts="models of images, signals or volumes: (rows, channels, positions …)",
            mend="for tables, the view mistakes lists the rows that were judged wrongly",
        )
    return inputs


def output_names(subject: Subject, width: int) -> tuple[str, ...]:
    """Names of the outputs: classes, targets, or numbers."""
    classes = subject.spec.classes if subject.spec is not None else ()
    if len(classes) == width or (len(classes) == 2 and width == 1):
        return tuple(classes)
    targets = tuple(getattr(subject.task, "targets", ()))
    return targets if len(targets) == width else tuple(str(number) for number in range(width))


def explain_output(subject: Subject, inputs: Tensor, *, target: str | None, quantity: Quantity, view: str) -> Explained:
    """Run the model once and say what is explained.

    Args:
        target: Name or number of an output; None: what the model predicts, row by row.

    Raises:
        UsageError: No output is called so, or the outputs are no rows of numbers.
    """
    with evaluating(subject.model), torch.no_grad():
        outputs = subject.model(inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise UsageError(
            f"{type(subject.model).__name__} gives no row of numbers per input.",
            where=f"view {view}",
            accepts="a classifier or a regression: outputs (rows, classes)",
            mend="`lamina inspect MODEL layers` shows what it gives",
        )
    names = output_names(subject, outputs.shape[1])
    is_class = not _is_regression(subject)
    kind = quantity if is_class else "prediction"
    read = _quantity(subject, outputs, kind)
    probabilities = _quantity(subject, outputs, "probability") if is_class else None
    # The decision follows from the probabilities: a loss of its own may order the outputs otherwise.
    predicted = (probabilities if probabilities is not None else read.new_zeros(read.shape)).argmax(dim=1)
    if target is None:
        chosen = predicted
    else:
        chosen = torch.full((len(inputs),), _index(target, names, view), dtype=torch.int64, device=inputs.device)
    values = read.gather(1, chosen.unsqueeze(1)).squeeze(1)
    return Explained(subject, names, chosen, kind, values, predicted, probabilities)


def describe_explained(subject: Subject, row: int, explained: Explained) -> dict[str, Any]:
    """A row of a view's document: the input's name, what is explained and how large it is, and room for `methods`."""
    target, predicted = int(explained.target[row]), int(explained.predicted[row])
    described: dict[str, Any] = {
        "input": subject.input_names[row] if row < len(subject.input_names) else f"input {row}",
        "target": explained.names[target],
        explained.quantity: float(explained.values[row]),
    }
    if explained.probabilities is not None:
        described["predicted"] = explained.names[predicted]
        described["probability"] = float(explained.probabilities[row, target])
    return {**described, "methods": {}}


def _index(target: str, names: tuple[str, ...], view: str) -> int:
    if target in names:
        return names.index(target)
    if target.isdecimal() and int(target) < len(names):
        return int(target)
    near = nearest(target, names)
    raise UsageError(
        f"The model has no output called {target!r}.",
        where=f"view {view}, view.target",
        accepts=", ".join(names[:24]) + (f", … ({len(names)} in all)" if len(names) > 24 else ""),
        mend=f"view.target={near[0]}" if near else "leave view.target out to explain what is predicted",
    )


def _is_regression(subject: Subject) -> bool:
    return subject.task is not None and not isinstance(subject.task, Classification)


def _quantity(subject: Subject, outputs: Tensor, quantity: str) -> Tensor:
    classes = subject.spec.classes if subject.spec is not None else ()
    single = outputs.shape[1] == 1 and len(classes) == 2
    if quantity == "probability":
        if isinstance(subject.task, Classification):
            return subject.task.log_probs({"logits": outputs}).exp()
        if single:
            return torch.cat([nn.functional.logsigmoid(-outputs), nn.functional.logsigmoid(outputs)], dim=1).exp()
        return outputs.softmax(dim=1)
    if quantity == "logit" and single:
        return torch.cat([-outputs, outputs], dim=1)
    return outputs
