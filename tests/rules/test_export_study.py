"""Files for others: what they hold is the mask, where it is and in which colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from applied_studies import GRID, SETTINGS, Applied, lesion_mask, make_applied, make_excluded
from describe_lesions import describe_lesions
from dicom_studies import PET_SHAPE, write_pet
from export_study import export_study
from petct.dicom_series import order_slices, read_headers
from petct.image_files import load_volume, save_volume
from petct.manifests import read_json, write_json

SHOWN: dict[str, Any] = {"segments": "each", "suv_window": 10.0}


def export(applied: Applied, folder: Path, entry: dict[str, Any]) -> Path:
    described = folder / "described/study.json"
    describe_lesions(
        applied.converted, applied.resampled, applied.predictions, applied.package,
        SETTINGS, described,
    )  # fmt: skip
    write_json(folder / "entry.json", entry)
    output = folder / "out/study.json"
    export_study(
        folder / "entry.json", applied.converted, described, applied.package, SHOWN, output
    )
    return output


def test_a_study_that_came_as_nifti(tmp_path: Path) -> None:
    output = export(make_applied(tmp_path), tmp_path, {"format": "nifti"})
    assert read_json(output)["files"] == [
        "ct.nii.gz", "lesions.nii.gz", "lesions.seg.nrrd", "lesions.tsv", "probability.nii.gz",
        "scene.mrml", "suv.nii.gz",
    ]  # fmt: skip
    mask, grid = load_volume(output.with_name("lesions.nii.gz"))
    assert grid == GRID and np.array_equal(mask, lesion_mask())


def test_the_segmentation_of_slicer_has_a_segment_a_lesion(tmp_path: Path) -> None:
    output = export(make_applied(tmp_path), tmp_path, {"format": "nifti"})
    image = sitk.ReadImage(str(output.with_name("lesions.seg.nrrd")))
    numbers = sitk.GetArrayFromImage(image)
    assert np.array_equal(numbers > 0, lesion_mask())
    assert image.GetSpacing() == GRID.spacing_xyz_mm and image.GetOrigin() == GRID.origin_xyz_mm
    told = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert (told["Segment0_Name"], told["Segment1_LabelValue"]) == ("Lesion 1", "2")
    # x, y and z of 2 x 2 x 2 voxels, first and last.
    assert told["Segment0_Extent"] == "12 13 5 6 2 3"
    assert told["Segment0_Color"] != told["Segment1_Color"]


def test_the_scene_names_files_that_are_there(tmp_path: Path) -> None:
    output = export(make_applied(tmp_path), tmp_path, {"format": "nifti"})
    scene = ElementTree.parse(output.with_name("scene.mrml")).getroot()
    nodes = {node.get("id"): node for node in scene}
    files = [node.get("fileName") for node in scene if node.get("fileName")]
    assert sorted(map(str, files)) == ["ct.nii.gz", "lesions.seg.nrrd", "suv.nii.gz"]
    assert all(output.with_name(str(file)).is_file() for file in files)
    for node in scene:
        for reference in filter(None, (node.get("references") or "").split(";")):
            assert reference.partition(":")[2] in nodes
    pet = nodes["vtkMRMLScalarVolumeDisplayNode1"]
    assert pet.get("colorNodeID") == "vtkMRMLColorTableNodeInvertedGrey"
    assert (pet.get("window"), pet.get("level")) == ("10", "5")


@pytest.mark.parametrize(("segments", "count"), [("each", 2), ("one", 1)])
def test_a_study_that_came_as_dicom_gets_a_seg(tmp_path: Path, segments: str, count: int) -> None:
    files = write_pet(tmp_path / "pet", "1.2.3")
    grid = order_slices(read_headers(files), single_slices=False).grid
    numbers = np.zeros(PET_SHAPE, np.uint16)
    numbers[1, 2:4, 3], numbers[4, 0, 0] = 1, 2
    described = tmp_path / "described/study.json"
    write_json(described, {"study": "s", "status": "described"})
    for name in ("numbers", "probability"):
        save_volume(numbers, grid, described.with_name(f"{name}.nii.gz"))
    described.with_name("lesions.tsv").write_text("lesion\n")
    applied = make_applied(tmp_path / "applied")
    entry = {"format": "dicom", "pet": {"files": [str(file) for file in files]}}
    write_json(tmp_path / "entry.json", entry)
    output = tmp_path / "out/study.json"
    export_study(
        tmp_path / "entry.json", applied.converted, described, applied.package,
        SHOWN | {"segments": segments}, output,
    )  # fmt: skip
    seg = pydicom.dcmread(output.with_name("lesions.dcm"))
    assert len(seg.SegmentSequence) == count
    assert int(seg.pixel_array.sum()) == 3


def test_a_study_that_was_left_out_leaves_no_file_of_before(tmp_path: Path) -> None:
    output = tmp_path / "out/study.json"
    output.parent.mkdir()
    (output.parent / "lesions.dcm").touch()
    told = read_json(export(make_excluded(tmp_path), tmp_path, {"format": "nifti"}))
    assert (told["status"], told["files"]) == ("excluded", [])
    assert [path.name for path in output.parent.iterdir()] == ["study.json"]
