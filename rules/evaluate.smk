"""From predictions to tables and pictures."""


rule predict_threshold:
    input:
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        checkpoints=CHECKPOINTS,
    output:
        D / "predict_threshold/{strategy}/{model}/{cohort}/fold-{fold}/predictions.json",
    log:
        LOGS / "predict_threshold/{strategy}/{model}/{cohort}/fold-{fold}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_of("predict_threshold"),
        settings=lambda w: settings(**config["baselines"][w.model]),
        converted=str(D / "convert_study"),
    shell:
        "python $PETCT_SRC/predict_threshold.py --cohort {input.cohort} --converted {params.converted}"
        " --model {wildcards.model} --fold {wildcards.fold} --settings {params.settings:q}"
        " --code {params.code} --output {output} > {log} 2>&1"


rule score_predictions:
    input:
        predictions=predictions_of,
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        checkpoints=CHECKPOINTS,
    output:
        table=D / "score_predictions/{strategy}/{model}/{cohort}/fold-{fold}.tsv",
        origin=D
        / "score_predictions/{strategy}/{model}/{cohort}/fold-{fold}.origin.json",
    log:
        LOGS / "score_predictions/{strategy}/{model}/{cohort}/fold-{fold}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(6000),
        runtime=growing(480),
    params:
        code=code_of("score_predictions"),
        settings=settings(
            dataset=config["dataset"],
            connectivity=config["evaluation"]["connectivity"],
            surface_tolerance_mm=config["evaluation"]["surface_tolerance_mm"],
        ),
        converted=str(D / "convert_study"),
    shell:
        "python $PETCT_SRC/score_predictions.py --predictions {input.predictions}"
        " --cohort {input.cohort} --converted {params.converted} --settings {params.settings:q}"
        " --code {params.code} --output {output.table} > {log} 2>&1"


SCORED = [(*experiment,) for experiment in EXPERIMENTS] + [
    ("threshold", baseline, "none") for baseline in config["baselines"]
]


rule tabulate_metrics:
    input:
        scores=[
            D / f"score_predictions/{strategy}/{model}/{cohort}/fold-{fold}.tsv"
            for strategy, model, cohort in SCORED
            for fold in FOLDS
        ],
        checkpoints=CHECKPOINTS,
    output:
        table=D / "tables/metrics.tsv",
        origin=D / "tables/metrics.origin.json",
    log:
        LOGS / "tabulate_metrics.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_metrics"),
    shell:
        "python $PETCT_SRC/tabulate_metrics.py --scores {input.scores} --code {params.code}"
        " --output {output.table} > {log} 2>&1"


rule tabulate_studies:
    input:
        index=D / "index_studies/studies.tsv",
        studies=lambda wildcards: expand(
            D / "{rule}_study/{study}/study.json",
            rule=["convert", "resample"],
            study=list_studies(wildcards),
        ),
    output:
        table=report(
            D / "tables/studies.tsv", category="Tables", labels={"table": "Studies"}
        ),
        origin=D / "tables/studies.origin.json",
    log:
        LOGS / "tabulate_studies.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_studies"),
        converted=str(D / "convert_study"),
        resampled=str(D / "resample_study"),
    shell:
        "python $PETCT_SRC/tabulate_studies.py --index {input.index}"
        " --converted {params.converted} --resampled {params.resampled}"
        " --code {params.code} --output {output.table} > {log} 2>&1"


