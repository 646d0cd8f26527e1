"""PCA and ZCA: projections on the principal axes of the training split."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lamina.core.config import Config, Field
from lamina.core.errors import DataError
from lamina.core.registry import register
from lamina.data.columns import FieldSpec
from lamina.data.preprocess.flow import Affine, Chunks, Flow, Layout, Operation, Product, Step, moments, no_rows, refuse

# A covariance of this width takes 512 MiB in float64 and some minutes to decompose.
MAX_WIDTH = 8192
# 2 GiB in float64, for rows that are wider than numerous.
MAX_ELEMENTS = 1 << 28


class PcaConfig(Config):
    """How many axes are kept and whether they are brought to unit variance."""

    num_components: int | None = Field(None, description="Axes kept, those of largest variance; all by default.", ge=1)
    variance: float | None = Field(
        None, description="Keep the fewest axes that hold this share of the variance, instead of a number.", gt=0, le=1
    )
    whiten: bool = Field(False, description="Divide each component by its standard deviation.")


class ZcaConfig(Config):
    """Regularisation of the whitening."""

    epsilon: float = Field(1e-5, description="Added to each variance; larger values amplify noise less.", ge=0)


def principal_axes(flow: Flow, chunks: Chunks, *, step: Step, whole: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (D,), variances (K,) falling, divided by N - 1, and axes (D, K) of the rows, in float64.

    With `whole` all D axes come, those without variance too; otherwise at least those that have some.
    Each axis points so that its largest element (by size) is positive, which makes the result unique.

    Raises:
        DataError: Fewer than two rows, or values are missing.
        ConfigError: The rows are too wide.
    """
    found = moments(lambda: ((values.flatten(1), none) for values, none in chunks()), (0,))
    num_rows = int(found.count.max())
    if num_rows < 2:
        raise no_rows()
    if bool((found.count < num_rows).any()):
        worst = int(found.count.argmin())
        raise DataError(
            f"The {flow.name(worst)} has {num_rows - int(found.count[worst])} missing values.",
            where=f"preprocess, step {step.name!r}",
            accepts="complete rows",
            mend="put {name: impute} before it",
        )
    width = flow.width
    small = num_rows < width and not whole
    if (small and num_rows * width > MAX_ELEMENTS) or (not small and width > MAX_WIDTH):
        raise refuse(
            step,
            f"A row has {width} elements, and there are {num_rows} rows.",
            accepts=f"rows of at most {MAX_WIDTH} elements"
            + ("" if whole else f", or at most {MAX_ELEMENTS} elements in all"),
            mend="use standardise instead, or smaller images",
        )
    if small:  # fewer rows than elements: their small Gram matrix has the same variances
        rows = torch.cat([values.flatten(1) for values, _ in chunks()]) - found.mean
        variances, left = torch.linalg.eigh(rows @ rows.T / (num_rows - 1))
        keep = variances > variances.max().clamp(min=0) * (torch.finfo(torch.float64).eps * width)
        variances, left = variances[keep].flip(0), left[:, keep].flip(1)
        axes = rows.T @ (left / (variances * (num_rows - 1)).sqrt())
    else:
        covariance = torch.zeros(width, width, dtype=torch.float64)
        for values, _ in chunks():
            deviation = values.flatten(1) - found.mean
            covariance.addmm_(deviation.T, deviation)
        variances, axes = torch.linalg.eigh(covariance / (num_rows - 1))
        variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    if len(variances) == 0 or float(variances[0]) == 0.0:
        raise DataError(
            f"All {num_rows} training rows are the same; they have no axes.",
            where=f"preprocess, step {step.name!r}",
            accepts="rows that differ",
            mend="look at the data with `lamina data`, or leave the step out",
        )
    largest = axes.abs().argmax(0)
    signs = axes.gather(0, largest.unsqueeze(0)).sign()
    return found.mean, variances, axes * torch.where(signs == 0, torch.ones_like(signs), signs)


