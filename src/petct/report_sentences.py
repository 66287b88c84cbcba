"""The report's answer: plain sentences from the tables of experiments, differences and ranks.

Names of experiments stand in backticks. A difference is called "beyond chance" if its p, adjusted
for all tests of its family, is below 1 - confidence; never "equal" because it is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from petct.message_kinds import count_kinds
from petct.metrics import EXPERIMENT_COLUMNS
from petct.plots import BASELINE_STRATEGY
from petct.report_tables import Row, decimals, p_value, rows_of, span

# Of each outcome of differences.tsv: what it is called, its decimals and its unit.
OUTCOME_WORDS = {
    "dice": ("Dice", 2, ""),
    "fn_volume_ml": ("missed volume", 1, " mL"),
    "negative_fp_volume_ml": ("false volume on lesion-free studies", 1, " mL"),
    "negative_false_alarm_rate": ("false alarm rate on lesion-free studies", 2, ""),
}


@dataclass(frozen=True)
class Finding:
    question: str
    sentences: list[str]


@dataclass(frozen=True)
class Design:
    """What the sentences must know beside the tables.

    ``upper_bounds``: strategies that look at the reference and cannot be best. ``networks``: each
    model's architecture. ``synthetic``: the studies are phantoms.
    """

    confidence: float
    power: float
    upper_bounds: Sequence[str]
    networks: Mapping[str, str]
    synthetic: bool

    @property
    def significance(self) -> float:
        return round(1 - self.confidence, 6)


def name_experiment(strategy: str, model: str, cohort: str) -> str:
    if strategy == BASELINE_STRATEGY:
        return f"`{model}`"
    return f"`{model} · {strategy} · {cohort}`"


def name_of(row: Row, side: str = "") -> str:
    return name_experiment(*(str(row[column + side]) for column in EXPERIMENT_COLUMNS))


def enumerate_words(words: Iterable[str], conjunction: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} {conjunction} {last}" if most else last


def counted(number: int, noun: str) -> str:
    """ "1 study", "2 studies", "1 patient"."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if number == 1 else plural}"


def signed(value: float, digits: int) -> str:
    text = decimals(value, digits)
    return f"+{text}" if float(f"{value:.{digits}f}") > 0 else text


def certainty(row: Row, digits: int) -> str:
    """A difference's interval, adjusted p and n, as they stand in brackets."""
    interval = span(row["low"], row["high"], digits) or "no interval from one patient"
    return f"{interval}; p\u00a0{p_value(row['p_adjusted'])}; n\u00a0{row['studies']:.0f}"


def is_beyond_chance(row: Row, design: Design) -> bool:
    return bool(row["p_adjusted"] < design.significance)


def verdict(row: Row, design: Design) -> str:
    return "beyond chance" if is_beyond_chance(row, design) else "not beyond chance"


def describe_changes(rows: Sequence[Row], design: Design) -> str:
    """What changing one thing does to several outcomes, as the rest of a sentence.

    What changes beyond chance comes first, with its direction; what is not shown to change after.
    """
    changed, unchanged = [], []
    for row in rows:
        words, digits, unit = OUTCOME_WORDS[row["metric"]]
        size, sure = row["difference"], certainty(row, digits)
        if is_beyond_chance(row, design):
            verb = "raises" if size > 0 else "lowers"
            changed.append(f"{verb} {words} by {decimals(abs(size), digits)}{unit} ({sure})")
        else:
            unchanged.append(f"{words} ({signed(size, digits)}{unit}; {sure})")
    if unchanged:
        changed.append(f"is not shown to change {enumerate_words(unchanged, 'or')}")
    return enumerate_words(changed)


def pick(differences: pd.DataFrame, **values: Any) -> list[Row]:
    """The rows of the table that have these values."""
    for column, value in values.items():
        differences = differences[differences[column] == value]
    return rows_of(differences)


def between(differences: pd.DataFrame, best: Row, other: Row) -> Row | None:
    """The difference in Dice of the best less another experiment, if it was tested."""
    for row in pick(differences, question="best", metric="dice"):
        if name_of(row, "_a") == name_of(best) and name_of(row, "_b") == name_of(other):
            return row
    return None


