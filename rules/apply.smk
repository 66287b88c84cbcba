"""Trained networks on new studies: `snakemake apply --config apply_to=FOLDER`.

A package of one experiment, made here or elsewhere, says all that it takes; results go to
results/apply/<name>/. Studies are read as for training, but for their labels, which are not.
"""

APPLY = config["apply"]
APPLY_TO = Path(config["apply_to"]) if config["apply_to"] else None
# A folder's name may hold what a path in a shell should not.
NEW_NAME = APPLY["name"] or (
    re.sub(r"[^A-Za-z0-9._-]", "-", APPLY_TO.resolve().name) if APPLY_TO else "nothing"
)
A = Path("results/apply") / NEW_NAME
MADE_HERE = D / "package_model/package.zip"
PACKAGE = Path(APPLY["package"]) if APPLY["package"] else MADE_HERE
NEW_READING = READING | {"label_pattern": None, "unusable_study": "exclude"}
PAGE_TEMPLATES = [
    SRC / f"templates/{name}"
    for name in (
        "study_page.html",
        "study_page.css",
        "study_page.js",
        "study_list.html",
    )
]


# What looks at the reference finds nothing where there is none.
CANDIDATES = {
    "/".join(e): e
    for e in EXPERIMENTS
    if config["strategies"][e.strategy]["regions"] != "oracle_boxes"
}


rule package_model:
    input:
        models=models_to_pack,
        comparison=D / "tables/comparison.tsv",
        calibration=D / "tables/calibration.tsv",
        studies=D / "tables/studies.tsv",
        checkpoints=CHECKPOINTS,
    output:
        package=MADE_HERE,
        card=D / "package_model/model_card.md",
    log:
        LOGS / "package_model.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("package_model"),
        settings=package_settings,
    shell:
        "python $PETCT_SRC/package_model.py --comparison {input.comparison}"
        " --calibration {input.calibration} --studies {input.studies}"
        " --settings {params.settings:q} --output {output.package} 2>&1 | tee {log}"


rule package:
    input:
        MADE_HERE,


rule unpack_package:
    input:
        PACKAGE,
    output:
        description=A / "unpack_package/package.json",
        preprocessing=A / "unpack_package/preprocessing.json",
    log:
        A / "logs/unpack_package.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("unpack_package"),
    shell:
        "python $PETCT_SRC/unpack_package.py --package {input:q} --output {output.description}"
        " 2>&1 | tee {log}"


checkpoint index_new_studies:
    output:
        table=A / "index_studies/studies.tsv",
        excluded=A / "index_studies/excluded.tsv",
        entries=directory(A / "index_studies/studies"),
    log:
        A / "logs/index_studies.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(480),
    params:
        code=code_of("index_studies"),
        settings=settings(**{key: NEW_READING[key] for key in INDEX_SETTINGS}),
        folder=str(APPLY_TO),
        contents=new_contents,
    shell:
        "python $PETCT_SRC/index_studies.py --folder {params.folder:q}"
        " --settings {params.settings:q} --output-folder $(dirname {output.table}) 2>&1 | tee {log}"


use rule convert_study as convert_new_study with:
    input:
        entry=A / "index_studies/studies/{study}.json",
        download=[],
    output:
        A / "convert_study/{study}/study.json",
    log:
        A / "logs/convert_study/{study}.log",
    params:
        code=code_of("convert_study"),
        settings=settings(**{key: NEW_READING[key] for key in CONVERSION_SETTINGS}),
        dicom="",


rule resample_new_study:
    input:
        study=A / "convert_study/{study}/study.json",
        preprocessing=A / "unpack_package/preprocessing.json",
    output:
        A / "resample_study/{study}/study.json",
    log:
        A / "logs/resample_study/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("resample_study"),
    shell:
        'python $PETCT_SRC/resample_study.py --study {input.study} --settings "$(cat {input.preprocessing})"'
        " --output {output} > {log} 2>&1"


