"""nnU-Net itself, called in place: its fingerprint, plan and network.

Isensee et al., nnU-Net, Nature Methods 18 (2021). What differs from calling it by its commands:
it reads the training format (``nnunet_cases``) instead of copies of images, trains on the
pipeline's patients and folds, and keeps its folders below the caller's. A setting that is absent
keeps nnU-Net's own value.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import (
    DatasetFingerprintExtractor,
)
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import (
    ExperimentPlanner,
)
from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
    residual_encoder_unet_planners as residual_planners,
)
from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.json_export import recursive_fix_for_json_export
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from petct.errors import PetctError
from petct.manifests import read_json, write_json
from petct.nnunet_cases import (
    FILE_ENDING,
    Case,
    CaseReader,
    read_label,
    write_cases,
)

PLANNERS = {
    "ExperimentPlanner": ExperimentPlanner,
    "nnUNetPlannerResEncM": residual_planners.nnUNetPlannerResEncM,
    "nnUNetPlannerResEncL": residual_planners.nnUNetPlannerResEncL,
    "nnUNetPlannerResEncXL": residual_planners.nnUNetPlannerResEncXL,
}
CONFIGURATION = "3d_fullres"
# Of what computes: another version may give other digits.
VERSIONS = [torch.__version__, version("nnunetv2")]
# What nnU-Net trains if nobody says otherwise.
STOCK_EPOCHS, STOCK_STEPS = 1000, 250
_DATASET = "Dataset001_Lesions"
LESION = 1


@contextmanager
def nnunet_folders(root: Path, augmentation_workers: int) -> Iterator[Path]:
    """Point nnU-Net's three folders below ``root`` until the block ends; yields ``root``."""
    values = {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(root / "results"),
        "nnUNet_n_proc_DA": str(augmentation_workers),
    }
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield root
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def describe_dataset(
    listed: dict[str, dict[str, Any]], channels: int, suv_normalisation: str
) -> dict[str, Any]:
    """nnU-Net's dataset.json; its channel names choose the normalisation, the prior has none."""
    names = ["CT", suv_normalisation, "noNorm"][:channels]
    return {
        "channel_names": {str(number): name for number, name in enumerate(names)},
        "labels": {"background": 0, "lesion": LESION},
        "numTraining": len(listed),
        "file_ending": FILE_ENDING,
        "dataset": listed,
    }


