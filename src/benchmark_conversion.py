"""Contest: one study from DICOM to SUV, CT and lesions as NIfTI, and to both grids for training.

The peer is what people combine: dicom2nifti for PET and CT, highdicom for the SEG, nilearn for the
CT on the PET's grid, and nnU-Net's preprocessing with a plan for each grid.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from petct.command_line import exit_on_error
from petct.contest import Contestant, make_parser, report_outcome, run_contest
from petct.manifests import read_json

PEER = "dicom2nifti + nilearn + nnU-Net"
# Ours less theirs: what another rounding of slopes and times may do to SUV, and of edges to volume.
EQUAL = {"suv_max": (-0.02, 0.02), "suv_mean": (-0.001, 0.001), "lesion_ml": (-0.1, 0.1)}


def convert_with_ours(
    entry: Path, settings: dict[str, Any], folder: Path
) -> tuple[float, dict[str, float]]:
    """Seconds of the work, and what came out of it."""
    from convert_study import convert_study
    from petct.arrays import open_arrays
    from petct.image_files import load_volume
    from resample_study import resample_study

    start = time.perf_counter()
    study = folder / "converted/study.json"
    convert_study(entry, settings["conversion"], study)
    resample_study(study, settings["preprocessing"], folder / "resampled/study.json")
    seconds = time.perf_counter() - start
    suv, _ = load_volume(study.parent / "suv.nii.gz")
    fine = open_arrays(folder / "resampled/fine")
    return seconds, {
        "suv_max": float(suv.max()),
        "suv_mean": float(suv.mean(dtype=np.float64)),
        "lesion_ml": read_json(study)["lesion_ml"],
        "lesion_fine_ml": float(fine.label.sum()) * fine.grid.voxel_ml,
    }


def convert_with_peer(
    entry: Path, settings: dict[str, Any], best: bool, folder: Path
) -> tuple[float, dict[str, float]]:
    """The same by the peer; ``best``: SimpleITK resamples the CT and torch to the grids."""
    import dicom2nifti
    import highdicom
    import nibabel
    import SimpleITK as sitk
    from nibabel.processing import resample_from_to
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    if not best:
        from nilearn.image import resample_to_img

    files = {kind: read_json(entry)[kind]["files"] for kind in ("pet", "ct", "label")}
    grids = settings["preprocessing"]["grids"]
    start = time.perf_counter()
    for kind in ("pet", "ct"):
        dicom2nifti.dicom_series_to_nifti(
            Path(files[kind][0]).parent, folder / f"{kind}.nii.gz", reorient_nifti=False
        )
    pet = nibabel.Nifti1Image.from_filename(folder / "pet.nii.gz")
    suv = pet.get_fdata(dtype=np.float32) * np.float32(suv_factor(files["pet"][0]))
    nibabel.Nifti1Image(suv, pet.affine).to_filename(folder / "case_0001.nii.gz")
    if best:
        grid = sitk.ReadImage(folder / "pet.nii.gz")
        ct = sitk.ReadImage(folder / "ct.nii.gz")
        moved = sitk.Resample(ct, grid, sitk.Transform(), sitk.sitkLinear, -1024.0, ct.GetPixelID())
        sitk.WriteImage(moved, folder / "case_0000.nii.gz")
    else:
        moved = resample_to_img(
            str(folder / "ct.nii.gz"), pet, interpolation="continuous", fill_value=-1024
        )
        moved.to_filename(folder / "case_0000.nii.gz")
    # A SEG holds the planes with lesions only; without a margin the outermost are lost.
    seg = highdicom.seg.segread(files["label"][0])
    volume = seg.get_volume(combine_segments=True).pad(1)
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    image = nibabel.Nifti1Image((volume.array > 0).astype(np.uint8), to_ras @ volume.affine)
    placed = resample_from_to(image, (pet.shape, pet.affine), order=0)
    placed.to_filename(folder / "lesions.nii.gz")
    lesions = np.asarray(placed.dataobj)
    voxel_ml = float(abs(np.linalg.det(pet.affine[:3, :3]))) / 1000.0
    dataset, plans = describe_plans(grids, best)
    images = [str(folder / f"case_{channel:04}.nii.gz") for channel in (0, 1)]
    for name in grids:
        (folder / name).mkdir()
        manager = PlansManager(plans)
        configuration = manager.get_configuration(name)
        prefix = str(folder / name / "case")
        label = str(folder / "lesions.nii.gz")
        preprocessor = DefaultPreprocessor(verbose=False)
        preprocessor.run_case_save(prefix, images, label, manager, configuration, dataset)
    seconds = time.perf_counter() - start
    _, label_on_grid, *_ = nnUNetDatasetBlosc2(str(folder / "fine"), ["case"]).load_case("case")
    fine_ml = float((label_on_grid[:] == 1).sum() * np.prod(grids["fine"]["spacing_zyx_mm"])) / 1e3
    return seconds, {
        "suv_max": float(suv.max()),
        "suv_mean": float(suv.mean(dtype=np.float64)),
        "lesion_ml": float(lesions.sum()) * voxel_ml,
        "lesion_fine_ml": fine_ml,
    }


def suv_factor(file: str) -> float:
    """SUVbw per Bq/mL as people compute it: from the first file, decayed to the series' time."""
    import pydicom

    def seconds(value: str) -> float:
        return int(value[:2]) * 3600 + int(value[2:4]) * 60 + float(value[4:])

    header = pydicom.dcmread(file, stop_before_pixels=True)
    drug = header.RadiopharmaceuticalInformationSequence[0]
    injected = drug.get("RadiopharmaceuticalStartTime")
    injected = injected or str(drug.RadiopharmaceuticalStartDateTime)[8:]
    waited_s = seconds(str(header.SeriesTime)) - seconds(str(injected))
    dose_bq = float(drug.RadionuclideTotalDose) * 0.5 ** (
        waited_s / float(drug.RadionuclideHalfLife)
    )
    return float(header.PatientWeight) * 1000.0 / dose_bq


