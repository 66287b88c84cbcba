"""Pack one experiment of a finished study, all its folds, so that it finds lesions elsewhere."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import read_json, whole_table, write_json
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.packages import CARD, PREPROCESSING, name_experiment, write_package

BEST = "best"
# Of comparison.tsv, and whether more is better.
CRITERIA = {
    "dice": ("dice_mean", True),
    "surface_dice": ("surface_dice_mean", True),
    "lesion_f1": ("lesion_f1", True),
    "fn_volume": ("fn_volume_ml_mean", False),
}
PERFORMANCE = [
    *["dice_mean", "dice_low", "dice_high", "dice_n"],
    *["lesion_sensitivity", "lesion_sensitivity_n", "lesion_precision", "lesion_precision_n"],
    *["fn_volume_ml_mean", "fn_volume_ml_n", "positive_fp_volume_ml_mean"],
    *["positive_fp_volume_ml_n", "negative_fp_volume_ml_mean", "negative_fp_volume_ml_n"],
    *["negative_false_alarm_rate", "negative_false_alarm_rate_n"],
]
PACKAGES = ["torch", "monai", "nnunetv2", "numpy", "SimpleITK"]


def package_model(
    comparison: Path,
    calibration: Path,
    studies: Path,
    settings: dict[str, Any],
    output: Path,
) -> None:
    """Write the package of an experiment to ``output`` (.zip), and its model card beside it.

    ``comparison``, ``calibration`` and ``studies`` are the tables of that name, in the folder
    tables/ of the study's results, in which the networks are found. ``settings``: ``experiment``
    ("strategy/model/cohort", or "best": the first by ``criterion`` of those in ``candidates``), and
    by that name, in ``candidates``, the ``stages`` to pack; ``preprocessing``, ``regions`` and
    ``dataset``. Raises PetctError for an experiment that is none of the candidates.
    """
    table = read_table(comparison)
    table.index = pd.Index(["/".join(row) for row in table[EXPERIMENT_COLUMNS].to_numpy()])
    name = choose_experiment(table, settings)
    row = table.loc[name]
    performance = {
        key: None if pd.isna(row[key]) else float(row[key]) for key in PERFORMANCE if key in row
    }
    description = {
        "experiment": dict(zip(EXPERIMENT_COLUMNS, name.split("/"), strict=True)),
        "chosen_by": settings["criterion"] if settings["experiment"] == BEST else "name",
        "dataset": settings["dataset"],
        "stages": settings["candidates"][name],
        "regions": settings["regions"],
        "data": describe_data(studies),
        "calibration": fit_calibration(read_table(calibration), name),
        "performance": performance,
        "versions": {package: metadata.version(package) for package in PACKAGES},
    }
    with tempfile.TemporaryDirectory() as draft:
        folder = Path(draft)
        trained = [
            collect_stage(comparison.parents[1], stage, folder)
            for stage in settings["candidates"][name]
        ]
        # Those of the last stage: who trained the network whose masks are used.
        description["data"]["training_studies"] = trained[-1]
        write_json(
            folder / PREPROCESSING, settings["preprocessing"] | {"unusable_study": "exclude"}
        )
        card = write_card(description)
        (folder / CARD).write_text(card)
        write_package(folder, description, output)
    output.with_name(CARD).write_text(card)
    print(f"{name} of {settings['dataset']}, {len(trained)} stage(s): {output}")


def choose_experiment(table: pd.DataFrame, settings: dict[str, Any]) -> str:
    """The experiment that was asked for; ``table`` is comparison.tsv, indexed by its name."""
    candidates = settings["candidates"]
    if settings["experiment"] != BEST:
        if settings["experiment"] not in candidates:
            raise PetctError(
                f"package.experiment: {settings['experiment']!r} is none that can be packed;"
                f" expected {BEST} or one of {', '.join(sorted(candidates))}"
            )
        return str(settings["experiment"])
    column, more = CRITERIA[settings["criterion"]]
    figures = table.loc[[name for name in table.index if name in candidates], column].dropna()
    if figures.empty:
        raise PetctError(
            f"package.experiment: none of {', '.join(sorted(candidates))} has a {column} to choose"
            " by; name one"
        )
    return str(figures.idxmax() if more else figures.idxmin())


def collect_stage(results: Path, stage: dict[str, Any], folder: Path) -> int:
    """Copy a stage's networks below ``folder``; how many studies they were trained on."""
    experiment = "/".join(stage["experiment"])
    nnunet = stage["kind"] == "nnunet"
    trained: set[str] = set()
    for fold in stage["folds"]:
        source = results / f"train_{stage['kind']}/{experiment}/fold-{fold}/model.json"
        target = folder / f"{stage['name']}/fold-{fold}"
        target.mkdir(parents=True)
        model = read_json(source)
        trained |= set(model.pop("studies"))
        # Names of studies stay at home, and so does how the training went.
        model = {key: value for key, value in model.items() if "studies" not in key}
        write_json(target / "model.json", model)
        checkpoint = f"{stage['inference']['checkpoint']}.safetensors"
        shutil.copyfile(source.with_name(checkpoint), target / checkpoint)
        if nnunet:
            for name in ("plans", "dataset", "fingerprint"):
                plan = results / f"plan_nnunet/{experiment}/fold-{fold}/{name}.json"
                planned = read_json(plan)
                for key in ("dataset", "numTraining"):
                    planned.pop(key, None)
                write_json(target / f"{name}.json", planned)
    return len(trained)


