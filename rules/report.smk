"""One page for people: the answer, the tables, the figures, the studies, the settings."""

from petct.published_settings import publish_settings

TEMPLATE = SRC / "templates/report.html"
REQUIREMENTS = SRC / "../envs/requirements.txt"
# Quoted if it was made: as an input, the page would have the benchmark run again.
QUOTED = Path("results/benchmark/benchmark.tsv")

# Every network: the experiments' own and the coarse ones that they build on.
TRAINED = sorted(
    {(*experiment,) for experiment in EXPERIMENTS}
    | {
        (coarse, coarse_model_of(e.strategy, e.model), e.cohort)
        for e in EXPERIMENTS
        if (coarse := config["strategies"][e.strategy]["coarse"])
    }
)


rule tabulate_origins:
    input:
        models=[
            D
            / f"{trained_by(model)}/{strategy}/{model}/{cohort}/fold-{fold}/model.json"
            for strategy, model, cohort in TRAINED
            for fold in FOLDS
        ],
        tables=expand(
            D / "tables/{name}.origin.json",
            name=[
                *["metrics", "comparison", "differences", "ranks", "calibration"],
                *["calibration_summary", "regions", "excluded", "studies"],
            ],
        ),
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "tables/origins.tsv",
            category="Tables",
            labels={"table": "Origins of models and tables"},
        ),
    log:
        LOGS / "tabulate_origins.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_origins"),
    shell:
        "python $PETCT_SRC/tabulate_origins.py --models {input.models} --tables {input.tables}"
        " --output {output} > {log} 2>&1"


rule write_report:
    input:
        tables=expand(
            D / "tables/{name}.tsv",
            name=[
                *["metrics", "comparison", "differences", "ranks"],
                *["calibration_summary", "regions", "excluded", "studies", "origins"],
            ],
        ),
        figures=expand(
            D / "plot_{name}/{name}.png",
            name=[
                *["dice", "differences", "ranks", "calibration"],
                *["agreement", "history"],
            ],
        ),
        pictures=expand(
            D / "plot_studies/{e.strategy}/{e.model}/{e.cohort}/pictures.json",
            e=EXPERIMENTS,
        ),
        source=D / "index_studies/source.json" if FROM_COMMONS else [],
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "report/index.html",
            category="Report",
            caption="../src/templates/report.rst",
            labels={"page": "The whole report"},
        ),
    log:
        LOGS / "write_report.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("write_report"),
        benchmark=str(QUOTED) if QUOTED.exists() else "",
        benchmark_content=content_of(QUOTED) if QUOTED.exists() else "",
        # No inputs, since these would have a project at another place run it again.
        files=content_of(
            *[TEMPLATE.with_suffix(suffix) for suffix in (".html", ".css", ".js")],
            REQUIREMENTS,
        ),
        settings=lambda wildcards: settings(
            config=publish_settings(config),
            # Benchmarks have no part in a study's results.
            code={
                path.stem: digest_of(path.stem)
                for path in sorted(SRC.glob("*.py"))
                if "benchmark" not in path.stem
            },
            upper_bounds=UPPER_BOUNDS,
        ),
    shell:
        "python $PETCT_SRC/write_report.py --tables {input.tables} --figures {input.figures}"
        " --pictures {input.pictures} --source {input.source} --benchmark {params.benchmark}"
        " --template $PETCT_SRC/templates/report.html"
        " --requirements $PETCT_SRC/../envs/requirements.txt --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"
