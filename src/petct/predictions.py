"""What a prediction leaves on disk, whichever network made it, and how others read it.

Beside a study's files, prediction.json holds its entry of predictions.json and the key of all that
it hangs on, so that a job which was killed, or of which some studies changed, redoes the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petct.arrays import load_array
from petct.errors import PetctError
from petct.grids import Grid, restore_mask
from petct.image_files import save_volume
from petct.job_state import job_key
from petct.manifests import digest_arrays, read_json, write_json

# A manifest's entries by study, each with the folder that its paths are relative to.
Entries = dict[str, tuple[Path, dict[str, Any]]]

_MANIFEST = "prediction.json"


def key_predictions(
    studies: list[str],
    read: Path,
    coarse: list[Path],
    regions: list[Path],
    code: str,
    settings: Any,
    *inputs: Path | str,
) -> dict[str, str]:
    """A key of each study's prediction: it is to be made again if its key is another.

    ``read`` is the folder of the step that the studies are read from, ``coarse`` and ``regions``
    the predictions.json and regions.json files that together cover them; of these the study's own
    parts count. The rest is as in ``petct.job_state.job_key``.
    """
    coarse_of, regions_of = merge_entries(coarse), merge_entries(regions)
    keys = {}
    for study in studies:
        digest = read_json(read / study / "study.json")["digest"]
        own = [
            entries[study][1] if study in entries else None for entries in (coarse_of, regions_of)
        ]
        keys[study] = job_key(code, [settings, digest, *own], *inputs)
    return keys


def keep_predictions(folder: Path, keys: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The entries of the studies below ``folder`` whose prediction is whole and of its key."""
    kept = {}
    for study, key in keys.items():
        try:
            saved = read_json(folder / study / _MANIFEST)
        except (FileNotFoundError, ValueError):
            continue
        entry = saved["entry"]
        files = [folder / entry[name] for name in ("mask", "probability") if name in entry]
        if saved["key"] == key and all(file.is_file() for file in files):
            kept[study] = entry
    if kept:
        print(f"{len(kept)} of {len(keys)} studies are predicted already and kept", flush=True)
    return kept


def start_prediction(folder: Path) -> None:
    """From here on nothing in a study's ``folder`` is taken for whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MANIFEST).unlink(missing_ok=True)


def finish_prediction(folder: Path, key: str, entry: dict[str, Any]) -> None:
    """State that the files in a study's ``folder`` are whole: ``entry`` says which."""
    write_json(folder / _MANIFEST, {"key": key, "entry": entry})


def save_prediction(
    probability: np.ndarray,
    grid: Grid,
    resampled: dict[str, Any],
    threshold: float,
    folder: Path,
    key: str,
    boxes: int,
    seconds: float,
) -> dict[str, Any]:
    """Write probability.npy (Z, Y, X) on ``grid`` and lesions.nii.gz on the native PET grid.

    ``resampled`` is the study's manifest of resample_study; a voxel is lesion where its native
    probability is above ``threshold``. Returns the study's entry of predictions.json, whose paths
    are relative to ``folder``'s parent, and tells of it in one line. prediction.json, with the
    study's ``key``, is written last.
    """
    probability = probability.astype(np.float16)
    native = Grid.from_json(resampled["native"])
    body = resampled["body_start_zyx"], resampled["body_stop_zyx"]
    mask = restore_mask(probability, grid, native, *body, threshold)
    start_prediction(folder)
    np.save(folder / "probability.npy", probability)
    save_volume(mask, native, folder / "lesions.nii.gz")
    entry = {
        "mask": f"{folder.name}/lesions.nii.gz",
        "probability": f"{folder.name}/probability.npy",
        "grid": grid.to_json(),
        "boxes": boxes,
        "digest": digest_arrays(probability, mask, geometry=native.to_json()),
    }
    finish_prediction(folder, key, entry)
    volume_ml = mask.sum() * native.voxel_ml
    print(f"{folder.name}: {volume_ml:.1f} mL in {seconds:.1f} s", flush=True)
    return entry


def merge_entries(manifests: list[Path]) -> Entries:
    """The entries of predictions.json or regions.json files that together cover the studies."""
    merged = {}
    for path in manifests:
        for study, entry in read_json(path)["studies"].items():
            merged[study] = (path.parent, entry)
    return merged


def find_entry(entries: Entries, study: str, what: str) -> tuple[Path, dict[str, Any]]:
    """A study's entry and its manifest's folder; ``what`` names the entries in the error."""
    if study not in entries:
        raise PetctError(
            f"study {study} has no {what}; these are there: {', '.join(sorted(entries))}"
        )
    return entries[study]


def read_probability(predictions: Entries, study: str, what: str) -> tuple[np.ndarray, Grid]:
    """A study's probability (Z, Y, X), memory-mapped, and its grid; ``what`` names it in errors."""
    folder, entry = find_entry(predictions, study, what)
    return load_array(folder / entry["probability"]), Grid.from_json(entry["grid"])
