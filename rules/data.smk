"""From raw studies to arrays on the coarse and the fine grid."""


rule make_phantom:
    output:
        D / "make_phantom/{study}/truth.json",
    log:
        LOGS / "make_phantom/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=8000 if config["phantom"]["size"] == "clinical" else 1500,
    params:
        code=code_of("make_phantom"),
        settings=settings(size=config["phantom"]["size"], seed=config["seed"]),
    shell:
        "python $PETCT_SRC/make_phantom.py --study {wildcards.study}"
        " --settings {params.settings:q} --output {output} > {log} 2>&1"


if config["source"] == "phantom":
    STUDY_FOLDER = D / "make_phantom"
    STUDY_NAMES = [
        f"phantom-{n:03d}" for n in range(1, config["phantom"]["studies"] + 1)
    ]
    STUDY_SOURCES = [STUDY_FOLDER / study / "truth.json" for study in STUDY_NAMES]
else:
    STUDY_FOLDER = Path(config["folder"])
    STUDY_NAMES, STUDY_SOURCES = [], []


READING = config["reading"]
INDEX_SETTINGS = [
    *["label_pattern", "missing_label", "accept", "unusable_study"],
    *["keys", "salt_file"],
]
CONVERSION_SETTINGS = ["label_pattern", "accept", "suv", "also", "unusable_study"]


checkpoint index_studies:
    input:
        STUDY_SOURCES,
        salt=[READING["salt_file"]] if READING["salt_file"] else [],
    output:
        table=D / "index_studies/studies.tsv",
        excluded=D / "index_studies/excluded.tsv",
        entries=directory(D / "index_studies/studies"),
    log:
        LOGS / "index_studies.log",
    conda:
        "../envs/environment.yaml"
    params:
        code=code_of("index_studies"),
        settings=settings(**{key: READING[key] for key in INDEX_SETTINGS}),
        folder=lambda wildcards: str(STUDY_FOLDER),
        only=STUDY_NAMES,
        contents=list_folders(STUDY_FOLDER) if config["source"] == "folder" else "",
    shell:
        "python $PETCT_SRC/index_studies.py --folder {params.folder:q} --settings {params.settings:q}"
        " --output-folder $(dirname {output.table}) --only {params.only} > {log} 2>&1"


rule convert_study:
    input:
        entry=D / "index_studies/studies/{study}.json",
    output:
        D / "convert_study/{study}/study.json",
    log:
        LOGS / "convert_study/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=4000,
    params:
        code=code_of("convert_study"),
        settings=settings(**{key: READING[key] for key in CONVERSION_SETTINGS}),
    shell:
        "python $PETCT_SRC/convert_study.py --study-index {input.entry} --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule resample_study:
    input:
        D / "convert_study/{study}/study.json",
    output:
        D / "resample_study/{study}/study.json",
    log:
        LOGS / "resample_study/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=4000,
    params:
        code=code_of("resample_study"),
        settings=settings(
            **config["preprocessing"], unusable_study=READING["unusable_study"]
        ),
    shell:
        "python $PETCT_SRC/resample_study.py --study {input} --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"
