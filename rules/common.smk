"""The settings, read and checked, and what the rules take from them."""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

SRC = Path(workflow.basedir) / "src"
sys.path.insert(0, str(SRC))

from petct.code_digest import digest_script
from petct.configuration import Experiment, list_experiments, list_problems
from petct.tree_digest import digest_tree

with open(Path(workflow.basedir) / "config/config.schema.yaml") as schema_file:
    problems = list_problems(config, yaml.safe_load(schema_file))
if problems:
    raise WorkflowError("\n".join(["The settings are wrong:", *problems]))

D = Path("results") / config["dataset"]
LOGS = D / "logs"
# All there are; Snakemake lowers it to --cores, which clusters and --unlock do not state.
CORES = os.cpu_count() or 1
FOLDS = list(range(config["folds"]))
GRIDS = config["preprocessing"]["grids"]
EXPERIMENTS = list_experiments(config["experiments"])
LEADING = {config["strategies"][e.strategy]["coarse"] for e in EXPERIMENTS}
COHORTS = sorted({experiment.cohort for experiment in EXPERIMENTS} | {"all"})
# An input of all that comes after the cohorts. What hangs on a checkpoint is planned anew when that
# is done, and left out if its other inputs came out as they were; `ancient`: these two are no
# reason to run.
CHECKPOINTS = ancient([D / "index_studies/studies.tsv", D / "select_cohort/folds.tsv"])

os.environ.update(
    # Shell commands find the scripts wherever the run's working directory is.
    PETCT_SRC=str(SRC),
    # The allocator keeps its pages and waiting threads yield: doubles a CPU's training speed.
    PETCT_FAST_CPU="MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=68719476736 GOMP_SPINCOUNT=1000",
)


wildcard_constraints:
    study="[A-Za-z0-9._-]+",
    strategy="[A-Za-z0-9_-]+",
    model="[A-Za-z0-9_-]+",
    cohort="all|positive|none",
    fold="[0-9]+",


