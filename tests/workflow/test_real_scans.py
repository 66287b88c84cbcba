"""The whole pipeline on four public scans of soft-tissue sarcoma (IBSI validation set)."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

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
    tables = tmp_path / "results/sts/tables"
    metrics = pd.read_csv(tables / "metrics.tsv", sep="\t")
    volumes_ml = {"STS_002": 54.3, "STS_008": 27.9, "STS_035": 35.7, "STS_044": 640.2}
    for study, rows in metrics.groupby("study"):
        assert rows["reference_ml"].tolist() == pytest.approx(
            [volumes_ml[str(study)]] * len(rows), rel=0.01
        )
    assert set(metrics["study"]) == set(volumes_ml)
    assert pd.read_csv(tables / "excluded.tsv", sep="\t").empty