def rank_by_dice(comparison: pd.DataFrame, differences: pd.DataFrame, design: Design) -> list[Row]:
    """The experiments with a mean Dice, the highest first, without upper bounds.

    Of several that tie, the one that ``differences`` compares with every other comes first.
    """
    tested = {name_of(row, "_a") for row in pick(differences, question="best")}
    candidates = comparison[
        (comparison["dice_n"] > 0) & ~comparison["strategy"].isin(design.upper_bounds)
    ]
    return sorted(
        rows_of(candidates), key=lambda row: (-row["dice_mean"], name_of(row) not in tested)
    )


def is_baseline(row: Row) -> bool:
    return bool(row["strategy"] == BASELINE_STRATEGY)


def tell_lead(best: Row, other: Row, differences: pd.DataFrame, design: Design) -> str:
    """How far ``other`` is behind ``best`` and whether that is beyond chance."""
    lead = f"{name_of(other)} with {decimals(other['dice_mean'], 2)}"
    row = between(differences, best, other)
    if row is None:
        return f"{lead}; the two were not compared study by study."
    behind = decimals(row["difference"], 2) if row["difference"] >= 0.005 else "less than 0.01"
    return f"{lead}, {behind} lower ({certainty(row, 2)}): {verdict(row, design)}."


def answer_best(
    metrics: pd.DataFrame, comparison: pd.DataFrame, differences: pd.DataFrame, design: Design
) -> Finding:
    question = "Which experiment is best?"
    ranked = rank_by_dice(comparison, differences, design)
    if not ranked:
        return Finding(question, answer_without_lesions(comparison, design))
    best, *others = ranked
    patients = metrics.loc[metrics["positive"], "patient"].nunique()
    interval = span(best["dice_low"], best["dice_high"], 2)
    interval = (
        f"{design.confidence:.0%} interval {interval}".replace("%", " %")
        if interval
        else "no interval from one patient"
    )
    scored = (
        f"mean Dice {decimals(best['dice_mean'], 2)} ({interval}; "
        f"{counted(int(best['dice_n']), 'study')} with lesions of {counted(patients, 'patient')})"
    )
    networks = [row for row in others if not is_baseline(row)]
    baselines = [row for row in others if is_baseline(row)]
    if not others:
        sentences = [f"{name_of(best)} is the only experiment: {scored}."]
    elif is_baseline(best):
        sentences = [f"No network beats a fixed threshold: {name_of(best)} ranks first, {scored}."]
    else:
        sentences = [f"{name_of(best)} ranks first: {scored}."]
    if networks:
        sentences.append(f"Next is {tell_lead(best, networks[0], differences, design)}")
    if baselines and not is_baseline(best):
        sentences.append(
            f"The best fixed threshold is {tell_lead(best, baselines[0], differences, design)}"
        )
    sentences.append(tell_cost(best))
    bounds = comparison[comparison["strategy"].isin(design.upper_bounds)]
    sentences += [
        f"{name_of(row)} looks at the reference, which nobody has beforehand, and ranks with none: "
        f"mean Dice {decimals(row['dice_mean'], 2)} (n\u00a0{row['dice_n']:.0f})."
        for row in rows_of(bounds[bounds["dice_n"] > 0])
    ]
    if any(row["studies"] != best["studies"] for row in others):
        sentences.append("Not every experiment was scored on the same studies; see each n.")
    return Finding(question, sentences)


def tell_cost(best: Row) -> str:
    """What the best experiment finds and what it raises on lesion-free studies."""
    lesions = int(best["lesion_sensitivity_n"])
    found = (
        f"It finds {round(best['lesion_sensitivity'] * lesions)} of {counted(lesions, 'lesion')}"
    )
    negatives = int(best["negative_false_alarm_rate_n"])
    if not negatives:
        return f"{found}; no study is free of lesions, so nothing is known of false alarms there."
    alarms = round(best["negative_false_alarm_rate"] * negatives)
    return (
        f"{found} and raises a false alarm in {alarms} of "
        f"{counted(negatives, 'study')} without lesions, "
        f"{decimals(best['negative_fp_volume_ml_mean'], 1)} mL on average."
    )


