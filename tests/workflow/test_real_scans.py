"""The whole pipeline on four public scans of soft-tissue sarcoma (IBSI validation set)."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest

from petct.image_files import load_volume

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("PETCT_TEST_DATA", ROOT.parent / "shared/data")) / "ibsi_sts"
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no public scans in {DATA} (PETCT_TEST_DATA)")
def test_four_sarcomas_are_scored(tmp_path: Path) -> None:
    quick = tmp_path / "quick.yaml"
    quick.write_text(
        "training: {epochs: 1, steps_per_epoch: 2, batch_size: 2}\n"
        "experiments: {strategies: [two_step_boxes]}\n"
    )
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(tmp_path), "--cores", "2"]
    command += ["--configfile", str(ROOT / "config/sts.yaml"), str(quick)]
    command += ["--config", f"folder={DATA}"]
    result = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    check_tables(tmp_path)
    # The same scans as new ones, without a look at their contours.
    again = [*command, f"apply_to={DATA}", "--", "apply"]
    result = subprocess.run(again, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    check_applied(tmp_path / "results/apply/ibsi_sts")


def check_tables(tmp_path: Path) -> None:
    tables = tmp_path / "results/sts/tables"
    metrics = pd.read_csv(tables / "metrics.tsv", sep="\t")
    volumes_ml = {"STS_002": 54.3, "STS_008": 27.9, "STS_035": 35.7, "STS_044": 640.2}
    for study, rows in metrics.groupby("study"):
        assert rows["reference_ml"].tolist() == pytest.approx(
            [volumes_ml[str(study)]] * len(rows), rel=0.01
        )
    assert set(metrics["study"]) == set(volumes_ml)
    assert pd.read_csv(tables / "excluded.tsv", sep="\t").empty


def check_applied(folder: Path) -> None:
    """Each SEG's frames, put where they say they are, are the mask."""
    table = pd.read_csv(folder / "studies.tsv", sep="\t").set_index("study")
    assert set(table["status"]) == {"described"} and len(table) == 4
    for study in table.index:
        mask, grid = load_volume(folder / f"export_study/{study}/lesions.nii.gz")
        seg = pydicom.dcmread(folder / f"export_study/{study}/lesions.dcm")
        found = np.zeros_like(mask)
        axes = np.array(grid.direction).reshape(3, 3)
        frames = seg.pixel_array.reshape(-1, *mask.shape[1:])
        for frame, group in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
            x, y, z = axes.T @ (place - grid.origin_xyz_mm) / grid.spacing_xyz_mm
            assert (x, y) == pytest.approx((0, 0), abs=1e-3)
            found[round(z)] |= frame
        assert np.array_equal(found, mask)
        assert table.loc[study, "mtv_ml"] == pytest.approx(mask.sum() * grid.voxel_ml, rel=1e-4)
        assert (folder / f"write_study_page/{study}.html").is_file()
