"""Write the report: one page with the answer, tables, figures, studies and settings inside."""

from __future__ import annotations

import argparse
import base64
import datetime
import json
import math
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from markupsafe import Markup, escape

from petct.command_line import exit_on_error
from petct.errors import PetctError
from petct.manifests import read_json, whole_table
from petct.metrics import EXPERIMENT_COLUMNS, read_table
from petct.pages import open_template
from petct.plots import BASELINE_STRATEGY
from petct.provenance import name_processor
from petct.published_settings import publish_settings
from petct.report_sentences import (
    Design,
    counted,
    describe_reading,
    list_findings,
    name_of,
    rank_by_dice,
    tell_exclusions,
    tell_origins,
)
from petct.report_tables import (
    AGREEMENT_FIGURES,
    COMPARISON_FIGURES,
    LESION_FIGURES,
    Row,
    decimals,
    differences_table,
    excluded_table,
    experiment_table,
    folds_table,
    reasons_table,
    regions_table,
    rows_of,
    warned_table,
    warnings_table,
)
from petct.speed import read_benchmark, speed_table, tell_speed

SECTIONS = {
    "answer": "The answer",
    "comparison": "Comparison",
    "figures": "Figures",
    "pairs": "Paired comparisons",
    "studies": "Studies",
    "boxes": "Boxes",
    "excluded": "Excluded",
    "data": "Data",
    "speed": "Speed",
    "software": "Software and settings",
}

TABLES = [
    *["metrics", "comparison", "differences", "ranks"],
    *["calibration_summary", "regions", "excluded", "studies", "origins"],
]

# Of each figure, by the stem of its file, in the order shown: what it shows, and how to read it.
FIGURES = {
    "dice": (
        "Dice of every study with lesions and falsely marked volume of every study without, by "
        "experiment",
        "Every dot is a study; the diamond is their mean, the bar its interval. Left, studies with "
        "lesions; right, studies without.",
    ),
    "differences": (
        "Paired differences between experiments with their intervals",
        "How experiments differ on the same studies, with the interval of each mean difference. A "
        "bar across zero has not shown a difference.",
    ),
    "ranks": (
        "Ranks of the experiments when patients are drawn again",
        "How stable the order is: the ranks by mean Dice when patients are drawn again.",
    ),
    "calibration": (
        "Share of voxels that are lesion against the probability they were given, by experiment",
        "What probabilities are worth: on the diagonal, three in ten voxels given 0.3 are lesion.",
    ),
    "agreement": (
        "Predicted against reference lesion volume and total lesion glycolysis",
        "Lesion volume and total lesion glycolysis, predicted against reference: a point per study "
        "with lesions.",
    ),
    "history": (
        "Training loss, validation loss and validation Dice by epoch, a panel per experiment",
        "Training: the losses above, the Dice of the held-out validation patches below; a colour "
        "per fold.",
    ),
}

CAPTIONS = {
    "comparison": "Experiments and fixed thresholds. Dice, surface Dice, HD95 and missed volume "
    "exist on studies with lesions only; HD95 leaves out studies in which nothing was predicted. "
    "Lesions are pooled over all studies; found: any voxel shared. ECE: the calibration error "
    "where the network suspects something, n voxels.",
    "lesions": "Lesions pooled over all studies. Found: of the reference lesions; precision: of "
    "the predicted ones; F1: their harmonic mean.",
    "agreement": "Predicted less reference on studies with lesions. Bias: the mean difference; "
    "limits of agreement (Bland and Altman): where most studies' differences lie; Lin's "
    "concordance: 1 if every prediction equals its reference.",
}

# Of each question of differences.tsv, in the order shown: its title and its table's caption.
QUESTIONS = {
    "best": (
        "The first against every other",
        "The experiment with the best mean Dice, less another.",
    ),
    "steps": ("Two steps against one", "A two-step strategy, less its one-step counterpart."),
    "cohort": (
        "Trained without lesion-free studies against with them",
        "Trained on positive studies only, less trained on all.",
    ),
    "architecture": (
        "Model against model",
        "One model, less another, in the same strategy and cohort.",
    ),
}