def answer_without_lesions(comparison: pd.DataFrame, design: Design) -> list[str]:
    sentences = [
        "No study has lesions: Dice does not exist, and nothing is known of how lesions are found."
    ]
    candidates = comparison[
        (comparison["negative_fp_volume_ml_n"] > 0)
        & ~comparison["strategy"].isin(design.upper_bounds)
    ].sort_values("negative_fp_volume_ml_mean", kind="stable")
    for row in rows_of(candidates.head(1)):
        sentences.append(
            f"{name_of(row)} marks the least: {decimals(row['negative_fp_volume_ml_mean'], 1)} mL "
            f"per study (n {row['negative_fp_volume_ml_n']:.0f})."
        )
    return sentences


def answer_order(
    comparison: pd.DataFrame, differences: pd.DataFrame, ranks: pd.DataFrame, design: Design
) -> Finding:
    question = "Is the order beyond chance?"
    ranked = [row for row in rank_by_dice(comparison, differences, design) if not is_baseline(row)]
    if len(ranked) < 2:
        return Finding(question, ["Not asked: there are no two networks with a Dice to compare."])
    best, *others = ranked
    compared = [(other, between(differences, best, other)) for other in others]
    tested = [(other, row) for other, row in compared if row is not None]
    if not tested:
        return Finding(
            question, ["Not known: only the experiment that ranks first is compared with all."]
        )
    worse = [other for other, row in tested if is_beyond_chance(row, design)]
    alike = [other for other, row in tested if not is_beyond_chance(row, design)]
    family = f"{tested[0][1]['family']:.0f}"
    sentences = [
        f"Of {counted(len(tested), 'other network')}, {len(worse)} "
        f"{'is' if len(worse) == 1 else 'are'} worse than the first beyond chance (p below "
        f"{design.significance:g} after Holm's correction over {family} pairs)."
    ]
    if alike:
        sentences.append(
            f"Not shown to differ from the first: {enumerate_words(map(name_of, alike))}."
        )
    return Finding(question, [*sentences, *tell_ranks(ranks, best)])


def tell_ranks(ranks: pd.DataFrame, best: Row) -> list[str]:
    """How often the best stays first when patients are drawn again."""
    for row in rows_of(ranks):
        if name_of(row) == name_of(best) and not math.isnan(row["first_share"]):
            return [
                f"With the patients drawn again, it stays first by mean Dice in "
                f"{100 * row['first_share']:.0f} % of the draws."
            ]
    return []


def answer_steps(differences: pd.DataFrame, design: Design) -> Finding:
    sentences = []
    asked = differences[(differences["question"] == "steps") & (differences["level"] == "overall")]
    sides = ["strategy_a", "strategy_b"]
    for two_step, one_step in asked[sides].drop_duplicates().itertuples(index=False):
        rows = pick(asked, strategy_a=two_step, strategy_b=one_step)
        changes = [row for row in rows if row["metric"] in ("dice", "negative_fp_volume_ml")]
        pairs = counted(int(rows[0]["pairs"]), "pair")
        sentences.append(
            f"`{two_step}` instead of `{one_step}` {describe_changes(changes, design)}; "
            f"{pairs} of experiments."
        )
    if not sentences:
        sentences = ["Not asked: no two-step experiment has a one-step counterpart."]
    return Finding("One step or two?", sentences)


def answer_cohorts(differences: pd.DataFrame, comparison: pd.DataFrame, design: Design) -> Finding:
    """What training on positive studies only changes: Dice, and the cost on negatives."""
    question = "Train without lesion-free studies?"
    asked = differences[differences["question"] == "cohort"]
    if asked.empty:
        return Finding(question, ["Not asked: no network was trained both with and without them."])
    overall = pick(asked, level="overall")
    models = asked.loc[asked["level"] == "model", "model_a"].unique()
    told = ("dice", "negative_fp_volume_ml", "negative_false_alarm_rate")
    groups = [("Leaving them out", overall)]
    # One model's rows would say the overall ones again.
    if len(models) > 1:
        groups += [(f"With `{m}`, it", pick(asked, level="model", model_a=m)) for m in models]
    sentences = [
        f"{subject} {describe_changes([row for row in rows if row['metric'] in told], design)}."
        for subject, rows in groups
    ]
    sentences[0] = (
        f"{sentences[0][:-1]}; {counted(int(overall[0]['pairs']), 'pair')} of experiments of "
        f"{enumerate_words(f'`{model}`' for model in models)}."
    )
    if not comparison["negative_false_alarm_rate_n"].any():
        sentences.append("No study without lesions was tested: what it costs there is not known.")
    if not comparison["dice_n"].any():
        sentences.append("No study with lesions was tested: what it gains there is not known.")
    return Finding(question, sentences)


