"""A prediction's key: what a study's prediction hangs on, and nothing of its neighbours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from array_studies import NATIVE, write_predictions, write_regions
from petct.manifests import write_json
from petct.predictions import (
    finish_prediction,
    keep_predictions,
    key_predictions,
    start_prediction,
)

PROBABILITY = {study: np.zeros(NATIVE.shape_zyx) for study in "ab"}


def test_a_key_is_of_the_study_and_of_its_own_coarse_prediction_and_regions(tmp_path: Path) -> None:
    for study in "ab":
        write_json(tmp_path / study / "study.json", {"digest": study})
    coarse, regions = tmp_path / "coarse.json", tmp_path / "regions.json"
    write_predictions(coarse, NATIVE, PROBABILITY)
    write_regions(regions, {"a": [(0, 0, 0, 1, 1, 1)], "b": []}, {})

    def keys(code: str = "code", settings: Any = None, weights: str = "w") -> dict[str, str]:
        return key_predictions(["a", "b"], tmp_path, [coarse], [regions], code, settings, weights)

    first = keys()
    assert first["a"] != first["b"]
    assert keys() == first

    write_regions(regions, {"a": [(0, 0, 0, 1, 1, 2)], "b": []}, {})
    moved = keys()
    assert (moved["a"] != first["a"], moved["b"]) == (True, first["b"])
    write_predictions(coarse, NATIVE, PROBABILITY | {"b": PROBABILITY["b"] + 1})
    found = keys()
    assert (found["a"], found["b"] != first["b"]) == (moved["a"], True)
    write_json(tmp_path / "b" / "study.json", {"digest": "other"})
    assert keys()["a"] == found["a"] and keys()["b"] != found["b"]
    for changed in (keys(code="other"), keys(settings=1), keys(weights="other")):
        assert not set(changed.values()) & set(keys().values())


def test_a_prediction_is_kept_from_its_manifest_on_until_it_is_begun_anew(tmp_path: Path) -> None:
    entry = {"mask": "a/lesions.nii.gz", "digest": "d"}
    start_prediction(tmp_path / "a")
    (tmp_path / "a" / "lesions.nii.gz").write_bytes(b"mask")
    assert keep_predictions(tmp_path, {"a": "key"}) == {}
    finish_prediction(tmp_path / "a", "key", entry)
    assert keep_predictions(tmp_path, {"a": "key", "b": "key"}) == {"a": entry}
    assert keep_predictions(tmp_path, {"a": "other"}) == {}
    # Once another is begun, going back to the first key finds nothing whole.
    start_prediction(tmp_path / "a")
    assert keep_predictions(tmp_path, {"a": "key"}) == {}


def test_the_manifest_says_what_predictions_json_says(tmp_path: Path) -> None:
    finish_prediction(tmp_path / "a", "key", {"mask": "a/lesions.nii.gz"})
    saved = json.loads((tmp_path / "a" / "prediction.json").read_text())
    assert saved == {"key": "key", "entry": {"mask": "a/lesions.nii.gz"}}
