"""Every registered activation, loss, optimizer and norm of dense networks can be compiled into native steps.

Only traced and lowered here: the compiler is left out. Whether native steps compute the right thing is parity's matter.
"""

from __future__ import annotations

from typing import Any

import pytest

import lamina
from lamina.core import registry
from lamina.core.errors import ConfigError
from lamina.train import compiled, compiled_rule
from lamina.train.native.nodes import NotNativeError

_MLP = {"kind": "mlp", "hidden_sizes": [6]}
_NUMBERS = ("huber", "mae", "mse")
_BINARY = ("binary-cross-entropy", "binary-hinge")
_SEVERAL = {"weighted-sum": {"parts": [{"name": "cross-entropy"}, {"name": "hinge", "factor": 0.1}]}}


def refusal(monkeypatch: pytest.MonkeyPatch, data: Any, *, model: Any = _MLP, **sections: Any) -> str:
    """Why the steps are refused, with a compiler that refuses everything that reaches it."""

    def build(source: str) -> Any:
        raise NotNativeError(f"it reached the compiler with {source.count('static void kernel')} kernels")

    monkeypatch.setattr(compiled, "build", build)
    monkeypatch.setattr(compiled_rule, "find_compiler", lambda: "c++")
    with pytest.raises(ConfigError) as caught:
        lamina.fit(model, data, epochs=1, training={"batch_size": 32, "compile": "always"}, **sections)
    return str(caught.value)


@pytest.mark.parametrize("name", registry.names("activation"))
def test_activations(monkeypatch: pytest.MonkeyPatch, name: str):
    assert "reached the compiler" in refusal(monkeypatch, "digits", model={**_MLP, "activation": name})


@pytest.mark.parametrize("name", registry.names("loss"))
def test_losses(monkeypatch: pytest.MonkeyPatch, name: str):
    data = "diabetes" if name in _NUMBERS else "xor" if name in _BINARY else "digits"
    assert "reached the compiler" in refusal(monkeypatch, data, loss={"name": name, **_SEVERAL.get(name, {})})


@pytest.mark.parametrize("name", registry.names("optimizer"))
def test_optimizers(monkeypatch: pytest.MonkeyPatch, name: str):
    assert "reached the compiler" in refusal(monkeypatch, "digits", optimizer={"name": name})


@pytest.mark.parametrize("norm", ["batch-norm", "layer-norm"])
def test_norms_with_dropout_clipping_and_average(monkeypatch: pytest.MonkeyPatch, norm: str):
    model = {**_MLP, "norm": norm, "dropout": 0.2}
    assert "reached the compiler" in refusal(monkeypatch, "digits", model=model)


def test_a_convolutional_network_says_what_has_no_native_form(monkeypatch: pytest.MonkeyPatch):
    assert "convolution" in refusal(monkeypatch, "digits", model={"kind": "cnn", "blocks": [{"channels": 4}]})
