"""One network per strategy, model, cohort and fold; then its held-out studies."""


rule train_network:
    input:
        cohort=D / "select_cohort/{cohort}/fold-{fold}/train.tsv",
        coarse=coarse_predictions(training_folds),
        regions=regions(training_folds),
        checkpoints=CHECKPOINTS,
    output:
        model=D / "train_network/{strategy}/{model}/{cohort}/fold-{fold}/model.json",
        history=D / "train_network/{strategy}/{model}/{cohort}/fold-{fold}/history.tsv",
    log:
        LOGS / "train_network/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    threads: config["resources"]["training_threads"]
    resources:
        gpu=gpus_of,
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("train_network"),
        settings=training_settings,
        resampled=str(D / "resample_study"),
    shell:
        "env $PETCT_FAST_CPU python $(test {resources.gpu} -le 1"
        " || echo -m torch.distributed.run --standalone --nproc-per-node {resources.gpu})"
        " $PETCT_SRC/train_network.py --cohort {input.cohort}"
        " --coarse {input.coarse} --regions {input.regions} --resampled {params.resampled}"
        " --fold {wildcards.fold} --settings {params.settings:q} --threads {threads}"
        " --code {params.code} --output {output.model} > {log} 2>&1"


rule predict_network:
    input:
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        model=D / "train_network/{strategy}/{model}/{cohort}/fold-{fold}/model.json",
        coarse=coarse_predictions(same_fold),
        regions=regions(same_fold),
        checkpoints=CHECKPOINTS,
    output:
        D / "predict_network/{strategy}/{model}/{cohort}/fold-{fold}/predictions.json",
    log:
        LOGS / "predict_network/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    threads: config["resources"]["training_threads"]
    resources:
        gpu=1,
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("predict_network"),
        settings=settings(**config["inference"]),
        resampled=str(D / "resample_study"),
    shell:
        "env $PETCT_FAST_CPU python $PETCT_SRC/predict_network.py --cohort {input.cohort} --model {input.model}"
        " --coarse {input.coarse} --regions {input.regions} --resampled {params.resampled}"
        " --settings {params.settings:q} --threads {threads} --code {params.code}"
        " --output {output} > {log} 2>&1"


rule estimate_cost:
    output:
        table=D / "tables/cost.tsv",
        origin=D / "tables/cost.origin.json",
    log:
        LOGS / "estimate_cost.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("estimate_cost"),
        settings=cost_settings,
    shell:
        "python $PETCT_SRC/estimate_cost.py --settings {params.settings:q} --code {params.code}"
        " --output {output.table} 2>&1 | tee {log}"
