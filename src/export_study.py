"""Write a new study's lesions as others read them: NIfTI, DICOM SEG, and a scene for 3D Slicer."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from petct.command_line import exit_on_error
from petct.image_files import load_volume, save_volume
from petct.manifests import read_json, write_json
from petct.seg_files import write_seg
from petct.slicer_scenes import write_scene, write_segmentation


def export_study(
    study_index: Path,
    study: Path,
    described: Path,
    package: Path,
    settings: dict[str, Any],
    output: Path,
) -> None:
    """Write the study's files beside ``output``, then ``output``, which names them.

    ``study_index`` is the study's entry of the index, ``study`` convert_study's manifest, whose
    images lie beside it, ``described`` that of describe_lesions. ``settings``: ``segments``
    ("each": a segment a lesion, "one": all in one) and ``suv_window``. lesions.nii.gz is 0 or 1 on
    the native PET grid; lesions.dcm, if the study came as DICOM, refers to the PET series;
    scene.mrml opens suv.nii.gz, ct.nii.gz and lesions.seg.nrrd beside it. An excluded study has
    none of them.
    """
    told = read_json(described)
    folder = output.parent
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        stale.unlink()
    if told["status"] == "excluded":
        write_json(output, told | {"files": []})
        return
    numbers, grid = load_volume(described.with_name("numbers.nii.gz"))
    save_volume((numbers > 0).astype("u1"), grid, folder / "lesions.nii.gz")
    copies = {"suv.nii.gz": study.parent, "ct.nii.gz": study.parent}
    copies |= {"probability.nii.gz": described.parent, "lesions.tsv": described.parent}
    for name, place in copies.items():
        (folder / name).hardlink_to(place / name)
    write_segmentation(numbers, grid, folder / "lesions.seg.nrrd")
    write_scene(folder, settings["suv_window"])
    entry = read_json(study_index)
    if entry["format"] == "dicom":
        each = settings["segments"] == "each"
        write_seg(
            numbers, grid, [Path(file) for file in entry["pet"]["files"]], each,
            read_json(package), folder / "lesions.dcm",
        )  # fmt: skip
    names = sorted(path.name for path in folder.iterdir())
    write_json(output, {"study": told["study"], "status": "exported", "files": names})
    print(f"{told['study']}: {', '.join(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study-index", type=Path, required=True, help="entry of the index")
    parser.add_argument("--study", type=Path, required=True, help="study.json of convert_study")
    parser.add_argument("--described", type=Path, required=True, help="that of describe_lesions")
    parser.add_argument("--package", type=Path, required=True, help="package.json, unpacked")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON object")
    parser.add_argument("--output", type=Path, required=True, help="study.json")
    export_study(**vars(parser.parse_args()))


if __name__ == "__main__":
    with exit_on_error():
        main()
