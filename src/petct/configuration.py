"""Reading the settings: what is wrong with them, in words, before any job runs."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema


class Experiment(NamedTuple):
    """A row of the comparison: how it looks, with what, trained on whom."""

    strategy: str
    model: str
    cohort: str


def list_problems(config: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Everything that is wrong with ``config``, each as one sentence that names the key."""
    validator = jsonschema.Draft202012Validator(schema)
    problems = [
        f"{'.'.join(str(part) for part in error.absolute_path) or 'config'}: {error.message}"
        for error in sorted(validator.iter_errors(config), key=lambda e: list(map(str, e.path)))
    ]
    return problems or _list_contradictions(config)


def _list_contradictions(config: dict[str, Any]) -> list[str]:
    """What a schema cannot say: names that must exist, settings that exclude each other."""
    problems = []
    strategies, models, grids = (
        config["strategies"],
        config["models"],
        config["preprocessing"]["grids"],
    )
    if config["dataset"] in ("benchmark", "apply"):
        problems.append(
            f"dataset: results/{config['dataset']} is that target's; give it another name"
        )
    if config["apply_to"] is not None and not Path(config["apply_to"]).is_dir():
        problems.append(f"apply_to: {config['apply_to']} is not a folder")
    package = config["apply"]["package"]
    if package is not None and not Path(package).is_file():
        problems.append(f"apply.package: {package} is not a file")
    if config["source"] == "folder":
        if config["folder"] is None:
            problems.append("folder: source is folder, so give it: --config folder=/path/to/data")
        elif not Path(config["folder"]).is_dir():
            problems.append(f"folder: {config['folder']} is not a folder")
    if config["source"] == "idc" and config["collection"] is None:
        problems.append(
            "collection: source is idc, so give it: --config collection=fdg_pet_ct_lesions"
        )
    for key in ("list", "index"):
        path = config["download"][key]
        if path is not None and not Path(path).is_file():
            problems.append(f"download.{key}: {path} is not a file")
    reading = config["reading"]
    if reading["keys"] == "hashed" and reading["salt_file"] is None:
        problems.append("reading.salt_file: hashed keys need it: a file with a secret of your own")
    elif reading["salt_file"] is not None and not Path(reading["salt_file"]).is_file():
        problems.append(f"reading.salt_file: {reading['salt_file']} is not a file")
    for name, strategy in strategies.items():
        where = f"strategies.{name}"
        if strategy["grid"] not in grids:
            problems.append(
                f"{where}.grid: {strategy['grid']!r} is none of the grids ({_names(grids)})"
            )
        coarse = strategy["coarse"]
        if coarse is not None and coarse not in strategies:
            problems.append(
                f"{where}.coarse: {coarse!r} is none of the strategies ({_names(strategies)})"
            )
        elif coarse is not None and strategies[coarse]["coarse"] is not None:
            problems.append(f"{where}.coarse: {coarse!r} has a coarse strategy of its own")
        coarse_model = strategy.get("coarse_model")
        if coarse_model is not None and coarse_model not in models:
            problems.append(
                f"{where}.coarse_model: {coarse_model!r} is none of the models ({_names(models)})"
            )
        if coarse is None and (strategy["prior"] or strategy["regions"] == "boxes"):
            problems.append(f"{where}: a prior or boxes need a coarse strategy; coarse is null")
    problems += [
        f"models.{name}.inference: only nnUNet has its own; the others follow the section inference"
        for name, model in models.items()
        if "inference" in model and model["network"] != "nnUNet"
    ]
    for (name, model), (strategy_name, strategy) in itertools.product(
        models.items(), strategies.items()
    ):
        gpus = model.get("gpus", 1)
        sections = [config, strategy, model]
        batch = {k: v for s in sections for k, v in s.get("training", {}).items()}.get("batch_size")
        if model["network"] != "nnUNet" and batch % gpus:
            problems.append(
                f"models.{name}.gpus: {gpus} cannot share {strategy_name}'s batches of {batch}"
                " (training.batch_size) equally"
            )
    chosen = config["experiments"]
    for kind, known in (("strategies", strategies), ("models", models)):
        problems += [
            f"experiments.{kind}: {name!r} is not defined; known: {_names(known)}"
            for name in chosen[kind]
            if name not in known
        ]
    for number, rule in enumerate(chosen["exclude"]):
        for key, name in rule.items():
            known = {"strategy": strategies, "model": models, "cohort": ["all", "positive"]}[key]
            if name not in known:
                problems.append(
                    f"experiments.exclude[{number}].{key}: {name!r} is not defined;"
                    f" known: {_names(known)}"
                )
    if not problems and not list_experiments(chosen):
        problems.append("experiments: exclude leaves none")
    return problems


def list_experiments(chosen: dict[str, Any]) -> list[Experiment]:
    """The matrix strategies x models x cohorts, less what ``exclude`` matches."""
    matrix = itertools.product(chosen["strategies"], chosen["models"], chosen["cohorts"])
    return [
        experiment
        for experiment in itertools.starmap(Experiment, matrix)
        if not any(rule.items() <= experiment._asdict().items() for rule in chosen["exclude"])
    ]


def _names(mapping: Any) -> str:
    return ", ".join(mapping)
