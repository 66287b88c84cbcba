"""How the experiments compare, how sure that is, and how it looks."""

# A strategy that builds on a coarse one, and one that sees the whole body on the same grid without.
STEPS = [
    (name, one_step)
    for name, strategy in config["strategies"].items()
    for one_step, other in config["strategies"].items()
    if strategy["coarse"] is not None
    and (other["coarse"], other["regions"], other["grid"])
    == (None, "body", strategy["grid"])
]
# What looks at the reference.
UPPER_BOUNDS = [
    name
    for name, strategy in config["strategies"].items()
    if strategy["regions"] == "oracle_boxes"
]


rule compare_experiments:
    input:
        metrics=D / "tables/metrics.tsv",
        checkpoints=CHECKPOINTS,
    output:
        table=report(
            D / "tables/comparison.tsv",
            category="Tables",
            labels={"table": "Comparison of experiments"},
        ),
        origin=D / "tables/comparison.origin.json",
    log:
        LOGS / "compare_experiments.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("compare_experiments"),
        settings=settings(
            seed=config["seed"],
            bootstrap_samples=config["evaluation"]["bootstrap_samples"],
            confidence=config["evaluation"]["confidence"],
        ),
    shell:
        "python $PETCT_SRC/compare_experiments.py --metrics {input.metrics} --settings {params.settings:q}"
        " --code {params.code} --output {output.table} 2>&1 | tee {log}"


rule pair_experiments:
    input:
        metrics=D / "tables/metrics.tsv",
        checkpoints=CHECKPOINTS,
    output:
        table=report(
            D / "tables/differences.tsv",
            category="Tables",
            labels={"table": "Paired differences"},
        ),
        origin=D / "tables/differences.origin.json",
    log:
        LOGS / "pair_experiments.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("pair_experiments"),
        settings=settings(
            seed=config["seed"],
            bootstrap_samples=config["evaluation"]["bootstrap_samples"],
            confidence=config["evaluation"]["confidence"],
            permutations=config["evaluation"]["permutations"],
            power=config["evaluation"]["power"],
            steps=STEPS,
            upper_bounds=UPPER_BOUNDS,
        ),
    shell:
        "python $PETCT_SRC/pair_experiments.py --metrics {input.metrics} --settings {params.settings:q}"
        " --code {params.code} --output {output.table} > {log} 2>&1"


rule rank_experiments:
    input:
        metrics=D / "tables/metrics.tsv",
        checkpoints=CHECKPOINTS,
    output:
        table=report(
            D / "tables/ranks.tsv", category="Tables", labels={"table": "Ranks"}
        ),
        origin=D / "tables/ranks.origin.json",
    log:
        LOGS / "rank_experiments.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("rank_experiments"),
        settings=settings(
            seed=config["seed"],
            bootstrap_samples=config["evaluation"]["bootstrap_samples"],
            confidence=config["evaluation"]["confidence"],
            upper_bounds=UPPER_BOUNDS,
        ),
    shell:
        "python $PETCT_SRC/rank_experiments.py --metrics {input.metrics} --settings {params.settings:q}"
        " --code {params.code} --output {output.table} > {log} 2>&1"


rule plot_dice:
    input:
        metrics=D / "tables/metrics.tsv",
        comparison=D / "tables/comparison.tsv",
        checkpoints=CHECKPOINTS,
    output:
        report(D / "plot_dice/dice.png", category="Figures", labels={"figure": "Dice"}),
    log:
        LOGS / "plot_dice.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_dice"),
    shell:
        "python $PETCT_SRC/plot_dice.py --metrics {input.metrics}"
        " --comparison {input.comparison} --output {output} > {log} 2>&1"


rule plot_differences:
    input:
        differences=D / "tables/differences.tsv",
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "plot_differences/differences.png",
            category="Figures",
            labels={"figure": "Paired differences"},
        ),
    log:
        LOGS / "plot_differences.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_differences"),
        settings=settings(confidence=config["evaluation"]["confidence"]),
    shell:
        "python $PETCT_SRC/plot_differences.py --differences {input.differences}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


rule plot_ranks:
    input:
        ranks=D / "tables/ranks.tsv",
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "plot_ranks/ranks.png", category="Figures", labels={"figure": "Ranks"}
        ),
    log:
        LOGS / "plot_ranks.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_ranks"),
    shell:
        "python $PETCT_SRC/plot_ranks.py --ranks {input.ranks} --output {output} > {log} 2>&1"
