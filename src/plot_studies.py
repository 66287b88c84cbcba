"""Draw one picture per study: its projected PET with the reference and predicted outlines."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from matplotlib.figure import Figure

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.image_files import load_image
from petct.manifests import read_json, write_json
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.plots import (
    GREY,
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    crop_sides,
    draw_outline,
    draw_projection,
    orient,
    outline_handle,
    project,
    save_figure,
    style,
)

# The pictures' part of a figure at most, the strips above and below it, and the gaps between.
LARGEST_INCH = (8.0, 5.4)
TOP_INCH, BOTTOM_INCH, GAP_INCH = 0.78, 0.36, 0.15
NARROWEST_INCH = 6.2
DPI = 100
OUTLINE_COLOURS = {"reference": REFERENCE_COLOUR, "prediction": PREDICTION_COLOUR}
TITLE_LOOKS: list[dict[str, Any]] = [
    {"fontsize": 10, "weight": "bold"},
    {"fontsize": 8, "color": GREY},
    {"fontsize": 9},
]
# Air around the body adds nothing to a picture.
AIR_SUV, AIR_MARGIN_MM = 0.2, 20.0


def caption(score: dict[str, Any]) -> str:
    """The figures under a picture's title, from the study's row of the metrics table."""
    predicted = f"predicted {score['predicted_ml']:.1f} mL"
    if not score["positive"]:
        return f"no lesion · {predicted}"
    count = score["lesions_reference"]
    return (
        f"Dice {score['dice']:.2f} · reference {score['reference_ml']:.1f} mL in {count} "
        f"lesion{'s' if count != 1 else ''} ({score['lesions_found']} found) · {predicted}"
    )


def draw_study(
    suv: sitk.Image,
    masks: dict[str, sitk.Image],
    titles: list[str],
    suv_window: float,
) -> Figure:
    """A coronal and a sagittal projection side by side.

    ``suv`` [g/mL] and the 0/1 ``masks``, by "reference" and "prediction", share one grid. SUV 0 is
    white, ``suv_window`` is black. ``titles`` are three lines: name, experiment, figures.
    """
    volumes = [orient(image) for image in (suv, *masks.values())]
    views = [
        crop_sides([project(volume, axis) for volume in volumes], AIR_SUV, AIR_MARGIN_MM)
        for axis in ("coronal", "sagittal")
    ]
    width_mm = sum(view[0].width_mm for view in views)
    height_mm = views[0][0].height_mm
    inch_per_mm = min(LARGEST_INCH[0] / width_mm, LARGEST_INCH[1] / height_mm)
    width = max(width_mm * inch_per_mm + 3 * GAP_INCH, NARROWEST_INCH)
    height = height_mm * inch_per_mm + TOP_INCH + BOTTOM_INCH
    figure = Figure(figsize=(width, height))
    gap = (width - width_mm * inch_per_mm) / 3
    left = gap
    for (pet, *outlines), sides in zip(views, ("RL", "AP"), strict=True):
        across = pet.width_mm * inch_per_mm
        axes = figure.add_axes(
            (
                left / width,
                BOTTOM_INCH / height,
                across / width,
                height_mm * inch_per_mm / height,
            )
        )
        left += across + gap
        draw_projection(axes, pet, suv_window)
        # The thinner line lies on top, so that both are seen where they coincide.
        for outline, name, line_width in zip(outlines, masks, (2.3, 0.8), strict=True):
            draw_outline(axes, outline, OUTLINE_COLOURS[name], line_width)
        for side, x in zip(sides, (0.0, 1.0), strict=True):
            axes.text(
                x,
                1.0,
                side,
                transform=axes.transAxes,
                ha="right" if x else "left",
                va="top",
                color=GREY,
            )
    for line, below_top, look in zip(titles, (0.08, 0.30, 0.50), TITLE_LOOKS, strict=True):
        figure.text(GAP_INCH / width, 1 - below_top / height, line, ha="left", va="top", **look)
    figure.legend(
        handles=[
            outline_handle(
                name if outline.pixels.any() else f"{name} (empty)", OUTLINE_COLOURS[name]
            )
            for name, outline in zip(masks, views[0][1:], strict=True)
        ],
        loc="lower left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=2,
    )
    figure.text(
        1 - GAP_INCH / width,
        0.12 / height,
        f"maximum intensity, SUV 0 to {suv_window:g} g/mL",
        ha="right",
        va="bottom",
        fontsize=8,
        color=GREY,
    )
    return figure


def plot_study(
    study: str, mask: Path, converted: Path, score: dict[str, Any], suv_window: float, target: Path
) -> str:
    """Draw ``study`` to ``target`` and return the file's SHA-256."""
    images = {}
    for name, path in {
        "suv": converted / "suv.nii.gz",
        "reference": converted / "lesions.nii.gz",
        "prediction": mask,
    }.items():
        if not path.is_file():
            raise PetctError(f"study {study}: no {name} image at {path}")
        images[name] = load_image(path)
    suv = images.pop("suv")
    titles = [study, " / ".join(score[key] for key in EXPERIMENT_COLUMNS), caption(score)]
    with style():
        save_figure(draw_study(suv, images, titles, suv_window), target, DPI)
    return hashlib.sha256(target.read_bytes()).hexdigest()


