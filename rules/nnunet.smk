"""nnU-Net in its own way: its plan, training and prediction, on our folds and in every strategy."""


rule plan_nnunet:
    input:
        cohort=D / "select_cohort/{cohort}/fold-{fold}/train.tsv",
        coarse=coarse_predictions(training_folds),
        regions=regions(training_folds),
        checkpoints=CHECKPOINTS,
    output:
        plans=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/plans.json",
        dataset=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/dataset.json",
        fingerprint=D
        / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/fingerprint.json",
    log:
        LOGS / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    threads: config["resources"]["training_threads"]
    resources:
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("plan_nnunet"),
        settings=plan_settings,
        resampled=str(D / "resample_study"),
    shell:
        "python $PETCT_SRC/plan_nnunet.py --cohort {input.cohort}"
        " --coarse {input.coarse} --regions {input.regions} --resampled {params.resampled}"
        " --fold {wildcards.fold} --settings {params.settings:q} --threads {threads}"
        " --output {output.plans} > {log} 2>&1"


rule train_nnunet:
    input:
        cohort=D / "select_cohort/{cohort}/fold-{fold}/train.tsv",
        plans=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/plans.json",
        dataset=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/dataset.json",
        fingerprint=D
        / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/fingerprint.json",
        coarse=coarse_predictions(training_folds),
        regions=regions(training_folds),
        checkpoints=CHECKPOINTS,
    output:
        model=D / "train_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/model.json",
        history=D / "train_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/history.tsv",
    log:
        LOGS / "train_nnunet/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    threads: config["resources"]["training_threads"]
    resources:
        gpu=gpus_of,
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("train_nnunet"),
        settings=training_settings,
        resampled=str(D / "resample_study"),
    shell:
        "env $PETCT_FAST_CPU python $(test {resources.gpu} -le 1"
        " || echo -m torch.distributed.run --standalone --nproc-per-node {resources.gpu})"
        " $PETCT_SRC/train_nnunet.py --cohort {input.cohort}"
        " --plans {input.plans} --coarse {input.coarse} --regions {input.regions}"
        " --resampled {params.resampled} --fold {wildcards.fold} --settings {params.settings:q}"
        " --threads {threads} --code {params.code} --output {output.model} > {log} 2>&1"


rule predict_nnunet:
    input:
        cohort=D / "select_cohort/test/fold-{fold}.tsv",
        model=D / "train_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/model.json",
        plans=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/plans.json",
        dataset=D / "plan_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/dataset.json",
        coarse=coarse_predictions(same_fold),
        regions=regions(same_fold),
        checkpoints=CHECKPOINTS,
    output:
        D / "predict_nnunet/{strategy}/{model}/{cohort}/fold-{fold}/predictions.json",
    log:
        LOGS / "predict_nnunet/{strategy}/{model}/{cohort}/fold-{fold}.log",
    priority: urgency
    conda:
        "../envs/environment.yaml"
    threads: config["resources"]["training_threads"]
    resources:
        gpu=1,
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("predict_nnunet"),
        settings=nnunet_inference,
        resampled=str(D / "resample_study"),
    shell:
        "env $PETCT_FAST_CPU python $PETCT_SRC/predict_nnunet.py --cohort {input.cohort}"
        " --model {input.model} --plans {input.plans}"
        " --coarse {input.coarse} --regions {input.regions} --resampled {params.resampled}"
        " --settings {params.settings:q} --threads {threads} --code {params.code}"
        " --output {output} > {log} 2>&1"
