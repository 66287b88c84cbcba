"""A made-up run for the report's tests: scores by hand, tables by the pipeline's own scripts."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pandas as pd

from compare_experiments import compare_experiments
from pair_experiments import pair_experiments
from petct.manifests import write_json
from petct.metrics import read_table
from rank_experiments import rank_experiments
from tabulate_studies import COLUMNS

STATISTICS = {
    "bootstrap_samples": 200,
    "confidence": 0.95,
    "permutations": 4096,
    "power": 0.8,
    "seed": 3,
    "steps": [["two_step", "one_step"]],
    "upper_bounds": ["oracle"],
}
# One grey pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)

Experiments = dict[tuple[str, str, str], tuple[float, float]]


def make_scores(experiments: Experiments, positives: int, negatives: int) -> pd.DataFrame:
    """Rows of metrics.tsv: per experiment its Dice on positives and its false mL on negatives.

    The Dice of positive study i is off by -0.02 to 0.02, alike in all experiments. Every positive
    study has two lesions of 10 mL together, of which one is found, and 1 mL of false lesions.
    """
    rows = []
    for (strategy, model, cohort), (dice, false_ml) in experiments.items():
        for i in range(positives + negatives):
            positive = i < positives
            false = 1.0 if positive else false_ml
            rows.append(
                {
                    "dataset": "made_up",
                    "study": f"{'positive' if positive else 'negative'}-{i:02d}",
                    "patient": f"P{i:02d}",
                    "fold": i % 2,
                    "strategy": strategy,
                    "model": model,
                    "cohort": cohort,
                    "positive": positive,
                    "reference_ml": 10.0 if positive else 0.0,
                    "predicted_ml": 6.0 + false if positive else false,
                    "dice": dice + 0.01 * (i % 5 - 2) if positive else float("nan"),
                    "fp_volume_ml": false,
                    "fn_volume_ml": 3.0 if positive else float("nan"),
                    "lesions_reference": 2 if positive else 0,
                    "lesions_predicted": 2 if positive else int(false > 0),
                    **{
                        f"lesions_{kind}{criterion}": count
                        for criterion in ("", "_iou10", "_iou50", "_suvmax")
                        for kind, count in (
                            ("found", int(positive)),
                            ("false", 1 if positive else int(false > 0)),
                        )
                    },
                    "surface_dice": dice if positive else float("nan"),
                    "hd95_mm": 20.0 if positive else float("nan"),
                    "reference_tlg": 50.0 if positive else 0.0,
                    "predicted_tlg": 30.0 if positive else 0.0,
                }
            )
    return pd.DataFrame(rows)


def make_studies(scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of studies.tsv: DICOM in BQML, whose CT does not cover the PET in studies of fold 1."""
    studies = scores.drop_duplicates("study")
    covered = 1.0 - 0.1 * studies["fold"]
    return pd.DataFrame(
        {
            "study": studies["study"],
            "patient": studies["patient"],
            "format": "dicom",
            "positive": studies["positive"],
            "lesion_ml": studies["reference_ml"],
            "suv_max": 12.34,
            "units": "BQML",
            "suv_mode": "dicom",
            "suv_factor_low": 5e-4,
            "suv_factor_high": 5e-4,
            "autopet_ratio_low": 1.0,
            "autopet_ratio_high": 1.0,
            "autopet_note": "",
            "ct_covers_pet_share": covered,
            "pet_shape_zyx": "6x8x10",
            "pet_spacing_zyx_mm": "3x5x4",
            "warnings": [
                f"the CT covers {100 * share:.1f} % of the PET grid" if share < 1 else ""
                for share in covered
            ],
            "explanation": "BQML, weight 70 kg; factor 0.0005",
        },
        columns=COLUMNS,
    )


def make_tables(folder: Path, scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables that the report reads, written below ``folder`` and returned by name."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / "metrics.tsv"
    scores.to_csv(metrics, sep="\t", index=False, na_rep="nan")
    compare_experiments(metrics, STATISTICS, folder / "comparison.tsv")
    pair_experiments(metrics, STATISTICS, folder / "differences.tsv")
    rank_experiments(metrics, STATISTICS, folder / "ranks.tsv")
    trained = scores[scores["strategy"] != "threshold"]
    trained = trained[["strategy", "model", "cohort"]].drop_duplicates()
    trained.assign(
        studies=4,
        patients=4,
        ece_suspected=0.1,
        ece_suspected_low=0.05,
        ece_suspected_high=0.2,
        ece_suspected_n=12345,
    ).to_csv(folder / "calibration_summary.tsv", sep="\t", index=False)
    (folder / "regions.tsv").write_text(
        "strategy\tmodel\tcohort\tfold\tstudy\torigin\tboxes\tboxes_ml\tbody_ml"
        "\tlesions_reference\tlesions_missed\treference_outside_ml\n"
        "boxes\tunet\tall\t0\ta\tclusters\t3\t100\t1000\t4\t1\t2.5\n"
        "boxes\tunet\tall\t1\tb\tpeaks\t1\t100\t1000\t2\t0\t0\n"
    )
    make_studies(scores).to_csv(folder / "studies.tsv", sep="\t", index=False, na_rep="nan")
    (folder / "excluded.tsv").write_text("study\tpatient\tstep\treason\tfile\n")
    (folder / "origins.tsv").write_text(
        "result\tscript\tcode\tversions\thardware\n"
        "train_network/one_step/unet/all/fold-0/model.json\ttrain_network\t12e4"
        "\tPython 3.11.7\tCPU\n"
        "tables/metrics.tsv\ttabulate_metrics\t1234\tPython 3.11.7\tCPU\n"
    )
    tables = {path.stem: read_table(path) for path in folder.glob("*.tsv")}
    tables["metrics"]["positive"] = tables["metrics"]["positive"].astype(bool)
    return tables


def make_pictures(folder: Path, scores: pd.DataFrame) -> list[Path]:
    """A manifest and one-pixel pictures of every experiment's studies."""
    manifests = []
    for names, part in scores.groupby(["strategy", "model", "cohort"]):
        own = folder.joinpath(*map(str, names))
        studies: dict[str, Any] = {}
        for study in part["study"]:
            own.mkdir(parents=True, exist_ok=True)
            (own / f"{study}.png").write_bytes(PNG)
            studies[study] = {"picture": f"{study}.png", "digest": ""}
        experiment = dict(zip(("strategy", "model", "cohort"), names, strict=True))
        write_json(own / "pictures.json", {**experiment, "studies": studies})
        manifests.append(own / "pictures.json")
    return manifests
