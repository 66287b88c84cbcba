"""Write the page of a new study: its lesions in pictures and figures, and what to be careful of."""

from __future__ import annotations

import argparse
import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from petct.command_line import exit_on_error
from petct.image_files import load_image, load_volume
from petct.manifests import read_json, whole_table
from petct.metrics import bounding_slices
from petct.packages import name_experiment
from petct.pages import open_template
from petct.plots import (
    GREY,
    PREDICTION_COLOUR,
    Projection,
    crop_sides,
    draw_greys,
    draw_outline,
    draw_projection,
    orient,
    project,
    style,
)
from petct.viewer import embed_volumes, read_niivue

DPI = 110
MIP_HEIGHT_INCH = 6.0
SLICE_INCH = 2.6
# Around a lesion's centroid an axial slice shows this much.
HALF_WIDTH_MM = 90.0
CT_WINDOW_HU = (-160.0, 240.0)
# A page of hundreds of lesions would not open: the largest are pictured, the table has all.
PICTURED = 24
AIR_SUV, AIR_MARGIN_MM = 0.2, 20.0
TITLES = {
    "lesion": "Lesion", "side": "Side", "below_top_mm": "Below top, mm", "volume_ml": "Volume, mL",
    "suv_max": "SUVmax", "suv_mean": "SUVmean", "suv_peak": "SUVpeak", "tlg": "TLG",
    "probability_mean": "Probability, mean", "probability_max": "highest",
    "agreeing": "Networks that see it",
}  # fmt: skip


def write_study_page(
    study: Path,
    described: Path,
    exported: Path,
    package: Path,
    settings: dict[str, Any],
    template: Path,
    output: Path,
) -> None:
    """Write ``output``, a page that needs no other file.

    ``study`` is convert_study's manifest, whose images lie beside it, ``described`` and
    ``exported`` those of describe_lesions and export_study, ``package`` the unpacked
    package.json. ``settings``: ``suv_window``. A study that was left out has a page that says why.
    """
    told, files = read_json(described), read_json(exported)["files"]
    pictures: dict[str, Any] = {"projections": None, "slices": [], "volumes": {}}
    rows: list[dict[str, str]] = []
    if told["status"] != "excluded":
        suv, ct = (load_image(study.parent / f"{name}.nii.gz") for name in ("suv", "ct"))
        voxels, grid = load_volume(described.with_name("numbers.nii.gz"))
        numbers = grid.to_image(voxels)
        scanned = sitk.GetArrayViewFromImage(suv)
        pictures["volumes"] = embed_volumes(
            scanned, sitk.GetArrayViewFromImage(ct), voxels, grid,
            bounding_slices(scanned > AIR_SUV, voxels > 0),
        )  # fmt: skip
        table = pd.read_csv(whole_table(described.with_name("lesions.tsv")), sep="\t")
        volumes = [orient(image) for image in (suv, ct, numbers)]
        with style():
            projections = draw_projections(volumes[0], volumes[2], settings["suv_window"])
            pictures["projections"] = embed(projections)
            for row in table.head(PICTURED).to_dict("records"):
                place = tuple(row[f"{axis}_mm"] for axis in "xyz")
                drawn = draw_slices(volumes, place, settings["suv_window"])
                pictures["slices"].append((int(row["lesion"]), embed(drawn)))
        rows = [show_row(row) for row in table.to_dict("records")]
    description = read_json(package)
    page = open_template(template).render(
        told=told,
        files=[(name, f"../export_study/{told['study']}/{name}") for name in files],
        rows=rows,
        titles=TITLES,
        pictures=pictures,
        left_out=max(0, len(rows) - PICTURED),
        experiment=name_experiment(description, " / "),
        package=description,
        suv_window=settings["suv_window"],
        stylesheet=Markup(template.with_name("study_page.css").read_text()),
        script=Markup(template.with_name("study_page.js").read_text()),
        # What would end the element that holds it must not stand in it.
        niivue=Markup(read_niivue().replace("</script", r"<\/script")),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page)
    print(f"{output}: {len(page) / 1e6:.1f} MB")


def show_row(row: dict[Any, Any]) -> dict[str, str]:
    """A lesion's figures as text, by the keys of TITLES, and where it is."""
    shown = {
        "place_mm": " ".join(f"{row[f'{axis}_mm']:.1f}" for axis in "xyz"),
        "lesion": f"{row['lesion']:.0f}",
        "side": str(row["side"]),
        "below_top_mm": f"{row['below_top_mm']:.0f}",
        "agreeing": f"{row['folds_agreeing']:.0f} of {row['folds']:.0f}",
    }
    for key in ("volume_ml", "tlg", "suv_max", "suv_mean", "suv_peak"):
        shown[key] = f"{row[key]:.1f}" if row[key] >= 1 else f"{row[key]:.2f}"
    for key in ("probability_mean", "probability_max"):
        shown[key] = f"{row[key]:.2f}"
    return shown