def answer_architectures(
    comparison: pd.DataFrame, differences: pd.DataFrame, design: Design
) -> Finding:
    """Each architecture's best experiment, and which models are ahead of which."""
    question = "Which architecture?"
    best: dict[str, Row] = {}
    for row in rank_by_dice(comparison, differences, design):
        if not is_baseline(row):
            best.setdefault(design.networks[row["model"]], row)
    sentences = []
    if len(best) > 1:
        each = [
            f"{network} {decimals(row['dice_mean'], 2)} ({name_of(row)}; n {row['dice_n']:.0f})"
            for network, row in best.items()
        ]
        sentences.append(f"The best mean Dice of each: {enumerate_words(each)}.")
    rows = pick(differences, question="architecture", level="model", metric="dice")
    if not rows:
        sentences.append("No two models share a strategy and cohort with a Dice to compare.")
        return Finding(question, sentences)
    shown = [row for row in rows if is_beyond_chance(row, design)]
    sentences.append(
        f"Like for like, same strategy and cohort, {len(shown)} of {counted(len(rows), 'pair')} of "
        f"models {'differs' if len(shown) == 1 else 'differ'} in Dice beyond chance."
    )
    ahead: dict[str, list[Row]] = {}
    for row in shown:
        ahead.setdefault(row["model_a" if row["difference"] > 0 else "model_b"], []).append(row)
    for model, wins in sorted(ahead.items(), key=lambda item: (-len(item[1]), item[0])):
        behind = [
            f"`{row['model_b' if row['difference'] > 0 else 'model_a']}` by "
            f"{decimals(abs(row['difference']), 2)}"
            for row in sorted(wins, key=lambda row: abs(float(row["difference"])))
        ]
        largest = p_value(max(row["p_adjusted"] for row in wins))
        sentences.append(
            f"`{model}` is ahead of {enumerate_words(behind)} (p {largest}"
            f"{' at most' if len(wins) > 1 else ''})."
        )
    return Finding(question, sentences)


def answer_limits(metrics: pd.DataFrame, differences: pd.DataFrame, design: Design) -> Finding:
    """What this many patients do not allow to conclude."""
    positive, negative = (
        metrics.loc[metrics["positive"] == kind, "patient"].nunique() for kind in (True, False)
    )
    sentences = [
        f"There are {counted(positive, 'patient')} with lesions and "
        f"{counted(negative, 'patient')} with a lesion-free study; figures on so few say little of "
        "others." if min(positive, negative) < 30 else
        f"There are {counted(positive, 'patient')} with lesions and "
        f"{counted(negative, 'patient')} with a lesion-free study."
    ]  # fmt: skip
    compared = differences[
        (differences["question"] == "best")
        & (differences["metric"] == "dice")
        & (differences["strategy_b"] != BASELINE_STRATEGY)
    ]
    if len(compared):
        smallest = float(compared["smallest_p"].min())
        family = int(compared["family"].max())
        corrected = min(smallest * family, 1.0)
        sentences.append(
            f"With these patients no p for Dice can fall below {smallest:.2g} "
            f"before and {corrected:.2g} after correction over "
            f"{counted(family, 'pair')}"
            + (
                ": no pair could have been shown to differ, however much it does."
                if corrected >= design.significance
                else "."
            )
        )
    detectable = compared["detectable_difference"].dropna()
    if len(detectable):
        sentences.append(
            f"One such comparison, on its own, finds a true difference in mean Dice of "
            f"{decimals(float(detectable.median()), 2)} with {100 * design.power:.0f} % "
            f"probability (median of {counted(len(detectable), 'comparison')} with the first; "
            f"{span(float(detectable.min()), float(detectable.max()), 2)}). A smaller one would "
            "often be missed: not beyond chance does not mean equal."
        )
    sentences.append(
        "Each network was trained once per fold: how much another seed would change is not in the "
        "intervals. The experiment that ranks first was chosen on the studies that it is reported "
        "on."
    )
    if design.synthetic:
        sentences.append(
            "The studies are phantoms: this shows that the pipeline works, not how the networks "
            "compare on patients."
        )
    return Finding("What may not be concluded?", sentences)


