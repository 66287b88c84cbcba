"""nnU-Net's preprocessing, stored as its trainer reads it; apart from the trainer, which is slow to
import in each of the processes that share the cases."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import (
    comp_blosc2_params,
    nnUNetDatasetBlosc2,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from petct.job_state import end_with_parent
from petct.nnunet import CONFIGURATION, remove_folder
from petct.nnunet_cases import Case, read_image, read_label
from petct.trained_models import replace_file

# Of a preprocessed case, in the order of writing: one that has the last has all.
_CASE_ENDINGS = (".b2nd", "_seg.b2nd", ".pkl")


def preprocess(
    cases: dict[str, Case], plans: dict[str, Any], dataset: dict[str, Any], root: Path, threads: int
) -> None:
    """nnU-Net's preprocessing of all cases into the folder that its trainer reads.

    Cases that are there already, from before a kill, stay.
    """
    configuration = PlansManager(plans).get_configuration(CONFIGURATION)
    folder = root / "preprocessed" / plans["dataset_name"] / configuration.data_identifier
    folder.mkdir(parents=True, exist_ok=True)
    drafts = root / "drafts"
    remove_folder(drafts)
    drafts.mkdir()
    missing = [name for name in cases if not (folder / f"{name}{_CASE_ENDINGS[-1]}").is_file()]
    if len(missing) < len(cases):
        print(f"{len(cases) - len(missing)} of {len(cases)} cases are preprocessed already")
    jobs = [(name, cases[name], plans, dataset, folder, drafts) for name in missing]
    if threads == 1 or len(jobs) < 2:
        for job in jobs:
            preprocess_case(*job)
        return
    with ProcessPoolExecutor(
        threads, mp_context=get_context("spawn"), initializer=end_with_parent
    ) as pool:
        list(pool.map(preprocess_case, *zip(*jobs, strict=True)))


def preprocess_case(
    name: str,
    case: Case,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    folder: Path,
    drafts: Path,
) -> None:
    """One case through nnU-Net's preprocessor, stored in ``folder`` as it stores them."""
    manager = PlansManager(plans)
    configuration = manager.get_configuration(CONFIGURATION)
    image, properties = read_image(case)
    data, label, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
        image, read_label(case), properties, manager, configuration, dataset
    )
    data, label = data.astype(np.float32, copy=False), label.astype(np.int16, copy=False)
    blocks, chunks = comp_blosc2_params(data.shape, tuple(configuration.patch_size), data.itemsize)
    label_blocks, label_chunks = comp_blosc2_params(
        label.shape, tuple(configuration.patch_size), label.itemsize
    )
    nnUNetDatasetBlosc2.save_case(
        data, label, properties, str(drafts / name),
        chunks=chunks, blocks=blocks, chunks_seg=label_chunks, blocks_seg=label_blocks,
    )  # fmt: skip
    for ending in _CASE_ENDINGS:
        with replace_file(folder / f"{name}{ending}") as draft:
            os.replace(drafts / f"{name}{ending}", draft)
