"""The benchmark's studies: what is converted holds the lesions that the table tells of."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from petct.arrays import open_arrays
from petct.manifests import read_json
from prepare_benchmark import prepare_benchmark

DEFAULT = yaml.safe_load((Path(__file__).parents[2] / "config/config.yaml").read_text())


def test_studies_are_made_and_read(tmp_path: Path) -> None:
    """One study with lesions and one without, which is the phantom's every third."""
    reading = DEFAULT["reading"] | {"unusable_study": "stop"}
    grids = {"fine": {"spacing_zyx_mm": [8.0, 8.0, 8.0]}}
    chosen = {
        "phantom": {"size": "demo", "seed": 1},
        "studies": ["phantom-002", "phantom-003"],
        "index": reading,
        "conversion": reading,
        "preprocessing": DEFAULT["preprocessing"] | {"grids": grids, "unusable_study": "stop"},
    }
    output = tmp_path / "inputs.json"
    (tmp_path / "clinical").mkdir()
    prepare_benchmark({"smoke": chosen}, output, threads=2)
    assert json.loads(output.read_text()) == {"sets": {"smoke": {"studies": chosen["studies"]}}}
    # Of an earlier benchmark nothing is left to be taken for this one's.
    assert not (tmp_path / "clinical").exists()
    truth = pd.read_csv(tmp_path / "smoke/studies.tsv", sep="\t").set_index("study")
    assert truth["positive"].tolist() == [True, False]
    for study, row in truth.iterrows():
        told = read_json(tmp_path / f"smoke/convert_study/{study}/study.json")
        assert (told["patient"], told["positive"]) == (row["patient"], row["positive"])
        # Voxels of 5 mm against spheres and such in closed form.
        assert told["lesion_ml"] == pytest.approx(row["lesion_ml"], rel=0.2)
        label = open_arrays(tmp_path / f"smoke/resample_study/{study}/fine").label
        assert label.any() == row["positive"]
