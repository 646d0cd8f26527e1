"""TextCNN beside its formula, text by text and window by window, in float64: outputs and gradients.

The tolerance is that of sums of some hundred float64 products added up in another order.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lamina.models.factory import create_model

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def by_the_formula(state: dict[str, Tensor], widths: tuple[int, ...], words: list[int]) -> Tensor:
    """Logits of one text: max over windows of relu(w . x + b), a window being centred on each word (the left one of two middles)."""
    vectors = state["embedding.weight"][torch.tensor(words)]  # (T, E)
    empty = torch.zeros_like(vectors[0])
    pooled = []
    for number, width in enumerate(widths):
        kernel, bias = state[f"convolutions.{number}.weight"], state[f"convolutions.{number}.bias"]
        values = []
        for centre in range(len(words)):
            places = range(centre - (width - 1) // 2, centre - (width - 1) // 2 + width)
            window = torch.stack([vectors[p] if 0 <= p < len(words) else empty for p in places])  # (width, E)
            values.append(torch.einsum("oek,ke->o", kernel, window) + bias)
        pooled.append(torch.stack(values).relu().max(dim=0).values)
    return state["head.weight"] @ torch.cat(pooled) + state["head.bias"]


def test_outputs_and_gradients() -> None:
    widths = (1, 2, 3, 4, 5)
    model = create_model(
        "textcnn", seed=3, vocab_size=20, embedding_size=5, num_maps=6, widths=widths, num_classes=3, dropout=0.0
    ).double()
    texts = [[4, 7, 9, 11, 2, 4, 4, 19], [3], [5, 6], [8, 8, 1]]
    longest = max(map(len, texts)) + 2
    ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts])
    mask = torch.arange(longest) < torch.tensor([[len(text)] for text in texts])
    weights = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    outputs = model.train()(ids, mask)
    (outputs * weights).sum().backward()
    state = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    wanted = torch.stack([by_the_formula(state, widths, text) for text in texts])
    (wanted * weights).sum().backward()

    torch.testing.assert_close(outputs, wanted, **TOLERANCE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, state[name].grad, **TOLERANCE, msg=name)


def test_a_step_of_the_optimizer() -> None:
    model = create_model(
        "textcnn", seed=4, vocab_size=9, embedding_size=3, num_maps=2, widths=(2, 3), dropout=0.0
    ).double()
    state = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    text = [2, 5, 7, 3]
    for parameters, logits in (
        (list(model.parameters()), lambda: model(torch.tensor([text]))[0]),
        (list(state.values()), lambda: by_the_formula(state, (2, 3), text)),
    ):
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits().unsqueeze(0), torch.tensor([1])).backward()
            optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), state[name].detach(), **TOLERANCE)