def describe_data(studies: Path) -> dict[str, Any]:
    """What the dataset's studies were like: their number and the ranges of what a new one has."""
    table = pd.read_csv(whole_table(studies), sep="\t", dtype=str, keep_default_na=False)
    spacing_zyx_mm = np.array(
        [[float(side) for side in cell.split("x")] for cell in table["pet_spacing_zyx_mm"]]
    )
    suv_max = table["suv_max"].astype(float)
    covered = table["ct_covers_pet_share"].astype(float)
    return {
        "studies": len(table),
        "patients": int(table["patient"].nunique()),
        "positive_studies": int((table["positive"] == "True").sum()),
        "suv_max": [float(suv_max.min()), float(suv_max.max())],
        "ct_covers_pet_share": [float(covered.min()), float(covered.max())],
        "pet_spacing_zyx_mm": [
            spacing_zyx_mm.min(axis=0).tolist(),
            spacing_zyx_mm.max(axis=0).tolist(),
        ],
    }


def fit_calibration(calibration: pd.DataFrame, name: str) -> list[list[float]]:
    """How often voxels of a given probability were lesion in studies that nobody trained on.

    Pairs of probability and share, both rising, to be read by linear interpolation; isotonic
    regression over the bins of calibration.tsv, weighed by their voxels. Empty without bins.
    """
    rows = calibration[calibration[EXPERIMENT_COLUMNS].agg("/".join, axis=1) == name]
    bins = rows.groupby("bin_low")[["voxels", "probability_sum", "lesion_voxels"]].sum()
    bins = bins[bins["voxels"] > 0]
    if bins.empty:
        return []
    given = (bins["probability_sum"] / bins["voxels"]).to_numpy(float)
    observed = (bins["lesion_voxels"] / bins["voxels"]).to_numpy(float)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(
        given, observed, sample_weight=bins["voxels"].to_numpy(float)
    )
    return [[float(p), float(share)] for p, share in zip(given, fitted.predict(given), strict=True)]


def write_card(description: dict[str, Any]) -> str:
    """The model card: what it is, what it learnt from, how good it is, what it is not for."""
    data, figures = description["data"], description["performance"]
    experiment = name_experiment(description, " / ")
    last = description["stages"][-1]

    def figure(name: str, n: str, digits: int = 2) -> str:
        if figures.get(name) is None:
            return "not defined"
        return f"{figures[name]:.{digits}f} (n = {figures[n]:.0f})"

    dice = figure("dice_mean", "dice_n")
    if figures.get("dice_low") is not None:
        dice += f", 95 % interval {figures['dice_low']:.2f} to {figures['dice_high']:.2f}"
    low, high = data["pet_spacing_zyx_mm"]
    spacing = " to ".join(" x ".join(f"{side:g}" for side in sides) for sides in (low, high))
    steps = (
        "coarse, then fine where the coarse one points" if len(description["stages"]) > 1 else "one"
    )
    lines = [
        f"# {experiment}",
        "",
        f"Finds lesions in whole-body PET/CT. Network: {last['network']}; steps: {steps};"
        f" {len(last['folds'])} networks, one a fold, whose probabilities are averaged.",
        "",
        "## Intended use",
        "Research. It is no medical device: its masks are proposals for a reader who checks them,"
        " and must not decide on anybody's treatment.",
        "",
        "## Data",
        f"Dataset `{description['dataset']}`: {data['studies']} studies of {data['patients']}"
        f" patients, {data['positive_studies']} with lesions; {data['training_studies']} took part"
        " in training.",
        f"PET voxels of {spacing} mm (z x y x x); maximum SUV {data['suv_max'][0]:.3g} to"
        f" {data['suv_max'][1]:.3g}.",
        "",
        "## Results on studies that the network had not seen (one network each, not their mean)",
        f"- Dice of studies with lesions: {dice}",
        f"- lesions found: {figure('lesion_sensitivity', 'lesion_sensitivity_n')}",
        f"- found lesions that are true: {figure('lesion_precision', 'lesion_precision_n')}",
        f"- missed volume, mL: {figure('fn_volume_ml_mean', 'fn_volume_ml_n')}",
        "- false volume in studies with lesions, mL:"
        f" {figure('positive_fp_volume_ml_mean', 'positive_fp_volume_ml_n')}",
        "- false volume in studies without, mL:"
        f" {figure('negative_fp_volume_ml_mean', 'negative_fp_volume_ml_n')}",
        "- studies without lesions in which it marks something:"
        f" {figure('negative_false_alarm_rate', 'negative_false_alarm_rate_n')}",
        "",
        "## Limits",
        "Other tracers, scanners, reconstructions and diseases than the dataset's are untried. How"
        " good the mean of the networks is was not measured, as every study trained all but one of"
        " them. Probabilities are calibrated voxel by voxel on single networks.",
        "",
        f"Experiment chosen by: {description['chosen_by']}. Made with"
        f" {', '.join(f'{name} {version}' for name, version in description['versions'].items())}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparison", type=Path, required=True, help="comparison.tsv")
    parser.add_argument("--calibration", type=Path, required=True, help="calibration.tsv")
    parser.add_argument("--studies", type=Path, required=True, help="studies.tsv")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output", type=Path, required=True, help="the package, .zip")
    package_model(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
