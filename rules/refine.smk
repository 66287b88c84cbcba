"""The step between a coarse network and a fine one: where to look."""


rule locate_regions:
    input:
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        coarse=lambda w: (
            coarse_files(w, [w.fold])
            if config["strategies"][w.strategy]["regions"] == "boxes"
            else []
        ),
        checkpoints=CHECKPOINTS,
    output:
        regions=D
        / "locate_regions/{strategy}/{model}/{cohort}/fold-{fold}/regions.json",
        table=D / "locate_regions/{strategy}/{model}/{cohort}/fold-{fold}/regions.tsv",
        origin=D
        / "locate_regions/{strategy}/{model}/{cohort}/fold-{fold}/regions.origin.json",
    log:
        LOGS / "locate_regions/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_of("locate_regions"),
        settings=lambda w: settings(
            grid=config["strategies"][w.strategy]["grid"],
            **config["regions"],
        ),
        resampled=str(D / "resample_study"),
    shell:
        "python $PETCT_SRC/locate_regions.py --cohort {input.cohort} --coarse {input.coarse}"
        " --resampled {params.resampled} --settings {params.settings:q}"
        " --code {params.code} --output {output.regions} --table {output.table} > {log} 2>&1"


rule tabulate_regions:
    input:
        regions=[
            D
            / f"locate_regions/{e.strategy}/{e.model}/{e.cohort}/fold-{fold}/regions.tsv"
            for e in EXPERIMENTS
            if config["strategies"][e.strategy]["regions"] != "body"
            for fold in FOLDS
        ],
        checkpoints=CHECKPOINTS,
    output:
        table=D / "tables/regions.tsv",
        origin=D / "tables/regions.origin.json",
    log:
        LOGS / "tabulate_regions.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_regions"),
    shell:
        "python $PETCT_SRC/tabulate_regions.py --regions {input.regions} --code {params.code}"
        " --output {output.table} > {log} 2>&1"