rule predict_studies:
    input:
        index=A / "index_studies/studies.tsv",
        package=A / "unpack_package/package.json",
        studies=of_new_studies("resample_study/{study}/study.json"),
    output:
        A / "predict_studies/predictions.json",
    log:
        A / "logs/predict_studies.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        gpu=1,
        mem_mb=growing(config["resources"]["training_memory_mb"]),
        runtime=growing(config["resources"]["training_minutes"]),
    params:
        code=code_of("predict_studies"),
        resampled=str(A / "resample_study"),
    shell:
        "env $PETCT_FAST_CPU python $PETCT_SRC/predict_studies.py --studies {input.index}"
        " --package {input.package} --resampled {params.resampled} --threads {threads}"
        " --code {params.code} --output {output} > {log} 2>&1"


rule describe_lesions:
    input:
        study=A / "convert_study/{study}/study.json",
        resampled=A / "resample_study/{study}/study.json",
        predictions=A / "predict_studies/predictions.json",
        package=A / "unpack_package/package.json",
    output:
        A / "describe_lesions/{study}/study.json",
    log:
        A / "logs/describe_lesions/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("describe_lesions"),
        settings=settings(
            connectivity=config["evaluation"]["connectivity"],
            body_above_suv=config["preprocessing"]["body"]["suv_above"],
            disagreement=float(APPLY["disagreement"]),
        ),
    shell:
        "python $PETCT_SRC/describe_lesions.py --study {input.study} --resampled {input.resampled}"
        " --predictions {input.predictions} --package {input.package}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


rule export_study:
    input:
        entry=A / "index_studies/studies/{study}.json",
        study=A / "convert_study/{study}/study.json",
        described=A / "describe_lesions/{study}/study.json",
        package=A / "unpack_package/package.json",
    output:
        A / "export_study/{study}/study.json",
    log:
        A / "logs/export_study/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("export_study"),
        settings=settings(
            segments=APPLY["segments"], suv_window=config["evaluation"]["suv_window"]
        ),
    shell:
        "python $PETCT_SRC/export_study.py --study-index {input.entry} --study {input.study}"
        " --described {input.described} --package {input.package}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


rule write_study_page:
    input:
        study=A / "convert_study/{study}/study.json",
        described=A / "describe_lesions/{study}/study.json",
        exported=A / "export_study/{study}/study.json",
        package=A / "unpack_package/package.json",
    output:
        A / "write_study_page/{study}.html",
    log:
        A / "logs/write_study_page/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("write_study_page"),
        template=content_of(*sorted(PAGE_TEMPLATES)),
        settings=settings(suv_window=config["evaluation"]["suv_window"]),
    shell:
        "python $PETCT_SRC/write_study_page.py --study {input.study} --described {input.described}"
        " --exported {input.exported} --package {input.package} --settings {params.settings:q}"
        " --template $PETCT_SRC/templates/study_page.html --output {output} > {log} 2>&1"


rule write_study_list:
    input:
        index=A / "index_studies/studies.tsv",
        excluded=A / "index_studies/excluded.tsv",
        package=A / "unpack_package/package.json",
        described=of_new_studies("describe_lesions/{study}/study.json"),
        pages=of_new_studies("write_study_page/{study}.html"),
    output:
        page=A / "index.html",
        table=A / "studies.tsv",
    log:
        A / "logs/write_study_list.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("write_study_list"),
        template=content_of(*sorted(PAGE_TEMPLATES)),
        described=str(A / "describe_lesions"),
    shell:
        "python $PETCT_SRC/write_study_list.py --index {input.index} --excluded {input.excluded}"
        " --package {input.package} --described {params.described}"
        " --template $PETCT_SRC/templates/study_list.html --table {output.table}"
        " --output {output.page} 2>&1 | tee {log}"


rule apply:
    input:
        A / "index.html",