def tell_exclusions(excluded: pd.DataFrame, used: int) -> str:
    """How many studies were left out of those found; ``used`` is how many were not."""
    left_out = int((excluded["study"] != "").sum())
    strays = len(excluded) - left_out
    if not len(excluded):
        return "None: every study that was found was used."
    verb = "was" if left_out == 1 else "were"
    sentence = (
        f"{left_out} of {counted(left_out + used, 'study')} found {verb} left out."
        if left_out
        else "Every study that was found was used."
    )
    if strays:
        sentence += (
            f" {counted(strays, 'more entry')} {'tells' if strays == 1 else 'tell'} of files that "
            "belong to no study."
        )
    return sentence


def tell_origins(origins: pd.DataFrame) -> list[str]:
    """Whether all of origins.tsv comes from one code, set of versions and kind of hardware.

    What differs is named, with what most results have first.
    """
    trained = origins["result"].str.endswith("model.json")
    models, tables = origins[trained], origins[~trained]
    made = f"{counted(len(models), 'model')} and {counted(len(tables), 'table')}"
    differing = []
    for script, part in origins.groupby("script"):
        differing += tell_difference(f"The code of {script}", dict(part[["result", "code"]].values))
    packages: dict[str, dict[str, str]] = {}
    for result, versions in origins[["result", "versions"]].values:
        for package in versions.split(", "):
            name, _, version = package.rpartition(" ")
            packages.setdefault(name, {})[result] = version
    for name, version_of in sorted(packages.items()):
        differing += tell_difference(f"The version of {name}", version_of)
    for kind, part in (("models", models), ("tables", tables)):
        hardware = dict(part[["result", "hardware"]].values)
        differing += tell_difference(f"The hardware of the {kind}", hardware)
    if differing:
        lead = f"{made} do not all come from the same code, package versions and hardware."
        return [lead, *differing]
    used = list(dict.fromkeys(origins["hardware"]))
    if len(used) == 1:
        where = f"on one kind of hardware: {used[0]}."
    else:
        where = f"the models on {used[0]}, the tables on {used[1]}."
    return [f"{made} come from one code of each script and one set of package versions, {where}"]


def tell_difference(what: str, value_of: Mapping[str, str]) -> list[str]:
    """One sentence if the results differ in their value, none if they do not."""
    results: dict[str, list[str]] = {}
    for result, value in value_of.items():
        results.setdefault(value, []).append(result)
    if len(results) < 2:
        return []
    most, *others = sorted(results, key=lambda value: (-len(results[value]), value))
    rest = [f"{value} for {name_some(results[value])}" for value in others]
    return [
        f"{what} differs: {most} for {counted(len(results[most]), 'result')}, but "
        f"{enumerate_words(rest)}."
    ]


def name_some(results: Sequence[str], most: int = 3) -> str:
    """The first of the results by name, and how many more there are."""
    named = [f"`{result}`" for result in results[:most]]
    if len(results) > most:
        named.append(f"{len(results) - most} more")
    return enumerate_words(named)


def cite_source(source: Mapping[str, Any] | None) -> list[str]:
    """Where a downloaded collection comes from and what to cite, from source.json, if any."""
    if source is None:
        return []
    dois = " and ".join(f"doi:{doi}" for doi in source["dois"])
    return [
        f"From the {source['source']}, collection {source['collection']} ({source['index']}); "
        f"licence {', '.join(source['licences'])}; cite {dois}."
    ]


def describe_reading(studies: pd.DataFrame, source: Mapping[str, Any] | None) -> list[str]:
    """How the studies were read, from studies.tsv: what they came as, their SUV, the warnings.

    ``source``: source.json of a downloaded collection.
    """
    sentences = [*cite_source(source), tell_units(studies), *tell_conversion(studies)]
    warned = int((studies["warnings"] != "").sum())
    if warned:
        sentences.append(
            f"{warned} of {counted(len(studies), 'study')} "
            f"{'carries' if warned == 1 else 'carry'} warnings."
        )
    else:
        sentences.append("No study carries a warning.")
    return sentences