def plot_jobs(jobs: list[tuple[Any, ...]], threads: int) -> Iterator[str]:
    """``plot_study`` of each job, in order, on ``threads`` processes."""
    if threads == 1 or len(jobs) < 2:
        yield from (plot_study(*job) for job in jobs)
        return
    # A forked child may inherit a lock that one of ITK's threads holds; a spawned one cannot.
    with ProcessPoolExecutor(min(threads, len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(plot_study, *zip(*jobs, strict=True))


def plot_studies(
    predictions: list[Path],
    cohort: Path,
    converted: Path,
    metrics: list[Path],
    settings: dict[str, Any],
    output: Path,
    threads: int,
) -> None:
    """Draw the studies of one experiment, then write ``output``: which picture shows which study.

    ``predictions`` are the manifests of the experiment's folds, ``metrics`` the tables that
    hold its scores, among others' or alone. ``settings`` has ``suv_window`` [g/mL]. The pictures
    lie beside ``output``.
    """
    manifests = [read_json(path) for path in predictions]
    experiments = sorted({tuple(m[key] for key in EXPERIMENT_COLUMNS) for m in manifests})
    if len(experiments) != 1:
        raise PetctError(
            f"predictions: got experiments {'; '.join(' / '.join(e) for e in experiments)}, "
            "expected the folds of one"
        )
    experiment = experiments[0]
    scores = {
        row["study"]: row
        for path in metrics
        for row in read_table(path).to_dict("records")
        if tuple(row[key] for key in EXPERIMENT_COLUMNS) == experiment
    }
    folds = read_table(cohort).groupby("fold")["study"].apply(sorted).to_dict()
    jobs: list[tuple[Any, ...]] = []
    for path, manifest in zip(predictions, manifests, strict=True):
        for study in folds.get(manifest["fold"], []):
            if study not in manifest["studies"]:
                raise PetctError(f"{path}: no prediction for study {study} of this fold")
            if study not in scores:
                raise PetctError(
                    f"no row for study {study} of {' / '.join(experiment)} in "
                    f"{', '.join(map(str, metrics))}"
                )
            mask = path.parent / manifest["studies"][study]["mask"]
            target = output.parent / f"{study}.png"
            jobs.append(
                (study, mask, converted / study, scores[study], settings["suv_window"], target)
            )
    studies = {}
    for (study, *_, target), digest in zip(jobs, plot_jobs(jobs, threads), strict=True):
        studies[study] = {"picture": target.name, "digest": digest}
        print(f"{study}: {target}", flush=True)
    write_json(
        output, {**dict(zip(EXPERIMENT_COLUMNS, experiment, strict=True)), "studies": studies}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--predictions", type=Path, nargs="+", required=True)
    parser.add_argument("--cohort", type=Path, required=True, help="table of studies and folds")
    parser.add_argument("--converted", type=Path, required=True, help="folder of converted studies")
    parser.add_argument("--metrics", type=Path, nargs="+", required=True, help="tables of scores")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: suv_window")
    parser.add_argument("--output", type=Path, required=True, help="pictures.json")
    parser.add_argument("--threads", type=int, default=1, help="studies drawn at once")
    plot_studies(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