@register(
    "preprocessing",
    "pca",
    config=PcaConfig,
    source="Pearson (1901), doi:10.1080/14786440109462720; scikit-learn `PCA`",
    example="lamina train mnist-knn 'preprocess=[{name: scale}, {name: pca, num_components: 50}]'",
)
class Pca(Step):
    """Project on the axes of largest variance in training; gives features."""

    Config = PcaConfig
    name = "pca"

    def check(self, flow: Flow) -> None:
        """Refuse more axes than elements, and two ways of choosing their number."""
        wanted = self.options().num_components
        if wanted is not None and self.options().variance is not None:
            raise refuse(
                self,
                "Both num_components and variance say how many axes to keep.",
                accepts="one of them",
                mend="leave one out",
            )
        if wanted is not None and wanted > flow.width:
            raise refuse(
                self,
                f"{wanted} components are wanted, but a row has {flow.width} elements.",
                accepts=f"1 to {flow.width}",
                mend=f"use num_components: {flow.width} or fewer",
            )

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Mean, variances and axes."""
        options = self.options()
        mean, variances, axes = principal_axes(flow, chunks, step=self)
        keep = len(variances)
        if options.num_components is not None:
            keep = options.num_components
            if keep > len(variances):
                raise refuse(
                    self,
                    f"{keep} components are wanted, but the training rows span {len(variances)} only.",
                    accepts=f"1 to {len(variances)}",
                    mend=f"use num_components: {len(variances)}, or more rows",
                )
        elif options.variance is not None:
            shares = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(torch.float64).tiny)
            keep = min(int((shares < options.variance).sum()) + 1, len(variances))
        self.state = {"mean": mean, "variance": variances[:keep].clone(), "axes": axes[:, :keep].float()}

    def layout(self, flow: Flow) -> Layout:
        """The number of axes is the data's."""
        return {
            "mean": (torch.float64, (flow.width,)),
            "variance": (torch.float64, (-1,)),
            "axes": (torch.float32, (flow.width, -1)),
        }

    def is_consistent(self, flow: Flow) -> bool:
        """As many axes as variances, at least one."""
        return 0 < len(self.state["variance"]) == self.state["axes"].shape[1]

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A subtraction, then a product."""
        axes = self.state["axes"].double()
        if self.options().whiten:
            axes = axes * _inverse_root(self.state["variance"], 0.0)
        mean = self.state["mean"].reshape(flow.shape)
        return [Affine(torch.ones_like(mean), -mean), Product(axes, (axes.shape[1],))]

    def output(self, flow: Flow) -> Flow:
        """Components are measurements again."""
        fields = tuple(FieldSpec(name=f"component {i}") for i in range(self.state["axes"].shape[1]))
        return Flow("features", (len(fields),), fields=fields, categories=flow.categories)


@register(
    "preprocessing",
    "zca",
    config=ZcaConfig,
    source="Bell, Sejnowski (1997), doi:10.1016/S0042-6989(97)00121-1; Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images, appendix A",
    example="lamina train cifar10-linear 'preprocess=[{name: scale}, {name: zca, epsilon: 0.01}]'",
)
class Zca(Step):
    """Whiten while staying as near to the original as possible; images stay images."""

    Config = ZcaConfig
    name = "zca"

    def fit(self, flow: Flow, chunks: Chunks) -> None:
        """Mean and the symmetric whitening matrix."""
        mean, variances, axes = principal_axes(flow, chunks, step=self, whole=True)
        weight = (axes * _inverse_root(variances, self.options().epsilon)) @ axes.T
        self.state = {"mean": mean, "weight": weight.float()}

    def layout(self, flow: Flow) -> Layout:
        """A square matrix."""
        return {"mean": (torch.float64, (flow.width,)), "weight": (torch.float32, (flow.width, flow.width))}

    def operations(self, flow: Flow) -> Sequence[Operation]:
        """A subtraction, then a product."""
        mean = self.state["mean"].reshape(flow.shape)
        return [Affine(torch.ones_like(mean), -mean), Product(self.state["weight"].double(), flow.shape)]

    def output(self, flow: Flow) -> Flow:
        """The same shape; no known range, and marks are marks no longer."""
        return Flow(flow.kind, flow.shape, fields=flow.fields, categories=flow.categories)


def _inverse_root(variances: Tensor, epsilon: float) -> Tensor:
    """1 / sqrt(variance + epsilon); axes without variance, which rounding alone fills, become 0."""
    floor = variances.max().clamp(min=0) * (torch.finfo(torch.float64).eps * len(variances))
    regular = variances + epsilon
    return torch.where(regular > floor, regular.clamp(min=torch.finfo(torch.float64).tiny).rsqrt(), 0.0)
