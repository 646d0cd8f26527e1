"""Whether flips keep the classes: a six turned over is a nine, a hand mirrored is the other hand.

Two witnesses. The names: digits and letters change or lose their meaning when mirrored or turned, but a class called B
may be a photo of a hand that spells it. The data: flipped training images are looked up among all training images; where
the nearest neighbours of one class's flipped images belong mostly to one other class, the flip changes the label; where
they scatter, flipped images are merely unlike those that are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from lamina.data.augment.geometric import FlipHorizontal, FlipVertical, Rotate
from lamina.data.augmentation import Augmentation
from lamina.data.columns import Columns, DataSpec

__all__ = ["Flip", "check_flips", "flips_of", "suspicious_names"]

_LARGE_ANGLE: Final = 60.0
_MOST_ROWS: Final = 2000
_MOST_DECODED: Final = 300
_MOST_FLIPPED: Final = 400
_SIDE: Final = 16
# Shares of flipped images of a class in one other class, from which on the flip is said to change the class; and the loss
# of own neighbours below which nothing is said.
_MOVED: Final = 0.5
_NOTICED: Final = 0.1
# Share of unflipped images with a neighbour of their class below which neighbours are no witnesses.
_TRUSTED: Final = 0.6
_FEWEST: Final = 5

_MIRRORED: Final = {"b": "d", "d": "b", "p": "q", "q": "p", "2": "5", "5": "2", "s": "z", "z": "s"}
_UPSIDE: Final = {"b": "p", "p": "b", "d": "q", "q": "d", "m": "w", "w": "m", "n": "u", "u": "n", "6": "9", "9": "6"}
_TURNED: Final = {
    "6": "9", "9": "6", "b": "q", "q": "b", "d": "p", "p": "d", "m": "w", "w": "m", "n": "u", "u": "n",
}  # fmt: skip
_CONFUSED: Final = {"flip_horizontal": _MIRRORED, "flip_vertical": _UPSIDE, "rotate": _TURNED}
# Capitals and digits that look the same in a mirror; the others become signs that nobody writes.
_SYMMETRIC: Final = {
    "flip_horizontal": frozenset("AHIMOTUVWXY08ilovwx"),
    "flip_vertical": frozenset("BCDEHIKOX038clox"),
    "rotate": frozenset("HINOSXZ08losxz"),
}


@dataclass(frozen=True)
class Flip:
    """What a flip does to the classes.

    Attributes:
        step: `flip_horizontal`, `flip_vertical` or `rotate` (by large angles, tried upside down).
        names: What the names of the classes give reason to fear; empty: nothing.
        kept: Share of unflipped images whose nearest neighbour has their class.
        kept_flipped: The same of flipped images.
        moves: (class, other class, share) of the classes whose flipped images lie mostly in one other class.
        num_images: Flipped images that were looked up; 0: none, the names are all that is known.
    """

    step: str
    names: tuple[str, ...] = ()
    kept: float = 0.0
    kept_flipped: float = 0.0
    moves: tuple[tuple[str, str, float], ...] = field(default=())
    num_images: int = 0

    @property
    def verdict(self) -> str:
        """`changes`: to other classes; `unlike`: to images unlike the known; `keeps`; `unknown`: only the names speak."""
        if not self.num_images or self.kept < _TRUSTED:
            return "unknown"
        if self.moves:
            return "changes"
        return "unlike" if self.kept - self.kept_flipped > _NOTICED else "keeps"

    @property
    def warns(self) -> bool:
        """Whether a person should think about it: the data says that labels change, or says nothing where the names do."""
        return self.verdict == "changes" or (bool(self.names) and self.verdict == "unknown")

    def sentence(self) -> str:
        """What was found, in words."""
        what = "rotate upside down" if self.step == "rotate" else self.step
        parts = []
        if self.names:
            parts.append(f"by their names the classes may not survive it ({'; '.join(self.names)})")
        if self.num_images:
            found = f"{self.kept_flipped:.0%} of flipped images have a nearest neighbour of their own class, {self.kept:.0%} unflipped"
            if self.verdict == "unknown":
                parts.append(f"{found}: neighbours by pixels know these images too little to say more")
            elif self.moves:
                listed = ", ".join(f"{own} becomes {other} ({share:.0%})" for own, other, share in self.moves[:4])
                parts.append(f"{found}: {listed}")
            elif self.verdict == "unlike":
                parts.append(f"{found}; they scatter, so the flipped look like nothing known rather than another class")
            else:
                parts.append(f"{found}: the classes survive it")
        return f"{what}: {'; '.join(parts)}." if parts else f"{what}: nothing speaks against it in the names."

    def describe(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "step": self.step,
            "verdict": self.verdict,
            "warns": self.warns,
            "names": list(self.names),
            "num_images": self.num_images,
            "kept": round(self.kept, 4),
            "kept_flipped": round(self.kept_flipped, 4),
            "moves": [{"class": own, "becomes": other, "share": round(share, 4)} for own, other, share in self.moves],
            "sentence": self.sentence(),
        }


def flips_of(augmentation: Augmentation) -> tuple[str, ...]:
    """The flips among its steps, and `rotate` where it turns by large angles; those inside policies too."""
    found: dict[str, None] = {}
    for leaf in augmentation.geometric:
        step = leaf.step
        if isinstance(step, FlipHorizontal) and step.config.prob > 0:
            found["flip_horizontal"] = None
        elif isinstance(step, FlipVertical) and step.config.prob > 0:
            found["flip_vertical"] = None
        elif isinstance(step, Rotate) and step.config.degrees >= _LARGE_ANGLE:
            found["rotate"] = None
    return tuple(found)


def suspicious_names(step: str, classes: Sequence[str]) -> tuple[str, ...]:
    """What the names of the classes give reason to fear of a flip; empty unless most names are single digits or letters."""
    single = [name for name in classes if len(name) == 1 and name.isascii() and name.isalnum()]
    if not single or len(single) < 0.8 * len(classes):
        return ()
    known = {name: name for name in single}
    folded = {name.lower(): name for name in single}
    found, said = [], set()
    for name in single:
        other = _CONFUSED[step].get(name) or (
            _CONFUSED[step].get(name.lower()) if name.isupper() and name in "MWNZ" else None
        )
        partner = known.get(other or "") or (folded.get(other or "") if name.isupper() else None)
        if partner is not None and partner != name and frozenset((name, partner)) not in said:
            said.add(frozenset((name, partner)))
            found.append(f"{name} and {partner} may change places")
    odd = [name for name in single if name not in _SYMMETRIC[step] and not any(name in pair for pair in said)]
    if odd:
        listed = ", ".join(odd[:8]) + (", …" if len(odd) > 8 else "")
        found.append(f"{listed} become signs that nobody writes")
    return tuple(found)


def check_flips(augmentation: Augmentation, spec: DataSpec, columns: Columns | None = None) -> tuple[Flip, ...]:
    """What each flip among the steps does to the classes.

    Args:
        augmentation: Of the recipe.
        spec: Of the data, with its classes.
        columns: The training split, on which the flips are tried: up to 400 images, looked up among up to 2,000 (300, where
            they must be decoded) by the Euclidean distance of their pixels at 16x16. None: names alone.
    """
    steps = flips_of(augmentation)
    names = {step: suspicious_names(step, spec.classes) for step in steps}
    if columns is None or not steps or "label" not in columns or columns.num_rows < 2 * _FEWEST:
        return tuple(Flip(step, names[step]) for step in steps)
    pictures, labels = _pictures(columns)
    return tuple(_measured(step, names[step], pictures, labels, spec.classes) for step in steps)


def _pictures(columns: Columns) -> tuple[Tensor, Tensor]:
    """Evenly spread rows as small images, float32 (N, C, 16, 16) at most, and their labels."""
    count = min(_MOST_ROWS if columns.in_memory else _MOST_DECODED, columns.num_rows)
    rows = torch.linspace(0, columns.num_rows - 1, count).round().to(torch.int64)
    small, labels = [], []
    for piece in rows.split(256):
        batch = columns.batch(piece)
        images = batch["image"].to(torch.float32)
        height, width = images.shape[-2:]
        small.append(functional.adaptive_avg_pool2d(images, (min(height, _SIDE), min(width, _SIDE))))
        labels.append(batch["label"])
    return torch.cat(small), torch.cat(labels)


def _measured(step: str, names: tuple[str, ...], pictures: Tensor, labels: Tensor, classes: Sequence[str]) -> Flip:
    tried = torch.linspace(0, len(pictures) - 1, min(_MOST_FLIPPED, len(pictures))).round().to(torch.int64)
    axes: Mapping[str, tuple[int, ...]] = {"flip_horizontal": (3,), "flip_vertical": (2,), "rotate": (2, 3)}
    known, own = pictures.flatten(1), labels[tried]
    plain, turned = (
        _neighbours(images.flatten(1), known, tried, labels)
        for images in (pictures[tried], pictures[tried].flip(axes[step]))
    )
    moves = []
    for label in own.unique().tolist():
        mine = own == label
        if int(mine.sum()) < _FEWEST:
            continue
        counts = torch.bincount(turned[mine], minlength=len(classes))
        other = int(counts.argmax())
        share = float(counts[other] / mine.sum())
        stays = float((plain[mine] == label).float().mean())
        if other != label and share >= _MOVED and stays >= _MOVED:
            moves.append((classes[label], classes[other], share))
    moves.sort(key=lambda move: -move[2])
    return Flip(
        step,
        names,
        kept=float((plain == own).float().mean()),
        kept_flipped=float((turned == own).float().mean()),
        moves=tuple(moves),
        num_images=len(tried),
    )


def _neighbours(images: Tensor, known: Tensor, tried: Tensor, labels: Tensor) -> Tensor:
    """Label of each image's nearest neighbour among the known, the image itself left out."""
    distances = torch.cdist(images, known)
    distances[torch.arange(len(tried)), tried] = torch.inf
    return labels[distances.argmin(dim=1)]