def tell_units(studies: pd.DataFrame) -> str:
    """How many studies came in which format, and their PET in which units."""
    formats = {}
    for form, part in studies.groupby("format"):
        if form == "nifti":
            formats["NIfTI, in SUV"] = len(part)
            continue
        units = (
            part["units"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
        )
        each = ", ".join(f"{unit} {number}" for unit, number in units.items())
        origin = " from the Imaging Data Commons" if form == "idc" else ""
        formats[f"DICOM{origin} (units of the PET: {each})"] = len(part)
    if len(formats) == 1:
        all_studies = f"All {len(studies)} studies" if len(studies) > 1 else "The one study"
        return f"{all_studies} came as {next(iter(formats))}."
    each_format = enumerate_words(f"{number} as {name}" for name, number in formats.items())
    return f"{counted(len(studies), 'study')} came, {each_format}."


# Where the challenge's conversion and the standard part by less than this, nobody sees it.
NOTABLE_RATIO = 0.01


def tell_conversion(studies: pd.DataFrame) -> list[str]:
    """How far AutoPET's own conversion is from the standard's; nothing for SUVs that came ready.

    NIfTI is what comes with SUVs.
    """
    converted = studies[studies["format"] != "nifti"]
    known = converted[converted["autopet_ratio_low"].notna()]
    unknown = converted[converted["autopet_ratio_low"].isna()]
    kinds = count_kinds(zip(unknown["study"], unknown["autopet_note"], strict=True))
    reasons = [kind.text for kind in kinds if kind.text]
    # More than two would be a list, which stands in the table.
    why = f" ({'; '.join(reasons)})" if 0 < len(reasons) <= 2 else ""
    unknown_words = f"cannot be worked out for {counted(len(unknown), 'study')}{why}."
    if known.empty:
        words = "What AutoPET's own conversion to SUV would have given"
        return [f"{words} {unknown_words}"] if len(unknown) else []
    low, high = known["autopet_ratio_low"].astype(float), known["autopet_ratio_high"].astype(float)
    # What is a 100th apart in decimal may be a bit more in binary.
    limit = NOTABLE_RATIO + 1e-9
    surely = (low - 1 > limit) | (1 - high > limit)
    perhaps = ~surely & ((high - 1 > limit) | (1 - low > limit))
    studies_known = counted(len(known), "study")
    span_words = f"between {multiple(float(low.min()))} and {multiple(float(high.max()))} times"
    apart = f"{(surely | perhaps).sum()} of {studies_known} differ by more than 1 %"
    if perhaps.any():
        apart += f" by some slice's time, {surely.sum()} whichever slice it reads"
    if (known["suv_mode"] == "autopet").all():
        sentence = (
            f"These SUVs come from AutoPET's own conversion, which gives {span_words} those by the "
            f"standard; {apart}."
        )
    elif not (surely | perhaps).any():
        which = "the one study" if len(known) == 1 else f"all {studies_known}"
        sentence = (
            f"AutoPET's own conversion would have given the same SUVs within 1 % in {which} in "
            "which it can be worked out."
        )
    else:
        sentence = f"AutoPET's own conversion would have given {span_words} these SUVs; {apart}."
    return [sentence + (f" It {unknown_words}" if len(unknown) else "")]


def multiple(ratio: float) -> str:
    """A ratio to what matters of it: 0.62, 1.00, 12.3, 4.2e-06."""
    return f"{ratio:.2f}" if 0.095 <= ratio < 9.995 else f"{ratio:.3g}"


def list_findings(tables: Mapping[str, pd.DataFrame], design: Design) -> list[Finding]:
    """The answer, in the order in which it is read.

    ``tables`` are metrics, comparison, differences and ranks, as their rules write them, by name;
    ``positive`` of the metrics is boolean.
    """
    metrics, comparison = tables["metrics"], tables["comparison"]
    differences = tables["differences"]
    return [
        answer_best(metrics, comparison, differences, design),
        answer_order(comparison, differences, tables["ranks"], design),
        answer_steps(differences, design),
        answer_cohorts(differences, comparison, design),
        answer_architectures(comparison, differences, design),
        answer_limits(metrics, differences, design),
    ]
