"""The whole benchmark, at a size that shows no more than that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from petct.speed import TITLES, read_benchmark
from workflow_runs import ROOT, snakemake

SMOKE = ["--config", "benchmark={size: smoke, repeats: 1}"]


def test_the_benchmark_runs(tmp_path: Path) -> None:
    peers = snakemake(ROOT, tmp_path, "results/benchmark/install_peers/peers.json", *SMOKE)
    if peers.returncode:
        log = tmp_path / "results/benchmark/logs/install_peers.log"
        reason = log.read_text() if log.exists() else peers.stdout + peers.stderr
        if "cannot be installed" in reason:
            pytest.skip(reason.strip()[-300:])
        pytest.fail(reason)
    result = snakemake(ROOT, tmp_path, "benchmark", *SMOKE)
    assert result.returncode == 0, result.stdout + result.stderr
    folder = tmp_path / "results/benchmark"
    table = read_benchmark(folder / "benchmark.tsv")
    # Of the two contests of patches, the one that does all that the other does, and more.
    assert set(table["task"]) == set(TITLES) - {"patches"}
    # Everyone took some time, and in each contest we come first.
    assert (table["wall_s"] > 0).all() and (table["peak_gb"] > 0.01).all()
    first = table.drop_duplicates(["task", "size"])
    assert set(first["who"]) == {"petct"} and first["ratio"].isna().all()
    # Whoever learns in a budget takes a step at least.
    learnt = table[table["task"] == "budget"]["quality"].str.extract(r"steps=(\d+)")[0]
    assert (learnt.astype(int) > 0).all()
    # The peers' values are ours, by whatever way they came about.
    metrics = table[table["task"] == "metrics"]
    assert not metrics["missed"].str.contains("dice|volume|hd95").any()
    assert (folder / "benchmark.png").stat().st_size > 10_000
    origin = json.loads((folder / "benchmark.origin.json").read_text())
    assert {"nnunetv2", "monai", "torchio", "nilearn", "dicom2nifti"} <= set(origin["peers"])
