"""One engine for all: a GAN with two updates, a recurrent model with carried state, kNN without gradients; each resumes exactly."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lamina.core.errors import InterruptedRunError
from lamina.train.checkpoints import list_checkpoints, read_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = (EXAMPLES / "char_rnn.py").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def gan(folder):
    return load("gan_ring").make_trainer(folder, steps=120, evaluate_every=1, checkpoint_every=25)


def recurrent(folder):
    return load("char_rnn").make_trainer(folder, TEXT, steps=40, log_every=7)


def neighbours(folder):
    return load("knn").make_trainer(folder)


@pytest.mark.parametrize(("make", "stops"), [(gan, (1, 60, 119)), (recurrent, (1, 5, 33)), (neighbours, (1, 4, 9))])
def test_every_kind_resumes_bit_for_bit(make, stops, tmp_path):
    whole = make(tmp_path / "whole")
    expected = whole.fit()
    for stop in stops:
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(InterruptedRunError):
            make(folder).fit(until=stop)
        again = make(folder)
        result = again.fit(resume=True)
        assert result.metrics == expected.metrics
        last = [list_checkpoints(run / "checkpoints")[-1] for run in (tmp_path / "whole", folder)]
        first, second = (read_checkpoint(path) for path in last)
        assert first.tensors.keys() == second.tensors.keys()
        for group, tensors in first.tensors.items():
            for name, tensor in tensors.items():
                assert torch.equal(tensor, second.tensors[group][name]), (group, name)


def test_the_gan_learns_and_its_critic_leaves_the_generator_alone(tmp_path):
    trainer = load("gan_ring").make_trainer(None, steps=600)
    result = trainer.fit()
    assert result.metrics["valid/near_a_mode"] > 0.05
    assert {"discriminator/real", "discriminator/fake", "generator/fooling"} <= {
        name.removeprefix("train/") for name in result.metrics
    }


def test_the_recurrent_state_is_carried_and_saved(tmp_path):
    trainer = recurrent(tmp_path)
    trainer.fit()
    state = read_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1]).tensors["state"]
    assert state["hidden"].shape == (16, 64)
    assert state["hidden"].abs().sum() > 0


def test_the_recurrent_model_beats_letter_frequencies():
    result = load("char_rnn").make_trainer(None, TEXT, steps=200).fit()
    assert result.metrics["train/cross_entropy"] < 3.0


def test_neighbours_judge_the_digits():
    assert neighbours(None).fit().metrics["valid/accuracy"] > 0.95
