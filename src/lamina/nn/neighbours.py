"""Exact nearest neighbours: a cheap product proposes, a bound on its error proves, float64 decides.

**What is exact.** `NeighbourIndex.search` returns, for each query, the k rows with the smallest (key, row number), in that
order, where the key is computed in float64 from the float32 values as they stand: for `l2` the sum of (x - q)**2, for `l1`
the sum of |x - q|, for `cosine` 2 - 2 (x . q) / (|x| |q|), a zero vector being at right angles to everything. Equal keys go
to the lower row number. No row is left out because a fast product judged it wrongly; that is proved per query as follows.

**The bound (l2, cosine).** Write x and q for a row and a query after any common shift c (distances do not change; we take the
mean of the rows, which makes the products small), and after scaling to length 1 for cosine. Let a and b be what the product
is computed from: x and q rounded to bf16, or to float32. With e = x - a and f = q - b,

    x.q  =  a.b + a.f + e.q  <=  a.b + |a| |f| + |e| |q|                      (Cauchy and Schwarz)

The norms |e| and |f| are measured, not estimated: x' - a is exact in float32 where a is x' rounded to bf16, and what the
shift itself rounds off is at most 2**-23 |x'|. Hence

    -d**2 / 2  <=  a.b + |a| |f| + |e| |q| - |x|**2 / 2 - |q|**2 / 2  =:  u

Every term of u is a product of something of the row with something of the query, so u is one matrix product over rows and
queries widened by eight columns: the halved squared norms split into three bf16 parts against ones, and the two pairs of
error norms, rounded away from zero. The product sums n terms in float32, in any order, with an error of at most
g = n v / (1 - n v) times the sum of the terms' absolute values, where v = 2**-23 (twice the unit roundoff, for hardware that
truncates). That error is added to the same columns beforehand, so that the sum before the last rounding is >= -d**2 / 2. Rounding
the result to bf16 is monotone and moves it by at most 2**-8 of itself. So each computed score gives a lower bound of the
distance, larger scores give lower bounds that are smaller, and all rows not among the m best scores are at least as far as the
bound of the m-th. When the k-th nearest of those m is nearer than that, the query is proved. Where it is not, all rows
whose own bound does not exclude them are measured in float64: the result is exact whatever the data; only the time differs.

For l1 the score is the float32 distance itself, with a relative error of at most g.

What is assumed of the product: bf16 and float32 products accumulate in at least float32 and round to bf16 once. It is used in bf16
only on processors with bf16 instructions; elsewhere in float32, and in float64 where float32 products are set to be rounded.

Source of the error analysis: Higham (2002), "Accuracy and Stability of Numerical Algorithms", 2nd ed., sections 3.1 and 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor

from lamina.core.errors import ShapeError

Metric = Literal["l1", "l2", "cosine"]

# Sizes at which the pieces stay in a processor's caches; they change the time, never the result.
_QUERIES_AT_ONCE: Final = 512
_ROWS_AT_ONCE: Final = 65_536
_PAIR_VALUES: Final = 1 << 18  # float32 values gathered at once while measuring pairs: 1 MiB
_PREPARED_VALUES: Final = 1 << 20
_L1_VALUES: Final = 1 << 17  # float32 values of rows held in the cache while queries pass over them

_WIDENED_AT_ONCE: Final = 64

_EXTRA: Final = 8  # columns that carry norms and error bounds
_MOST_FEATURES: Final = 500_000  # beyond, the bound on a sum's error says nothing
_UNIT32: Final = 2.0**-24
_UNIT16: Final = 2.0**-8


@dataclass
class SearchStatistics:
    """How the queries of an index were answered so far: `proved` from the shortlist, `widened` by measuring more rows."""

    queries: int = 0
    widened: int = 0
    measured: int = 0

    @property
    def proved(self) -> int:
        """Queries whose shortlist was proved complete."""
        return self.queries - self.widened


class NeighbourIndex:
    """Rows prepared for exact nearest-neighbour search.

    Args:
        rows: float32 (N, F), finite; or uint8, standing for `rows.float() * scale` in float32. Not copied.
        metric: `l2`, `l1` or `cosine`.
        scale: What uint8 rows are multiplied by.
        product: Element type of the proposing product; None: bf16 where the processor multiplies it natively, else float32.

    The preparation holds one more copy of the rows in the product's type (none for l1).

    Example:
        >>> index = NeighbourIndex(torch.tensor([[0.0], [1.0], [5.0]]), metric="l2")
        >>> keys, rows = index.search(torch.tensor([[0.9]]), k=2)
        >>> rows.tolist()
        [[1, 0]]
    """

    def __init__(self, rows: Tensor, *, metric: Metric, scale: float = 1.0, product: torch.dtype | None = None) -> None:
        if rows.ndim != 2 or rows.dtype not in (torch.float32, torch.uint8) or rows.shape[1] > _MOST_FEATURES:
            raise ShapeError(
                f"The rows of an index are shaped {tuple(rows.shape)}, {rows.dtype}.",
                where="NeighbourIndex, argument `rows`",
                accepts=f"float32 or uint8 tensor (rows, features), at most {_MOST_FEATURES:,} features",
                mend="rows.flatten(1).float()",
            )
        self.rows = rows
        self.metric: Metric = metric
        self._scale = torch.tensor(scale, dtype=torch.float32, device=rows.device)
        self.statistics = SearchStatistics()
        self.product = product or product_dtype(rows.device)
        self._gamma = _gamma(rows.shape[1] + _EXTRA)
        # What rounding a score to the product's type moves it by, doubled.
        self._rounding = 2 * (_UNIT16 if self.product == torch.bfloat16 else _UNIT32)
        self._norms: Tensor | None = None
        if metric == "cosine":
            step = self._rows_in_cache()
            norms = [
                torch.linalg.vector_norm(self._values(rows[start : start + step]), dim=1, dtype=torch.float64)
                for start in range(0, len(rows), step)
            ]
            self._norms = torch.cat(norms) if norms else torch.zeros(0, dtype=torch.float64, device=rows.device)
        if metric != "l1":
            self._prepare()

    def search(self, queries: Tensor, *, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest rows of each query.

        Args:
            queries: float32 (Q, F), finite.
            k: Neighbours, 1 <= k <= N.

        Returns:
            Keys float64 (Q, k), ascending, as the module defines them, and row numbers int64 (Q, k).
        """
        if queries.ndim != 2 or queries.shape[1] != self.rows.shape[1] or not 1 <= k <= len(self.rows):
            raise ShapeError(
                f"The queries are shaped {tuple(queries.shape)} and k is {k}.",
                where="NeighbourIndex.search",
                accepts=f"float32 tensor (queries, {self.rows.shape[1]}) and k from 1 to {len(self.rows)}",
                mend="queries.flatten(1) makes rows of images; store more rows for a larger k",
            )
        queries = queries.to(torch.float32)
        found = [self._search(chunk, k) for chunk in queries.split(_QUERIES_AT_ONCE)]
        if not found:
            return self.rows.new_zeros((0, k), dtype=torch.float64), self.rows.new_zeros((0, k), dtype=torch.int64)
        return torch.cat([keys for keys, _ in found]), torch.cat([rows for _, rows in found])

    # --- preparation -----------------------------------------------------------------------------------------------

    def _values(self, rows: Tensor) -> Tensor:
        """Rows as float32."""
        return rows if rows.dtype == torch.float32 else rows.to(torch.float32).mul_(self._scale)

    def _rows_in_cache(self, values: int = _PAIR_VALUES) -> int:
        return max(1, values // max(1, self.rows.shape[1]))

    def _prepare(self) -> None:
        """Centre, scale, round and widen the rows: `self._codes` (N, F + 8) in the product's type."""
        num_rows, width = self.rows.shape
        self._centre = torch.zeros(width, device=self.rows.device)
        step = self._rows_in_cache(_PREPARED_VALUES)
        for start in range(0, num_rows, step):  # any shift is valid, so the mean need not be accurate
            self._centre += self._scaled(self._values(self.rows[start : start + step])).sum(0) / num_rows
        self._codes = torch.empty(num_rows, width + _EXTRA, dtype=self.product, device=self.rows.device)
        self._largest = 0.0
        for start in range(0, num_rows, step):
            part = self._shifted(self._values(self.rows[start : start + step]))
            code = self._codes[start : start + step]
            self._largest = max(self._largest, self._fill(part, code, is_query=False))

    def _scaled(self, values: Tensor) -> Tensor:
        if self.metric != "cosine":
            return values
        norms = torch.linalg.vector_norm(values, dim=1, keepdim=True, dtype=torch.float64).float()
        return values / torch.where(norms > 0, norms, 1.0)

    def _shifted(self, values: Tensor) -> Tensor:
        return self._scaled(values) - self._centre

    def _fill(self, shifted: Tensor, code: Tensor, *, is_query: bool) -> float:
        """Write the code of rows or queries (B, F) into `code` (B, F + 8); returns the largest norm."""
        width, gamma = shifted.shape[1], self._gamma
        rounded = shifted.to(self.product)
        code[:, :width] = rounded
        kept = rounded.to(torch.float64 if self.product == torch.float64 else torch.float32)
        length = torch.linalg.vector_norm(shifted, dim=1, dtype=torch.float64)
        # What shifting, and scaling for cosine, rounded off: each is a few units in the last place of float32.
        hidden = 4 * _UNIT32 * length + (4 * _UNIT32 if self.metric == "cosine" else 0.0)
        # Measured in float32, whose own rounding and underflow are added.
        error = (
            torch.linalg.vector_norm(shifted - kept, dim=1).double() * (1 + 2 * gamma) + hidden + width**0.5 * 2.0**-62
        )
        lower = (length * (1 - 2.0**-40) - hidden).clamp(min=0)
        upper = length * (1 + 2.0**-40) + hidden
        size = upper + error  # |a| <= |x| + |e|
        halved = -0.5 * lower.square() / (1 + 2 * gamma)
        parts = torch.zeros(len(shifted), 3, dtype=self.product, device=shifted.device)
        for column in range(3):
            parts[:, column] = halved.to(self.product)
            halved = halved - parts[:, column].double()
        if is_query:
            own = [upper, (error + gamma * size) / (1 - gamma)]  # against the row's error and size
            code[:, width : width + 3] = 1.0
            code[:, width + 3 : width + 6] = parts
        else:
            own = [error / (1 - gamma), size]  # against the query's length and error
            code[:, width : width + 3] = parts
            code[:, width + 3 : width + 6] = 1.0
        code[:, width + 6] = _round_up(own[0], self.product)
        code[:, width + 7] = _round_up(own[1], self.product)
        return float(upper.max()) if len(upper) else 0.0

    # --- proposing -------------------------------------------------------------------------------------------------

    def _encode(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of queries, and per query the distance that underflow may hide, float64 (Q, 1)."""
        if self.metric == "l1":
            return queries, torch.zeros(len(queries), 1, dtype=torch.float64, device=queries.device)
        codes = torch.empty(len(queries), self._codes.shape[1], dtype=self.product, device=queries.device)
        shifted = self._shifted(queries)
        self._fill(shifted, codes, is_query=True)
        length = torch.linalg.vector_norm(shifted, dim=1, keepdim=True, dtype=torch.float64)
        return codes, codes.shape[1] * 2.0**-123 * (1 + length + self._largest)

    def _scores(self, codes: Tensor, start: int) -> Tensor:
        """Scores (Q, R) of the rows from `start`; the larger the nearer."""
        if self.metric != "l1":
            return codes @ self._codes[start : start + _ROWS_AT_ONCE].T
        rows = self.rows[start : start + _ROWS_AT_ONCE]
        scores = torch.empty(len(codes), len(rows), device=rows.device)
        step = self._rows_in_cache(_L1_VALUES)
        for first in range(0, len(rows), step):
            scores[:, first : first + step] = torch.cdist(codes, self._values(rows[first : first + step]), p=1.0)
        return scores.neg_()

    def _lower_bound(self, scores: Tensor, slack: Tensor) -> Tensor:
        """The least key, float64, that a row with this score can have."""
        scores = scores.double()
        if self.metric == "l1":
            return -scores / (1 + 2 * self._gamma)
        return -2 * (scores + self._rounding * scores.abs()) - slack

    def _threshold(self, cut: Tensor, slack: Tensor) -> Tensor:
        """A score, float64, below which `_lower_bound` exceeds `cut`; not above any score that it does not exclude."""
        if self.metric == "l1":
            return -cut * (1 + 4 * self._gamma)
        return -0.5 * (cut + slack) / (1 - self._rounding) * (1 + 2 * self._rounding)

    def _propose(self, codes: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The best scores (Q, count), descending, and their rows."""
        scores: Tensor | None = None
        found: Tensor | None = None
        for start in range(0, len(self.rows), _ROWS_AT_ONCE):
            part = self._scores(codes, start)
            best = part.topk(min(count, part.shape[1]), dim=1, sorted=True)
            rows = best.indices + start
            if scores is None or found is None:
                scores, found = best.values, rows
            else:
                merged = torch.cat([scores, best.values], dim=1)
                best = merged.topk(min(count, merged.shape[1]), dim=1, sorted=True)
                scores, found = best.values, torch.cat([found, rows], dim=1).gather(1, best.indices)
        assert scores is not None
        assert found is not None
        return scores, found

    # --- deciding --------------------------------------------------------------------------------------------------

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        num_rows = len(self.rows)
        count = min(num_rows, _shortlist(k))
        codes, slack = self._encode(queries)
        scores, rows = self._propose(codes, count)
        bounds = self._lower_bound(scores, slack)

        # Measure the best few, then whatever their k-th does not exclude.
        first = min(count, k + 6)
        keys = torch.full_like(bounds, torch.inf)
        keys[:, :first] = self._keys(queries, rows[:, :first], exact=False)
        wanted = ~(bounds > self._cut(keys, k))  # so written, a NaN is wanted
        wanted[:, :first] = False
        keys[wanted] = self._keys(queries, rows, exact=False, where=wanted)
        cut = self._cut(keys, k)
        keys, rows = self._decide(queries, keys, rows, cut, k)

        self.statistics.queries += len(queries)
        if count < num_rows:
            unproved = (~(bounds[:, -1:] > cut))[:, 0].nonzero()[:, 0]
            self.statistics.widened += len(unproved)
            for some in unproved.split(_WIDENED_AT_ONCE) if len(unproved) else ():
                keys[some], rows[some] = self._widen(queries[some], codes[some], slack[some], cut[some], k)
        return keys, rows

    def _cut(self, keys: Tensor, k: int) -> Tensor:
        """From keys measured in float32: what the k-th nearest row's key, exact or so measured, cannot exceed; float64 (Q, 1)."""
        kth = keys.topk(k, dim=1, largest=False, sorted=False).values.amax(1, keepdim=True)
        if self.metric == "cosine":  # measured in float64 always
            return kth + 2.0**-40
        return kth * (1 + 5 * self._gamma) + self.rows.shape[1] * 2.0**-120  # and what underflow may hide

    def _decide(self, queries: Tensor, keys: Tensor, rows: Tensor, cut: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest among `rows`, ordered by float64 keys; only those that `cut` does not exclude are measured."""
        close = ~(keys > cut)
        keys = torch.full_like(keys, torch.inf)
        keys[close] = self._keys(queries, rows, exact=True, where=close)
        return _order(keys, rows, k)

    def _widen(self, queries: Tensor, codes: Tensor, slack: Tensor, cut: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest among all rows that their own bound does not exclude."""
        keys = torch.full((len(queries), 0), torch.inf, dtype=torch.float64, device=queries.device)
        rows = torch.zeros((len(queries), 0), dtype=torch.int64, device=queries.device)
        for start in range(0, len(self.rows), _ROWS_AT_ONCE):
            scores = self._scores(codes, start)
            pairs = (~(scores < self._threshold(cut, slack).to(scores.dtype))).nonzero()
            numbers = torch.bincount(pairs[:, 0], minlength=len(queries))
            place = torch.arange(int(numbers.max()), device=rows.device).expand(len(queries), -1)
            wanted = place < numbers.unsqueeze(1)
            part = torch.zeros_like(place)
            part[wanted] = pairs[:, 1] + start
            near = torch.full(part.shape, torch.inf, dtype=torch.float64, device=rows.device)
            near[wanted] = self._keys(queries, part, exact=False, where=wanted)
            near[wanted & ~(near > cut)] = self._keys(queries, part, exact=True, where=wanted & ~(near > cut))
            keys, rows = _order(torch.cat([keys, near], dim=1), torch.cat([rows, part], dim=1), k)
        return keys, rows

    def _keys(self, queries: Tensor, rows: Tensor, *, exact: bool, where: Tensor | None = None) -> Tensor:
        """Keys of pairs, as float64 shaped like `rows` (Q, C), or flat for the pairs that `where` marks.

        Not `exact` means in float32 arithmetic, with a relative error of at most gamma before squaring (l2) or as it is (l1).
        """
        if where is None:
            pair_query = torch.arange(len(queries), device=rows.device).repeat_interleave(rows.shape[1])
            pair_row = rows.reshape(-1)
        else:
            pair_query, pair_row = where.nonzero()[:, 0], rows[where]
        self.statistics.measured += len(pair_row)
        keys = torch.empty(len(pair_row), dtype=torch.float64, device=rows.device)
        step = self._rows_in_cache()
        for start in range(0, len(pair_row), step):
            chosen = slice(start, start + step)
            values = self._values(self.rows.index_select(0, pair_row[chosen]))
            others = queries.index_select(0, pair_query[chosen])
            if self.metric == "cosine":
                assert self._norms is not None
                norms = self._norms[pair_row[chosen]] * torch.linalg.vector_norm(others, dim=1, dtype=torch.float64)
                inner = values.double().mul_(others).sum(1)
                keys[chosen] = 2 - 2 * torch.where(norms > 0, inner / norms, 0.0)
            elif exact:
                gaps = values.double().sub_(others)
                keys[chosen] = gaps.abs_().sum(1) if self.metric == "l1" else gaps.square_().sum(1)
            else:
                norm = torch.linalg.vector_norm(values.sub_(others), ord=1 if self.metric == "l1" else 2, dim=1)
                keys[chosen] = norm.double() if self.metric == "l1" else norm.double().square_()
        return keys.view(rows.shape) if where is None else keys


def product_dtype(device: torch.device) -> torch.dtype:
    """The element type of the proposing product: bf16 where it is native, float64 where float32 products are rounded."""
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
        if native and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
            return torch.bfloat16
    return torch.float32 if torch.get_float32_matmul_precision() == "highest" else torch.float64


def _shortlist(k: int) -> int:
    """Rows proposed for k neighbours: enough to prove most queries, also on noise, where the bounds exclude least."""
    return 4 * k + 216


def _gamma(terms: int) -> float:
    """Relative error of a sum of that many products in float32, in any order, with twice the unit roundoff."""
    return terms * 2 * _UNIT32 / (1 - terms * 2 * _UNIT32)


def _round_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Non-negative float64 values in a coarser type, not below what they were."""
    unit = {torch.bfloat16: 2.0**-7, torch.float32: 2.0**-23, torch.float64: 2.0**-52}[dtype]
    return (values * (1 + unit)).to(dtype)


def _order(keys: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest by (key, row number), in that order."""
    rows, place = rows.sort(dim=1)
    keys, order = keys.gather(1, place).sort(dim=1, stable=True)
    return keys[:, :k], rows.gather(1, order)[:, :k]