rule measure_calibration:
    input:
        predictions=predictions_of,
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        checkpoints=CHECKPOINTS,
    output:
        table=D / "measure_calibration/{strategy}/{model}/{cohort}/fold-{fold}.tsv",
        origin=D
        / "measure_calibration/{strategy}/{model}/{cohort}/fold-{fold}.origin.json",
    log:
        LOGS / "measure_calibration/{strategy}/{model}/{cohort}/fold-{fold}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
    params:
        code=code_of("measure_calibration"),
        settings=lambda w: settings(
            grid=config["strategies"][w.strategy]["grid"],
            bins=config["evaluation"]["calibration_bins"],
            ct_above_hu=config["preprocessing"]["body"]["ct_above_hu"],
            ct_limit_hu=config["preprocessing"]["ct_limit_hu"],
        ),
        resampled=str(D / "resample_study"),
    shell:
        "python $PETCT_SRC/measure_calibration.py --predictions {input.predictions}"
        " --cohort {input.cohort} --resampled {params.resampled} --settings {params.settings:q}"
        " --code {params.code} --output {output.table} > {log} 2>&1"


rule tabulate_calibration:
    input:
        bins=[
            D
            / f"measure_calibration/{e.strategy}/{e.model}/{e.cohort}/fold-{fold}.tsv"
            for e in EXPERIMENTS
            for fold in FOLDS
        ],
        checkpoints=CHECKPOINTS,
    output:
        table=D / "tables/calibration.tsv",
        summary=D / "tables/calibration_summary.tsv",
        origins=expand(
            D / "tables/{name}.origin.json",
            name=["calibration", "calibration_summary"],
        ),
    log:
        LOGS / "tabulate_calibration.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_calibration"),
        settings=settings(
            seed=config["seed"],
            bootstrap_samples=config["evaluation"]["bootstrap_samples"],
            confidence=config["evaluation"]["confidence"],
        ),
    shell:
        "python $PETCT_SRC/tabulate_calibration.py --bins {input.bins} --settings {params.settings:q}"
        " --code {params.code} --table {output.table} --summary {output.summary} > {log} 2>&1"


rule plot_calibration:
    input:
        calibration=D / "tables/calibration.tsv",
        summary=D / "tables/calibration_summary.tsv",
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "plot_calibration/calibration.png",
            category="Figures",
            labels={"figure": "Calibration"},
        ),
    log:
        LOGS / "plot_calibration.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_calibration"),
    shell:
        "python $PETCT_SRC/plot_calibration.py --calibration {input.calibration}"
        " --summary {input.summary} --output {output} > {log} 2>&1"


rule plot_agreement:
    input:
        metrics=D / "tables/metrics.tsv",
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "plot_agreement/agreement.png",
            category="Figures",
            labels={"figure": "Volume and TLG"},
        ),
    log:
        LOGS / "plot_agreement.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_agreement"),
    shell:
        "python $PETCT_SRC/plot_agreement.py --metrics {input.metrics} --output {output} > {log} 2>&1"


rule plot_history:
    input:
        histories=[
            D
            / f"{trained_by(e.model)}/{e.strategy}/{e.model}/{e.cohort}/fold-{fold}/history.tsv"
            for e in EXPERIMENTS
            for fold in FOLDS
        ],
        checkpoints=CHECKPOINTS,
    output:
        report(
            D / "plot_history/history.png",
            category="Figures",
            labels={"figure": "Training"},
        ),
    log:
        LOGS / "plot_history.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_history"),
    shell:
        "python $PETCT_SRC/plot_history.py --histories {input.histories} --output {output} > {log} 2>&1"


rule plot_studies:
    input:
        predictions=all_predictions_of,
        cohort=D / "select_cohort/{cohort}.tsv",
        metrics=expand(
            D / "score_predictions/{{strategy}}/{{model}}/{{cohort}}/fold-{fold}.tsv",
            fold=FOLDS,
        ),
        checkpoints=CHECKPOINTS,
    output:
        D / "plot_studies/{strategy}/{model}/{cohort}/pictures.json",
    log:
        LOGS / "plot_studies/{strategy}/{model}/{cohort}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(480),
    params:
        code=code_of("plot_studies"),
        settings=settings(suv_window=config["evaluation"]["suv_window"]),
        converted=str(D / "convert_study"),
    shell:
        "python $PETCT_SRC/plot_studies.py --predictions {input.predictions} --cohort {input.cohort}"
        " --converted {params.converted} --metrics {input.metrics}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"
