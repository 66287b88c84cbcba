"""Studies that were downloaded: from an entry of the index to the files that it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petct.errors import PetctError
from petct.study_index import find_one, to_entry


def locate_download(
    entry: Mapping[str, Any], manifest: Path | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The entry of a study on disk, under the keys of ``entry``, which is of format idc.

    ``manifest``: download.json, beside the folder ``dicom``. ``settings``: ``label_pattern`` and
    ``accept``. Raises StudyError if the folder does not hold one usable study, PetctError if it is
    gone.
    """
    if manifest is None:
        raise PetctError(f"study {entry['study']} is of format idc and needs its download.json")
    folder = manifest.parent / "dicom"
    if not folder.is_dir():
        raise PetctError(
            f"{folder} is gone, but {manifest.name} beside it says that it is there;"
            " remove that file to download the study again"
        )
    # What the index lists has arrived: only a study that it lists without a label may lack one.
    local = {
        **{"label_pattern": settings["label_pattern"], "accept": settings["accept"]},
        "missing_label": "exclude" if "label" in entry["series"] else "negative",
        **{"keys": "original", "salt_file": None, "unusable_study": "exclude"},
    }
    found = to_entry(find_one(folder, local), folder)
    for role in ("pet", "ct"):
        if role in entry["series"]:  # hashed there if keys are
            found[role]["series"] = entry["series"][role]["uid"]
    keys = {key: entry[key] for key in ("study", "patient", "hashed", "lesions_stated")}
    return {**found, **keys, "warnings": [*entry["warnings"], *found["warnings"]]}


def compare_with_stated(entry: Mapping[str, Any], lesion_voxels: int) -> list[str]:
    """A warning if the collection's description of the label contradicts its voxels."""
    stated = entry.get("lesions_stated")
    if stated is None or stated == (lesion_voxels > 0):
        return []
    words = "lesions" if stated else "no lesions"
    return [f"the collection states {words}, the label has {lesion_voxels} voxels"]