def hold_run_lock():
    """Show for as long as this Snakemake lives that it does: `make run` leaves its locks alone."""
    global run_lock
    run_lock = open(".snakemake/run.lock", "a")
    # Refused where `make run` has it already, or on a file system without locks.
    with contextlib.suppress(OSError):
        fcntl.flock(run_lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


@functools.cache
def digest_of(script):
    """Digest of all code that src/<script>.py can execute."""
    return digest_script(SRC / f"{script}.py", SRC)


def code_of(script):
    """The same as a parameter: a rule reruns when it changes.

    A function, so that of all rules, which every job of a cluster reads anew, its own alone costs.
    """
    return lambda wildcards: digest_of(script)


def content_of(*paths):
    """Digest of small files of the project, wherever it lies."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[
        :12
    ]


def settings(**values):
    """A rule's slice of the config as one string, so that every key and value counts."""
    return json.dumps(values, sort_keys=True)


def growing(first):
    """A resource that doubles with each attempt: what a job died of is not met again."""

    def of(wildcards, attempt):
        return first * 2 ** (attempt - 1)

    return of


# What a table or a figure needs: mem_mb, and runtime in minutes.
SMALL_JOB = {"mem_mb": growing(2000), "runtime": growing(60)}


def study_contents(wildcards):
    """What lies in a study folder: the index is made again when any file changes, however deep.

    A function, so that only runs that plan the index look: seconds for 100,000 files.
    """
    return digest_tree(STUDY_FOLDER) if config["source"] == "folder" else ""


def studies_to_index(wildcards):
    """Where the index looks, as arguments: a folder, or a request to a collection."""
    if config["source"] == "idc":
        chosen = {
            key: config["download"][key]
            for key in ("studies", "patients", "list", "index")
        }
        # Where all are taken, the seed draws nobody and is no reason to look again.
        seed = config["seed"] if chosen["studies"] else 0
        request = settings(collection=config["collection"], seed=seed, download=chosen)
        return f"--request {shlex.quote(request)}"
    only = f" --only {' '.join(STUDY_NAMES)}" if STUDY_NAMES else ""
    return f"--folder {shlex.quote(str(STUDY_FOLDER))}{only}"


def list_studies(wildcards):
    """The studies of the index, once it is there."""
    with checkpoints.index_studies.get().output.table.open() as table:
        next(table)
        return [line.split("\t", 1)[0] for line in table]


def is_nnunet(model):
    """Whether nnU-Net's own framework trains and predicts this model."""
    return config["models"].get(model, {}).get("network") == "nnUNet"


def strategy_of(wildcards):
    """A strategy as a network sees it: with the model's patch where it has its own."""
    strategy = dict(config["strategies"][wildcards.strategy])
    strategy.pop("training", None)
    patch_zyx = config["models"][wildcards.model].get("patch_zyx")
    return strategy | ({"patch_zyx": patch_zyx} if patch_zyx else {})


def training_settings(wildcards):
    """What fixes a network: its strategy, model and training, and the seed.

    nnU-Net brings a training of its own: of ours it takes only who is watched on.
    """
    model = config["models"][wildcards.model]
    if is_nnunet(wildcards.model):
        training = {"validation_share": config["training"]["validation_share"]}
    else:
        overrides = config["strategies"][wildcards.strategy].get("training", {})
        training = config["training"] | overrides
    return settings(
        experiment={
            "strategy": wildcards.strategy,
            "model": wildcards.model,
            "cohort": wildcards.cohort,
        },
        strategy=strategy_of(wildcards),
        network=model["network"],
        arguments=model["arguments"],
        training=training | model.get("training", {}),
        seed=config["seed"],
    )


def cost_settings(wildcards):
    """Each network once, with the number of its trainings over cohorts and folds."""
    rows = []
    for strategy, model in dict.fromkeys((e.strategy, e.model) for e in EXPERIMENTS):
        cohorts = [
            e.cohort for e in EXPERIMENTS if (e.strategy, e.model) == (strategy, model)
        ]
        chosen = Experiment(strategy, model, cohorts[0])
        grid = GRIDS[config["strategies"][strategy]["grid"]]
        rows.append(
            json.loads(training_settings(chosen))
            | grid
            | {"trainings": len(cohorts) * len(FOLDS)}
        )
    return settings(
        experiments=rows,
        body_zyx_mm=config["resources"]["typical_body_zyx_mm"],
        gpu_teraflops=config["resources"]["gpu_teraflops"],
    )


def plan_settings(wildcards):
    """What nnU-Net's plan hangs on."""
    arguments = config["models"][wildcards.model]["arguments"]
    return settings(strategy=strategy_of(wildcards), arguments=arguments)


def nnunet_inference(wildcards):
    """How nnU-Net predicts: as it would, but for what the model says and the threshold."""
    chosen = config["models"][wildcards.model].get("inference", {})
    ours = {
        key: config["inference"][key]
        for key in ("threshold", "checkpoint", "windows_per_batch")
    }
    return settings(**chosen, **ours)


def gpus_of(wildcards):
    """How many GPUs train a model together."""
    return config["models"][wildcards.model].get("gpus", 1)


def urgency(wildcards):
    """A job's priority: networks before scores, lest a GPU waits for a core; what other networks
    build on before all, then nnU-Net, whose chains are the longest."""
    return 1 + is_nnunet(wildcards.model) + 2 * (wildcards.strategy in LEADING)


def trained_by(model):
    return "train_nnunet" if is_nnunet(model) else "train_network"


def predicted_by(strategy, model):
    """The rule that an experiment's predictions come from."""
    if strategy == "threshold":
        return "predict_threshold"
    return "predict_nnunet" if is_nnunet(model) else "predict_network"


def coarse_predictions(folds):
    """The coarse predictions that a strategy's prior needs, of these folds of the same model."""

    def of(wildcards):
        if not config["strategies"][wildcards.strategy]["prior"]:
            return []
        return coarse_files(wildcards, folds(int(wildcards.fold)))

    return of


def coarse_model_of(strategy, model):
    """Whose coarse predictions a model builds on: the strategy's coarse model's, or its own."""
    return config["strategies"][strategy].get("coarse_model") or model


def coarse_files(wildcards, folds):
    """The coarse predictions: of the strategy's coarse model, or else of the same model."""
    strategy = config["strategies"][wildcards.strategy]
    model = coarse_model_of(wildcards.strategy, wildcards.model)
    rule_name = predicted_by(strategy["coarse"], model)
    return [
        D
        / f"{rule_name}/{strategy['coarse']}/{model}/{wildcards.cohort}"
        / f"fold-{fold}/predictions.json"
        for fold in folds
    ]


def regions(folds):
    """The boxes that a strategy looks into, of these folds; none where it sees the whole body."""

    def of(wildcards):
        if config["strategies"][wildcards.strategy]["regions"] == "body":
            return []
        experiment = f"{wildcards.strategy}/{wildcards.model}/{wildcards.cohort}"
        return [
            D / f"locate_regions/{experiment}/fold-{fold}/regions.json"
            for fold in folds(int(wildcards.fold))
        ]

    return of


def training_folds(fold):
    return [other for other in FOLDS if other != fold]


def same_fold(fold):
    return [fold]


def predictions_of(wildcards):
    """Where an experiment's predictions of one fold lie: a network's or a threshold's."""
    return (
        D
        / f"{predicted_by(wildcards.strategy, wildcards.model)}/{wildcards.strategy}"
        / f"{wildcards.model}/{wildcards.cohort}/fold-{wildcards.fold}/predictions.json"
    )


def all_predictions_of(wildcards):
    """The same, of all folds."""
    rule_name = predicted_by(wildcards.strategy, wildcards.model)
    experiment = f"{wildcards.strategy}/{wildcards.model}/{wildcards.cohort}"
    return [
        D / f"{rule_name}/{experiment}/fold-{fold}/predictions.json" for fold in FOLDS
    ]


def phantom_set(size, studies, coarse_mm, fine_mm):
    """A set of phantom studies, and how it is read, converted and resampled."""
    grids = {
        "coarse": {"spacing_zyx_mm": [coarse_mm] * 3},
        "fine": {"spacing_zyx_mm": [fine_mm] * 3},
    }
    preprocessing = config["preprocessing"] | {
        "grids": grids,
        "unusable_study": "stop",
    }
    reading = READING | {
        "keys": "original",
        "salt_file": None,
        "unusable_study": "stop",
    }
    return {
        "phantom": {"size": size, "seed": config["seed"]},
        "studies": [f"phantom-{n:03d}" for n in range(1, studies + 1)],
        "index": {key: reading[key] for key in INDEX_SETTINGS},
        "conversion": {key: reading[key] for key in CONVERSION_SETTINGS},
        "preprocessing": preprocessing,
    }


def contest_settings(**values):
    """A contest's settings as a parameter; the cores count too."""
    return lambda wildcards, threads: settings(**BENCHMARK, threads=threads, **values)


def stages_of(experiment):
    """The steps of an experiment as its package holds them: coarse if it builds on that, then its
    own."""
    strategy = config["strategies"][experiment.strategy]
    steps = []
    if strategy["coarse"]:
        model = coarse_model_of(experiment.strategy, experiment.model)
        steps.append(
            ("coarse", Experiment(strategy["coarse"], model, experiment.cohort))
        )
    stages = []
    for name, step in [*steps, ("final", experiment)]:
        nnunet = is_nnunet(step.model)
        inference = (
            json.loads(nnunet_inference(step)) if nnunet else config["inference"]
        )
        stages.append(
            {
                "name": name,
                "kind": "nnunet" if nnunet else "network",
                "network": config["models"][step.model]["network"],
                "experiment": list(step),
                "folds": FOLDS,
                "strategy": strategy_of(step),
                "inference": inference,
            }
        )
    return stages


def models_to_pack(wildcards):
    """The networks of the experiment that is named; of all, if the best is asked for."""
    chosen = config["package"]["experiment"]
    packed = [CANDIDATES[chosen]] if chosen in CANDIDATES else CANDIDATES.values()
    steps = {tuple(stage["experiment"]) for e in packed for stage in stages_of(e)}
    return [
        D / f"{trained_by(model)}/{strategy}/{model}/{cohort}/fold-{fold}/model.json"
        for strategy, model, cohort in sorted(steps)
        for fold in FOLDS
    ]


def package_settings(wildcards):
    """Which experiment is packed, and what an experiment's package needs of the config."""
    return settings(
        **config["package"],
        dataset=config["dataset"],
        preprocessing=config["preprocessing"],
        regions=config["regions"],
        candidates={name: stages_of(e) for name, e in CANDIDATES.items()},
    )


def new_contents(wildcards):
    """The index of the new studies is made again when any file of theirs changes."""
    if APPLY_TO is None:
        raise WorkflowError(
            "apply_to: which folder? --config apply_to=/path/to/studies"
        )
    return digest_tree(APPLY_TO)


def list_new_studies(wildcards):
    """The new studies, once their index is there."""
    with checkpoints.index_new_studies.get().output.table.open() as table:
        next(table)
        return [line.split("\t", 1)[0] for line in table]


def of_new_studies(pattern):
    """A file of each new study."""
    return lambda wildcards: expand(A / pattern, study=list_new_studies(wildcards))
