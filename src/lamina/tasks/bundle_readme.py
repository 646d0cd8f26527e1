"""The README.md inside a bundle: what it is, how to use it, how good it was."""

from __future__ import annotations

from lamina.core.bundle import BundleParts
from lamina.tasks.pipeline import Pipeline

_MAX_NAMES = 40


def write_readme(parts: BundleParts, pipeline: Pipeline) -> str:
    """Markdown for whoever finds the folder."""
    config = parts.config
    names = parts.labels.classes or parts.labels.targets
    learned = sum(parameter.numel() for parameter in pipeline.model.parameters())
    kind = "Classes" if parts.labels.classes else "Targets"
    sections = [
        f"# {config.model.name}, {config.task.name}",
        f"A trained network in the bundle format of Lamina {config.lamina}: {learned:,} learned parameters.",
        "## Use\n\n```\nlamina predict THIS_FOLDER INPUT\nlamina evaluate THIS_FOLDER --data PATH\n```\n\n"
        '```python\nimport lamina\n\nbundle = lamina.load_bundle("THIS_FOLDER")\nbundle.predict(inputs)\n```',
        f"## Input\n\n{_inputs(pipeline)}",
        f"## {kind} ({len(names)})\n\n{_listed(names)}",
    ]
    if parts.metrics.metrics:
        rows = "\n".join(f"| {_cell(name)} | {value:.6g} |" for name, value in sorted(parts.metrics.metrics.items()))
        sections.append(f"## Metrics at the best checkpoint\n\n| metric | value |\n| --- | --- |\n{rows}")
    if config.thresholds:
        rows = "\n".join(f"- {name}: {value:.6g}" for name, value in config.thresholds.items())
        sections.append(f"## Decision thresholds\n\nChosen on the validation split.\n\n{rows}")
    sections.append(
        "## Files\n\n"
        "`model.safetensors` weights; `config.json` task, model, data, and the sha256 of every other file; "
        "`preprocessing.json` what is done to the input; `labels.json` names in the order of the outputs; "
        "`metrics.json`; `golden.safetensors` a few inputs with their outputs, by which another machine can check "
        "that it computes the same. Nothing here is code."
    )
    return "\n\n".join(sections) + "\n"


def _inputs(pipeline: Pipeline) -> str:
    spec = pipeline.spec
    lines = []
    image = spec.columns.get("image")
    if image is not None:
        channels, height, width = image.shape
        lines.append(f"Images, {height} x {width}, {channels} channel{'s' if channels > 1 else ''}, {image.dtype}.")
    signal, volume = spec.columns.get("signal"), spec.columns.get("volume")
    if signal is not None:
        lines.append(
            f"Signals, {signal.shape[1]} steps, {signal.shape[0]} channel{'s' if signal.shape[0] > 1 else ''}."
        )
    if volume is not None:
        size = " x ".join(map(str, volume.shape[1:]))
        plural = "s" if volume.shape[0] > 1 else ""
        lines.append(f"Volumes, {size} (depth, height, width), {volume.shape[0]} channel{plural}, {volume.dtype}.")
    for role, words in (("number", "Numbers"), ("category", "Categories")):
        column = spec.columns.get(role)
        if column is not None:
            lines.append(f"{words}: {_listed([field.name for field in column.fields])}")
    steps = [str(step["name"]) for step in pipeline.preprocessing.describe()["steps"]]
    lines.append(f"Preprocessing, applied by the bundle itself: {', '.join(steps) or 'none'}.")
    return "\n\n".join(lines)


def _listed(names: list[str] | tuple[str, ...]) -> str:
    shown = ", ".join(_cell(name) for name in names[:_MAX_NAMES])
    return shown + (f", … (all {len(names)} in labels.json or config.json)" if len(names) > _MAX_NAMES else ".")


def _cell(text: str) -> str:
    """One line without what Markdown would take for markup; names come from the data."""
    plain = " ".join(text.split()).replace("|", "/")
    return f"`{plain.replace('`', chr(39))}`" if plain else "(empty)"
