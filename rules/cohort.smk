"""Who trains and who tests."""


# A checkpoint, so that a run sees which lists have changed before it plans what hangs on them.
checkpoint select_cohort:
    input:
        excluded=D / "index_studies/excluded.tsv",
        studies=lambda wildcards: expand(
            D / "resample_study/{study}/study.json", study=list_studies(wildcards)
        ),
    output:
        cohorts=expand(D / "select_cohort/{cohort}.tsv", cohort=COHORTS),
        train=expand(
            D / "select_cohort/{cohort}/fold-{fold}/train.tsv",
            cohort=COHORTS,
            fold=FOLDS,
        ),
        test=expand(D / "select_cohort/test/fold-{fold}.tsv", fold=FOLDS),
        excluded=D / "tables/excluded.tsv",
        origin=D / "tables/excluded.origin.json",
        # Kept from run to run, so that a patient's fold stays when studies are added.
        folds=update(D / "select_cohort/folds.tsv"),
    log:
        LOGS / "select_cohort.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("select_cohort"),
        settings=settings(folds=config["folds"], seed=config["seed"], cohorts=COHORTS),
        resampled=str(D / "resample_study"),
    shell:
        "python $PETCT_SRC/select_cohort.py --index $(dirname {input.excluded})"
        " --resampled {params.resampled} --settings {params.settings:q}"
        " --code {params.code} --output-folder $(dirname {output.folds})"
        " --excluded {output.excluded} > {log} 2>&1"
