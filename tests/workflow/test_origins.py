"""A finished run says where all of it comes from, in a chain that sha256sum verifies."""

from __future__ import annotations

import getpass
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from petct.manifests import read_json


@pytest.fixture(scope="module")
def results(finished_study: Path) -> Path:
    return finished_study / "run/results/test"


def verify(folder: Path, digests: dict[str, str]) -> None:
    """Have sha256sum compare files, named from ``folder``, with their digests."""
    listed = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    done = subprocess.run(
        ["sha256sum", "--check", "--quiet"], input=listed, text=True, cwd=folder, check=False,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def origin_of(path: Path) -> dict[str, Any]:
    """What stands beside a table or in a model."""
    if path.name == "model.json":
        return dict(read_json(path)["origin"])
    return dict(read_json(path.with_suffix(".origin.json")))


def test_every_table_and_model_leads_back_to_files_that_are_there(results: Path) -> None:
    tables = sorted(path for path in (results / "tables").glob("*.tsv"))
    tables.remove(results / "tables/origins.tsv")
    for table in [*tables, *results.glob("score_predictions/*/*/*/*.tsv")]:
        origin = origin_of(table)
        assert origin["data"]
        verify(table.parent, origin["data"] | {table.name: origin["sha256"]})
    models = sorted(results.glob("train_n*/*/*/*/*/model.json"))
    assert len(models) == 8
    for model in models:
        verify(model.parent, origin_of(model)["data"])


def test_metrics_lead_back_to_the_studies(results: Path) -> None:
    scores = results / "score_predictions/two_step_boxes/unet_small/all/fold-0.tsv"
    predictions = results / "predict_network/two_step_boxes/unet_small/all/fold-0/predictions.json"
    model = results / "train_network/two_step_boxes/unet_small/all/fold-0/model.json"
    cohort = results / "select_cohort/all/fold-0/train.tsv"
    steps = [(results / "tables/comparison.tsv", results / "tables/metrics.tsv")]
    steps += [(results / "tables/metrics.tsv", scores), (scores, predictions), (model, cohort)]
    for result, source in steps:
        data = origin_of(result)["data"]
        assert source.resolve() in {(result.parent / name).resolve() for name in data}
    assert read_json(predictions)["weights"] == read_json(model)["digests"]["last"]
    digests = pd.read_csv(cohort, sep="\t").set_index("study")["digest"]
    assert read_json(model)["studies"] == digests.to_dict()
    for study, digest in digests.items():
        assert read_json(results / f"resample_study/{study}/study.json")["digest"] == digest


def test_all_comes_from_one_place_and_the_report_says_so(results: Path) -> None:
    origins = pd.read_csv(results / "tables/origins.tsv", sep="\t", dtype=str)
    # 8 models; 9 tables, scores of 5 experiments, calibration of 3 and boxes of 1 in two folds.
    models = origins["result"].str.endswith("model.json")
    assert (models.sum(), (~models).sum()) == (8, 9 + 2 * (5 + 3 + 1))
    assert origins.groupby("script")["code"].nunique().eq(1).all()
    assert origins["hardware"].nunique() == 1
    page = (results / "report/index.html").read_text()
    assert "8 models and 27 tables come from one code of each script" in page


def test_origins_name_no_host_person_path_or_time(results: Path) -> None:
    origins = [*results.rglob("*.origin.json"), results / "tables/origins.tsv"]
    texts = {path: path.read_text() for path in origins}
    texts |= {path: str(origin_of(path)) for path in results.rglob("model.json")}
    assert len(texts) == 27 + 1 + 8
    names = {platform.node(), getpass.getuser(), str(Path.home()), str(results.parents[3])}
    for path, text in texts.items():
        for name in names:
            assert not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text), (path, name)
        assert not re.search(r"\d{4}-\d\d-\d\d|\d\d:\d\d", text), path