@dataclass(frozen=True)
class Picture:
    """A PNG as a data URI, with its size in pixels."""

    source: str
    width: int
    height: int


def embed_picture(path: Path) -> Picture:
    """The PNG file as it is. Raises PetctError if it is none."""
    content = path.read_bytes() if path.is_file() else b""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise PetctError(f"got {path}, expected a PNG picture")
    # The header comes first: length, "IHDR", width and height.
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    return Picture("data:image/png;base64," + base64.b64encode(content).decode(), width, height)


def mark_names(text: str) -> Markup:
    """The text for HTML, with what stands in backticks set as a name."""
    return Markup(re.sub(r"`([^`]*)`", r'<span class="name">\1</span>', str(escape(text))))


def list_packages(requirements: Path) -> dict[str, str]:
    """The installed version of each package that the file pins."""
    names = [
        line.split("==")[0].strip()
        for line in requirements.read_text().splitlines()
        if "==" in line and not line.startswith("#")
    ]
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def describe_machine() -> dict[str, str]:
    """Python, platform, processor and accelerator of this machine."""
    accelerators = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "Python": platform.python_version(),
        "System": f"{platform.system()} {platform.machine()}",
        "Processor": f"{name_processor()}, {os.cpu_count()} logical cores",
        "GPU": ", ".join(accelerators) or "none that PyTorch sees",
    }


def describe_data(studies: pd.DataFrame, comparison: pd.DataFrame, config: dict[str, Any]) -> str:
    """The page's first sentence: how many of what."""
    positive = int(studies["positive"].sum())
    baselines = int((comparison["strategy"] == BASELINE_STRATEGY).sum())
    return (
        f"{counted(len(studies), 'study')} of {counted(studies['patient'].nunique(), 'patient')}: "
        f"{positive} with lesions ({counted(int(studies['lesions'].sum()), 'lesion')}), "
        f"{len(studies) - positive} without. "
        f"{counted(len(comparison) - baselines, 'experiment')} and "
        f"{counted(baselines, 'fixed threshold')}, each tested on every study in "
        f"{config['folds']}-fold cross-validation; a patient is never in training and test at once."
    )


def split_questions(
    differences: pd.DataFrame,
) -> Iterator[tuple[str, str, pd.DataFrame, pd.DataFrame]]:
    """Title, caption, pooled rows and single pairs of each question that was asked.

    ``best`` has single pairs only, which stand for the pooled ones.
    """
    for question, (title, caption) in QUESTIONS.items():
        rows = differences[differences["question"] == question]
        alone = rows["level"] == ("pair" if question != "best" else "")
        if len(rows):
            yield title, caption, rows[~alone], rows[alone]


def study_cards(
    scores: pd.DataFrame, metrics: pd.DataFrame, folder: Path, shown: int
) -> list[dict[str, Any]]:
    """The studies of one experiment with their pictures, the worst first, positives apart.

    ``scores`` are the experiment's rows, ``metrics`` those of all networks. About ``shown``
    studies, shared by positives and negatives in proportion.
    """
    parts = {
        "With lesions, the lowest Dice first": scores[scores["positive"]].sort_values(
            ["dice", "study"]
        ),
        "Without lesions, the largest false volume first": scores[~scores["positive"]].sort_values(
            ["fp_volume_ml", "study"], ascending=[False, True]
        ),
    }
    groups = []
    for title, part in parts.items():
        chosen = part.head(math.ceil(len(part) * min(1.0, shown / len(scores))))
        cards = [
            study_card(row, metrics[metrics["study"] == row["study"]], folder)
            for row in rows_of(chosen)
        ]
        if cards:
            groups.append({"title": f"{title} ({len(cards)} of {len(part)})", "studies": cards})
    return groups


