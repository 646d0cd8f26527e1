"""Transfer learning: which part of a network learns in which stage, at which rate, and in which mode the rest stands.

A network that has learned one thing elsewhere learns another in stages: a new head on the frozen body first, then all or
some of it with care. A model says what its stages are by `stages`: name -> prefixes of parameter names, from the input
to `head`. Everything here goes by these names, so that it holds for every model.

Source: Yosinski, Clune, Bengio, Lipson (2014), arXiv:1411.1792; Kumar, Raghunathan, Jones, Ma, Liang (2022),
arXiv:2202.10054 (why the head comes first); Howard, Ruder (2018), arXiv:1801.06146 (rates by layer).
"""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from torch import nn

from lamina.core.errors import ConfigError, nearest
from lamina.tasks.base import Stage
from lamina.tasks.stage_config import StageConfig

__all__ = [
    "body_names",
    "build_stages",
    "check_head_first",
    "freeze",
    "layer_rates",
    "model_stages",
    "set_modes",
    "stage_optimizer",
]

HEAD: Final = "head"
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


# --- the stages of a model ------------------------------------------------------------------------------------------


def model_stages(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """Stage name -> prefixes of parameter names, from the input to `head`, holding every parameter once.

    A model without `stages` of its own is taken by its children: each that has parameters is a stage, `head` the last.

    Example:
        >>> model = nn.Sequential()
        >>> model.body, model.head = nn.Linear(4, 3), nn.Linear(3, 2)
        >>> model_stages(model)
        {'body': ('body.',), 'head': ('head.',)}
    """
    own = getattr(model, "stages", None)
    if isinstance(own, Mapping):
        return {str(name): tuple(prefixes) for name, prefixes in own.items()}
    found: dict[str, tuple[str, ...]] = {name: (name,) for name, _ in model.named_parameters(recurse=False)}
    found |= {
        name: (f"{name}.",) for name, child in model.named_children() if next(child.parameters(), None) is not None
    }
    head = found.pop(HEAD, None)
    return found if head is None else {**found, HEAD: head}


def body_names(model: nn.Module) -> list[str]:
    """Names of all tensors in the model's state that are not the head's."""
    head = model_stages(model).get(HEAD, ())
    return [name for name in model.state_dict() if not name.startswith(head)] if head else list(model.state_dict())


def _require_head(model: nn.Module) -> None:
    if HEAD not in model_stages(model):
        raise ConfigError(
            f"{type(model).__name__} has no head that could be trained by itself.",
            where="key `stages`",
            accepts="a model whose last linear layer is its attribute `head`",
            mend="leave the section stages out, or choose another model: `lamina list models`",
        )


# --- from the recipe ------------------------------------------------------------------------------------------------


def build_stages(configs: Mapping[str, StageConfig], model: nn.Module) -> tuple[Stage, ...]:
    """The stages of a recipe for a model.

    Args:
        configs: Name -> options, in the order of training.
        model: Whose stages and parameters they name.

    Returns:
        One Stage each; every one after the first begins from the best weights so far.

    Raises:
        ConfigError: A stage names what the model has not, or leaves nothing to learn.
    """
    return tuple(
        Stage(
            name=name,
            epochs=config.epochs,
            steps=config.steps,
            trainable=_patterns(config.trainable, model, stage=name),
            frozen=_batch_norm_names(model) if config.freeze_batch_norm else (),
            optimizer=dict(config.optimizer),
            schedule=config.schedule,
            warmup=config.warmup,
            layer_decay=config.layer_decay,
            augment=config.augment,
            features_once=config.features == "auto",
            begins_from_best=number > 0,
        )
        for number, (name, config) in enumerate(configs.items())
    )


def _patterns(trainable: Sequence[str] | None, model: nn.Module, *, stage: str) -> tuple[str, ...]:
    """Patterns (fnmatch) of parameter names for what a recipe calls trainable."""
    if trainable is None:
        return ("*",)
    _require_head(model)
    known = model_stages(model)
    names = [name for name, _ in model.named_parameters()]
    patterns: list[str] = []
    for word in trainable:
        found = [f"{glob.escape(prefix)}*" for prefix in known[word]] if word in known else [word]
        if not any(fnmatchcase(name, pattern) for name in names for pattern in found):
            near = nearest(word, [*known, *names])
            raise ConfigError(
                f"The stage {stage!r} trains {word!r}, which fits no parameter of {type(model).__name__}.",
                where=f"key `stages.{stage}.trainable`",
                accepts=f"{', '.join(known)}, or patterns of parameter names such as head.*",
                mend=f"did you mean {near[0]!r}?" if near else "`lamina inspect MODEL` names the layers",
            )
        patterns += found
    if not patterns:
        raise ConfigError(
            f"The stage {stage!r} trains nothing.",
            where=f"key `stages.{stage}.trainable`",
            accepts=f"some of {', '.join(known)}",
            mend="name what shall learn, or leave trainable out for all of it",
        )
    return tuple(patterns)


def _batch_norm_names(model: nn.Module) -> tuple[str, ...]:
    return tuple(
        f"{module_name}.{name}" if module_name else name
        for module_name, module in model.named_modules()
        if isinstance(module, _BATCH_NORM)
        for name, _ in module.named_parameters(recurse=False)
    )


def check_head_first(
    configs: Mapping[str, StageConfig], model: nn.Module, *, head_is_new: bool, body_is_trained: bool
) -> None:
    """Refuse stages that change what was learned elsewhere while the head still guesses.

    The gradients of a head that knows nothing tear down features before it has learned to use them.

    Args:
        configs: Of the recipe.
        head_is_new: Nobody has trained the head yet.
        body_is_trained: The body's weights come from elsewhere; from scratch there is nothing to lose.

    Raises:
        ConfigError: A stage unfreezes the body before one has trained the head alone, and does not say that it may.
    """
    if not head_is_new or not body_is_trained:
        return
    for name, config in configs.items():
        stage = build_stages({name: config}, model)[0]
        learning = [key for key, _ in model.named_parameters() if stage.trains(key)]
        if not any(key in _body(model) for key in learning):
            if learning:
                return  # the head alone: from here on it is trained
            continue
        if config.allow_untrained_head:
            return
        raise ConfigError(
            f"The stage {name!r} changes the body while the head is new and has not been trained.",
            where=f"key `stages.{name}.trainable`",
            accepts="a stage before it in which the head learns alone: trainable: [head]",
            mend=f"put such a stage first, as photos-finetune does, or set stages.{name}.allow_untrained_head=true",
        )


def _body(model: nn.Module) -> Collection[str]:
    return set(body_names(model))


# --- in training ----------------------------------------------------------------------------------------------------


def freeze(model: nn.Module, stage: Stage, *, initially: Mapping[str, bool]) -> None:
    """Let learn what the stage says; a stage that says nothing keeps what the user had frozen (`initially`)."""
    for name, parameter in model.named_parameters():
        default = initially.get(name, parameter.requires_grad)
        parameter.requires_grad_(stage.trains(name, default=default))


def set_modes(model: nn.Module, stage: Stage) -> None:
    """Training mode for what learns, evaluation mode for what a stage has frozen: no dropout, no moving statistics.

    Batch norms whose weights are all frozen keep their statistics in any case. Modules that belong to no stage of the
    model (pooling, dropout before the head) train as soon as some of the body does.
    """
    model.train()
    if stage.trainable is not None:
        _rest(model)
    for module in model.modules():
        if isinstance(module, _BATCH_NORM):
            weights = list(module.parameters())
            if weights and not any(p.requires_grad for p in weights):
                module.eval()


def _rest(model: nn.Module) -> None:
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    stages = model_stages(model)
    learns = {name: any(key.startswith(prefixes) for key in learning) for name, prefixes in stages.items()}
    body_learns = any(learns[name] for name in stages if name != HEAD)
    for name, module in model.named_modules():
        owners = [
            stage
            for stage, prefixes in stages.items()
            if any(f"{name}.".startswith(prefix) or prefix.startswith(f"{name}.") for prefix in prefixes)
        ]
        # Of one module alone, not of its children: `blocks` may hold blocks of several stages.
        module.training = any(learns[owner] for owner in owners) if name and owners else body_learns


def stage_optimizer(base: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """The optimizer section in a stage; another optimizer than the recipe's takes nothing over from it."""
    if stage.optimizer.get("name", base.get("name")) != base.get("name"):
        return dict(stage.optimizer)
    return {**base, **stage.optimizer}


def layer_rates(model: nn.Module, names: Iterable[str], *, lr: float, decay: float) -> dict[str, float]:
    """Rates that fall from the head to the input: pattern of parameter names -> rate, for `optimizer.lr_by_name`.

    Args:
        model: Its stages count the depth, frozen ones too, so that a rate does not depend on what else learns.
        names: Of the parameters that learn.
        lr: The head's rate.
        decay: Factor from one stage to the one before it.

    Source: Howard, Ruder (2018), arXiv:1801.06146, section 3.2 ("discriminative fine-tuning", factor 1/2.6).

    Example:
        >>> model = nn.Sequential()
        >>> model.body, model.head = nn.Linear(4, 3), nn.Linear(3, 2)
        >>> layer_rates(model, ["body.weight", "head.weight"], lr=0.01, decay=0.5)
        {'body.*': 0.005, 'head.*': 0.01}
    """
    wanted = list(names)
    stages = model_stages(model)
    depth = {name: len(stages) - 1 - place for place, name in enumerate(stages)}
    return {
        f"{glob.escape(prefix)}*": lr * decay ** depth[name]
        for name, prefixes in stages.items()
        for prefix in prefixes
        if any(key.startswith(prefix) for key in wanted)
    }