def embed(figure: Figure) -> str:
    """The figure as a data URI of a PNG."""
    content = io.BytesIO()
    figure.savefig(content, dpi=DPI, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def draw_projections(suv: sitk.Image, numbers: sitk.Image, suv_window: float) -> Figure:
    """The patient from the front and from the left, with the lesions' outlines."""
    views = [
        crop_sides([project(image, axis) for image in (suv, numbers)], AIR_SUV, AIR_MARGIN_MM)
        for axis in ("coronal", "sagittal")
    ]
    height_mm = views[0][0].height_mm
    widths_mm = [view[0].width_mm for view in views]
    scale = MIP_HEIGHT_INCH / height_mm
    figure = Figure(figsize=(sum(widths_mm) * scale, MIP_HEIGHT_INCH))
    left = 0.0
    for (pet, lesions), width_mm, sides in zip(views, widths_mm, ("RL", "AP"), strict=True):
        share = width_mm / sum(widths_mm)
        axes = figure.add_axes((left, 0.0, share, 1.0))
        left += share
        draw_projection(axes, pet, suv_window)
        outline = Projection((lesions.pixels > 0).astype(np.uint8), lesions.pixel_mm)
        draw_outline(axes, outline, PREDICTION_COLOUR, 1.2)
        mark_sides(axes, sides)
    return figure


def draw_slices(
    oriented: Sequence[sitk.Image], place_xyz_mm: tuple[float, ...], suv_window: float
) -> Figure:
    """The axial slice through a lesion's centroid: PET and CT side by side, all lesions outlined.

    ``oriented`` are SUV, CT and lesion numbers as petct.plots.orient leaves them.
    """
    suv, ct, numbers = oriented
    size = suv.GetSize()
    centre = [
        min(max(round(c), 0), n - 1)
        for c, n in zip(
            suv.TransformPhysicalPointToContinuousIndex(place_xyz_mm), size, strict=True
        )
    ]
    spacing = suv.GetSpacing()
    window = tuple(
        slice(max(0, centre[a] - reach), min(size[a], centre[a] + reach + 1))
        for a, reach in ((a, round(HALF_WIDTH_MM / spacing[a])) for a in (1, 0))
    )

    def cut(image: sitk.Image) -> Projection:
        # Rows from the back to the front: what draw_projection puts at the bottom comes first.
        pixels = sitk.GetArrayViewFromImage(image)[centre[2]][window][::-1]
        return Projection(np.ascontiguousarray(pixels), (spacing[1], spacing[0]))

    pet, hounsfield, lesions = cut(suv), cut(ct), cut(numbers)
    outline = Projection((lesions.pixels > 0).astype(np.uint8), lesions.pixel_mm)
    height = SLICE_INCH * pet.height_mm / pet.width_mm
    figure = Figure(figsize=(2 * SLICE_INCH + 0.06, height))
    share = SLICE_INCH / (2 * SLICE_INCH + 0.06)
    for left, show in ((0.0, "pet"), (1 - share, "ct")):
        axes = figure.add_axes((left, 0.0, share, 1.0))
        if show == "pet":
            draw_projection(axes, pet, suv_window)
        else:
            draw_greys(axes, hounsfield, "gray", CT_WINDOW_HU)
        draw_outline(axes, outline, PREDICTION_COLOUR, 1.2)
        mark_sides(axes, "RL")
    return figure


def mark_sides(axes: Axes, sides: str) -> None:
    for side, x in zip(sides, (0.01, 0.99), strict=True):
        axes.text(
            x, 0.99, side, transform=axes.transAxes, ha="right" if x > 0.5 else "left", va="top",
            color=GREY, fontsize=8,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study.json of convert_study")
    parser.add_argument("--described", type=Path, required=True, help="that of describe_lesions")
    parser.add_argument("--exported", type=Path, required=True, help="that of export_study")
    parser.add_argument("--package", type=Path, required=True, help="package.json, unpacked")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--template", type=Path, required=True, help="HTML, its .css beside it")
    parser.add_argument("--output", type=Path, required=True, help="page (HTML)")
    write_study_page(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