def study_card(row: Row, others: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """A study's picture and figures, with what all networks reach on it."""
    volumes = f"falsely marked {decimals(row['fp_volume_ml'], 1)} mL" + (
        f", missed {decimals(row['fn_volume_ml'], 1)} mL" if row["positive"] else ""
    )
    if row["positive"]:
        alt = (
            f"{row['study']}: projections with reference and prediction outlined, "
            f"Dice {decimals(row['dice'], 2)}"
        )
        text = (
            f"{row['lesions_found']} of {counted(row['lesions_reference'], 'lesion')} found, "
            f"{row['lesions_false']} false; {volumes}. Surface Dice "
            f"{decimals(row['surface_dice'], 2)}"
            + ("" if math.isnan(row["hd95_mm"]) else f", HD95 {decimals(row['hd95_mm'], 0)} mm")
            + "."
        )
        if len(others) > 1:
            text += (
                f" Dice of all {len(others)} networks: {decimals(others['dice'].min(), 2)} to "
                f"{decimals(others['dice'].max(), 2)}."
            )
    else:
        alt = (
            f"{row['study']}: projections with the prediction outlined, no lesion, "
            f"{decimals(row['predicted_ml'], 1)} mL predicted"
        )
        text = f"{counted(row['lesions_false'], 'false lesion')}; {volumes}."
        if len(others) > 1:
            text += (
                f" {int((others['predicted_ml'] > 0).sum())} of {len(others)} networks raise an "
                "alarm."
            )
    picture = embed_picture(folder / f"{row['study']}.png")
    return {"picture": picture, "alt": alt, "text": f"Fold {row['fold']}. {text}"}


def find_pictures(pictures: Sequence[Path], experiment: Row) -> Path:
    """The folder of the experiment's pictures, by their manifests."""
    for path in pictures:
        manifest = read_json(path)
        if all(manifest[column] == experiment[column] for column in EXPERIMENT_COLUMNS):
            return path.parent
    raise PetctError(
        f"no pictures of {' / '.join(str(experiment[c]) for c in EXPERIMENT_COLUMNS)} among "
        f"{', '.join(map(str, pictures))}"
    )


def choose_shown(comparison: pd.DataFrame, differences: pd.DataFrame, design: Design) -> Row:
    """The network whose pictures are shown: best by Dice; without Dice, by false volume."""
    trained = comparison[comparison["strategy"] != BASELINE_STRATEGY]
    ranked = rank_by_dice(trained, differences, design)
    if ranked:
        return ranked[0]
    allowed = trained[~trained["strategy"].isin(design.upper_bounds)]
    return rows_of(
        (allowed if len(allowed) else trained).sort_values(
            "negative_fp_volume_ml_mean", kind="stable"
        )
    )[0]


def write_report(
    tables: list[Path],
    figures: list[Path],
    pictures: list[Path],
    source: Path | None,
    benchmark: Path | None,
    template: Path,
    requirements: Path,
    settings: dict[str, Any],
    written: datetime.date,
    output: Path,
) -> None:
    """Write ``output``, a page that needs no other file and no network.

    ``tables`` are those that TABLES names, ``figures`` PNG files that FIGURES names; ``pictures``
    the manifests of plot_studies; ``source`` the source.json of a downloaded collection;
    ``benchmark`` benchmark.tsv, beside its figure, if it was made; ``template`` lies beside its
    .css and .js. ``settings`` has ``config``, every setting of the run, of which the page withholds
    what is private; ``code``, the digest of each script; and ``upper_bounds``, the strategies that
    look at the reference. The same inputs, machine, versions and date ``written`` give the same
    bytes.
    """
    config = settings["config"]
    design = Design(
        confidence=config["evaluation"]["confidence"],
        power=config["evaluation"]["power"],
        upper_bounds=settings["upper_bounds"],
        networks={name: model["network"] for name, model in config["models"].items()},
        synthetic=config["source"] == "phantom",
    )
    files = {path.stem: path for path in tables}
    missing = sorted({*TABLES} - {*files})
    if missing:
        raise PetctError(f"tables: {', '.join(missing)} missing, got {', '.join(sorted(files))}")
    table = {name: read_table(files[name]) for name in TABLES if name != "origins"}
    # A digest is text, even one that could be a number.
    origins = pd.read_csv(whole_table(files["origins"]), sep="\t", dtype=str)
    metrics, comparison = table["metrics"], table["comparison"]
    for name in ("metrics", "comparison"):
        if table[name].empty:
            raise PetctError(f"{files[name]}: no rows, expected at least one experiment")
    metrics["positive"] = metrics["positive"].astype(bool)
    comparison = comparison.merge(
        table["calibration_summary"].drop(columns=["studies", "patients"]),
        on=EXPERIMENT_COLUMNS,
        how="left",
    )
    studies = metrics.drop_duplicates("study").rename(columns={"lesions_reference": "lesions"})
    shown = choose_shown(comparison, table["differences"], design)
    own = (metrics[EXPERIMENT_COLUMNS] == [shown[c] for c in EXPERIMENT_COLUMNS]).all(axis=1)
    trained = metrics[metrics["strategy"] != BASELINE_STRATEGY]
    cards = study_cards(
        metrics[own], trained, find_pictures(pictures, shown), config["report"]["pictured_studies"]
    )
    unranked = {BASELINE_STRATEGY, *design.upper_bounds}
    by_name = {path.stem: path for path in figures}
    speed = read_benchmark(benchmark) if benchmark else None

    page = open_template(template, names=mark_names).render(
        dataset=config["dataset"],
        lead=describe_data(studies, comparison, config),
        sections=[
            (name, title) for name, title in SECTIONS.items() if name != "speed" or benchmark
        ],
        findings=list_findings(table, design),
        confidence=f"{100 * design.confidence:g} %",
        tables={
            "comparison": experiment_table(
                CAPTIONS["comparison"], comparison, COMPARISON_FIGURES, unranked
            ),
            "lesions": experiment_table(CAPTIONS["lesions"], comparison, LESION_FIGURES, unranked),
            "agreement": experiment_table(
                CAPTIONS["agreement"], comparison, AGREEMENT_FIGURES, unranked
            ),
            "regions": regions_table(table["regions"]),
            "reasons": reasons_table(table["excluded"]),
            "excluded": excluded_table(table["excluded"]),
            "folds": folds_table(studies),
            "warnings": warnings_table(table["studies"]),
            "warned": warned_table(table["studies"]),
        },
        exclusions=tell_exclusions(table["excluded"], len(table["studies"])),
        reading=describe_reading(table["studies"], read_json(source) if source else None),
        pairs=[
            (
                question,
                differences_table(caption, part, design.significance),
                differences_table(caption, alone, design.significance),
            )
            for question, caption, part, alone in split_questions(table["differences"])
        ],
        figures=[
            {"name": name, "alt": alt, "caption": caption, **vars(embed_picture(by_name[name]))}
            for name, (alt, caption) in FIGURES.items()
            if name in by_name
        ],
        speed=None
        if speed is None or benchmark is None
        else {
            "sentences": tell_speed(speed),
            "table": speed_table(speed),
            "picture": embed_picture(benchmark.with_suffix(".png")),
        },
        shown=name_of(shown),
        study_groups=cards,
        power=f"{100 * design.power:g} %",
        written=written.isoformat(),
        origins=tell_origins(origins),
        machine=describe_machine(),
        packages=list_packages(requirements),
        code=settings["code"],
        seed=config["seed"],
        config=yaml.safe_dump(
            publish_settings(config), default_flow_style=None, allow_unicode=True, width=48
        ),
        stylesheet=Markup(template.with_suffix(".css").read_text()),
        script=Markup(template.with_suffix(".js").read_text()),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page)
    print(f"{output}: {len(page) / 1e6:.1f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=Path, nargs="+", required=True, help="metrics.tsv ...")
    parser.add_argument("--figures", type=Path, nargs="+", required=True, help="pictures (PNG)")
    parser.add_argument("--pictures", type=Path, nargs="+", required=True, help="pictures.json ...")
    parser.add_argument("--template", type=Path, required=True, help="HTML; .css and .js beside it")
    parser.add_argument("--requirements", type=Path, required=True, help="pins of the environment")
    parser.add_argument("--settings", type=json.loads, required=True, help="JSON: config, code")
    parser.add_argument("--source", type=Path, nargs="?", help="source.json of a collection")
    parser.add_argument("--benchmark", type=Path, nargs="?", help="benchmark.tsv, .png beside it")
    parser.add_argument("--output", type=Path, required=True, help="page (HTML)")
    write_report(**vars(parser.parse_args()), written=datetime.date.today())


if __name__ == "__main__":
    with exit_on_error():
        main()