def describe_plans(grids: dict[str, Any], best: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """nnU-Net's dataset.json and plans, with a configuration for each grid."""
    ways: dict[str, Any]
    data: dict[str, Any]
    if best:
        function = "resample_torch_fornnunet"
        ways = {"force_separate_z": False, "memefficient_seg_resampling": False}
        data, label = {"is_seg": False, **ways}, {"is_seg": True, **ways}
    else:
        function = "resample_data_or_seg_to_shape"
        ways = {"order_z": 0, "force_separate_z": None}
        data, label = {"is_seg": False, "order": 3, **ways}, {"is_seg": True, "order": 1, **ways}
    configurations = {
        name: {
            "data_identifier": name,
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": [64, 64, 64],
            "spacing": grid["spacing_zyx_mm"],
            "architecture": {
                "network_class_name": "",
                "arch_kwargs": {},
                "_kw_requires_import": [],
            },
            "normalization_schemes": ["CTNormalization", "CTNormalization"],
            "use_mask_for_norm": [False, False],
            "resampling_fn_data": function,
            "resampling_fn_data_kwargs": data,
            "resampling_fn_seg": function,
            "resampling_fn_seg_kwargs": label,
        }
        for name, grid in grids.items()
    }
    found = {"percentile_00_5": -832.0, "percentile_99_5": 1128.0, "mean": 107.7, "std": 286.3}
    taken = {"percentile_00_5": 1.04, "percentile_99_5": 51.2, "mean": 7.06, "std": 7.96}
    plans = {
        "dataset_name": "Dataset001_contest",
        "plans_name": "contest",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": found, "1": taken},
        "configurations": configurations,
    }
    dataset = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "lesion": 1},
        "file_ending": ".nii.gz",
    }
    return dataset, plans


def list_contestants(
    inputs: Path, peers: Path, settings: dict[str, Any], size: str
) -> list[Contestant]:
    """Ours, and the peer as it comes and at its best."""
    entry = inputs / size / "index/studies" / f"{settings['sets'][size]['studies'][0]}.json"
    command = [sys.executable, str(Path(__file__).absolute()), "--entry", str(entry.absolute())]
    command += ["--settings", json.dumps(settings["sets"][size])]
    environment = {"PYTHONPATH": str(peers.absolute())}
    return [
        Contestant(
            "petct",
            "convert_study, then resample_study",
            [*command, "--contestant", "ours"],
        ),
        Contestant(
            PEER,
            "as it comes",
            [*command, "--contestant", "peer"],
            goal=8.0,
            memory_goal=3.0,
            environment=environment,
            quality_goals=EQUAL,
        ),
        Contestant(
            PEER,
            "best known: SimpleITK for the CT, torch for the grids",
            [*command, "--contestant", "best"],
            environment=environment,
            quality_goals=EQUAL,
        ),
    ]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--entry", type=Path, help="a contestant's study, of the index")
    given = parser.parse_args()
    if given.contestant:
        if given.contestant not in ("ours", "peer", "best"):
            parser.error(f"--contestant {given.contestant}: expected ours, peer or best")
        folder = Path.cwd()
        if given.contestant == "ours":
            outcome = convert_with_ours(given.entry, given.settings, folder)
        else:
            best = given.contestant == "best"
            outcome = convert_with_peer(given.entry, given.settings, best, folder)
        report_outcome(folder, outcome[0], **outcome[1])
        return
    size = "smoke" if given.settings["size"] == "smoke" else "clinical"
    contestants = list_contestants(given.inputs, given.peers, given.settings, size)
    if size == "smoke":
        contestants = contestants[:2]  # ours, and the peer as it comes
    folder = given.output.parent / "runs"
    repeats = given.settings["repeats"]
    table = run_contest("conversion", size, "study", contestants, repeats, folder)
    table.to_csv(given.output, sep="\t", index=False)


if __name__ == "__main__":
    with exit_on_error():
        main()