def plan(
    cases: dict[str, Case],
    strategy: dict[str, Any],
    settings: dict[str, Any],
    root: Path,
    threads: int,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """nnU-Net's plans, dataset description and fingerprint of these cases, as JSON values.

    ``settings`` are a model's arguments: ``planner``, ``suv_normalisation`` and, if given,
    ``gpu_memory_gb``, ``base_features``, ``batch_size``, ``batch_dice`` and ``patch`` (strategy:
    the strategy's patch, with the network that nnU-Net would plan for an image of that size).
    Raises PetctError if no case has a lesion, which the intensity statistics need.
    """
    if not any(read_label(case).any() for case in cases.values()):
        raise PetctError(f"nnU-Net plans from lesion voxels; none of {len(cases)} cases has any")
    if CaseReader not in LIST_OF_IO_CLASSES:
        LIST_OF_IO_CLASSES.append(CaseReader)
    raw = root / "raw" / _DATASET
    channels = 3 if strategy["prior"] else 2
    dataset = describe_dataset(
        write_cases(raw / "cases", cases), channels, settings["suv_normalisation"]
    )
    write_json(raw / "dataset.json", dataset)
    with nnunet_folders(root, 0):
        extractor = DatasetFingerprintExtractor(_DATASET, threads)
        extractor.show_progress_bar = False
        # Of each case as many as nnU-Net's analyze_case takes by default; run() asks for 1e8 in
        # all, which it would draw again and again from the few voxels that lesions have.
        extractor.num_foreground_voxels_for_intensitystats = 10_000 * len(cases)
        fingerprint = extractor.run()
    plans = plan_network(root, strategy, settings)
    recursive_fix_for_json_export(fingerprint)
    # Where the cases' files lay for planning is of no use later.
    return plans, {key: value for key, value in dataset.items() if key != "dataset"}, fingerprint


def plan_network(root: Path, strategy: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """nnU-Net's plans for the fingerprint and the description of data below ``root``."""
    # Planning asks for at least one augmentation worker; it starts none.
    with nnunet_folders(root, 1):
        memory = settings.get("gpu_memory_gb")
        planner = PLANNERS[settings["planner"]](
            _DATASET, **({} if memory is None else {"gpu_memory_target_in_gb": memory})
        )
        planner.determine_reader_writer = lambda: CaseReader
        planner.UNet_base_num_features = settings.get(
            "base_features", planner.UNet_base_num_features
        )
        plans: dict[str, Any] = planner.plan_experiment()
        chosen = plans["configurations"][CONFIGURATION]
        if settings.get("patch") == "strategy":
            chosen |= plan_patch(planner, chosen, strategy["patch_zyx"], plans["transpose_forward"])
    chosen |= {key: settings[key] for key in ("batch_size", "batch_dice") if key in settings}
    # The other configurations are not trained: what is not there cannot be mistaken for it.
    plans["configurations"] = {CONFIGURATION: chosen}
    recursive_fix_for_json_export(plans)
    return plans


def plan_image(
    spacing_zyx_mm: list[float],
    shape_zyx: list[float],
    strategy: dict[str, Any],
    settings: dict[str, Any],
    root: Path,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The plans and dataset description for images of one size, before there are any."""
    channels = 3 if strategy["prior"] else 2
    dataset = describe_dataset({}, channels, settings["suv_normalisation"]) | {"numTraining": 800}
    unknown = dict.fromkeys(("mean", "median", "std", "min", "max"), 0.0)
    fingerprint = {
        "spacings": [spacing_zyx_mm],
        "shapes_after_crop": [[round(size) for size in shape_zyx]],
        "foreground_intensity_properties_per_channel": {str(c): unknown for c in range(channels)},
        "median_relative_size_after_cropping": 1.0,
    }
    write_json(root / "raw" / _DATASET / "dataset.json", dataset)
    write_json(root / "preprocessed" / _DATASET / "dataset_fingerprint.json", fingerprint)
    return plan_network(root, strategy, settings), dataset


def plan_patch(
    planner: ExperimentPlanner, planned: dict[str, Any], patch_zyx: list[int], axes: list[int]
) -> dict[str, Any]:
    """The plan's parts that depend on the patch, for a given one: nnU-Net's rules decide them.

    Raises PetctError if its rules change the patch: a network with as many halvings as it wants
    cannot take it, or the memory target is too small.
    """
    patch = [patch_zyx[axis] for axis in axes]
    # To its planner, a patch is what fits into a median image: state the patch as the image.
    for_patch = planner.get_plans_for_configuration(
        np.array(planned["spacing"]), tuple(patch), planned["data_identifier"], 1e12, {}
    )
    if list(for_patch["patch_size"]) != patch:
        raise PetctError(
            f"models: nnU-Net cannot take the strategy's patch {patch}, it would make"
            f" it {[int(n) for n in for_patch['patch_size']]}; change strategies.*.patch_zyx,"
            " raise gpu_memory_gb, or leave patch out so that nnU-Net plans its own"
        )
    return {key: for_patch[key] for key in ("patch_size", "batch_size", "architecture")}


def claim_folder(root: Path, key: str) -> None:
    """Empty ``root`` if it holds what a job of another ``key`` (``petct.job_state``) left."""
    owner = root / "key"
    if not (owner.is_file() and owner.read_text() == key):
        remove_folder(root)
        root.mkdir(parents=True)
        owner.write_text(key)


def build_from_plans(
    plans: dict[str, Any], dataset: dict[str, Any], deep_supervision: bool
) -> torch.nn.Module:
    """The planned network; with deep supervision it returns logits at several resolutions."""
    configuration = PlansManager(plans).get_configuration(CONFIGURATION)
    network: torch.nn.Module = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        len(dataset["channel_names"]),
        len(dataset["labels"]),
        allow_init=False,
        deep_supervision=deep_supervision,
    )
    return network


def remove_folder(root: Path) -> None:
    """nnU-Net's working files are large and of use to one job only."""
    shutil.rmtree(root, ignore_errors=True)


def read_plans(folder: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Plans, dataset description and fingerprint that plan_nnunet left in a folder."""
    plans, dataset, fingerprint = (
        read_json(folder / f"{name}.json") for name in ("plans", "dataset", "fingerprint")
    )
    return plans, dataset, fingerprint
