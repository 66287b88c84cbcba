"""From raw studies to arrays on the coarse and the fine grid."""


rule make_phantom:
    output:
        D / "make_phantom/{study}/truth.json",
    log:
        LOGS / "make_phantom/{study}.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
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
elif config["source"] == "folder":
    STUDY_FOLDER = Path(config["folder"])
    STUDY_NAMES, STUDY_SOURCES = [], []
else:
    STUDY_FOLDER, STUDY_NAMES = None, []
    STUDY_SOURCES = [config["download"][key] for key in ("list", "index")]
    STUDY_SOURCES = [path for path in STUDY_SOURCES if path]


READING = config["reading"]
INDEX_SETTINGS = [
    *["label_pattern", "missing_label", "accept", "unusable_study"],
    *["keys", "salt_file"],
]
CONVERSION_SETTINGS = ["label_pattern", "accept", "suv", "also", "unusable_study"]

FROM_COMMONS = config["source"] == "idc"
DOWNLOAD = config["download"]
# Where a copy comes from and whether it is kept change no result: no parameters, so no reruns.
os.environ.update(
    PETCT_ENDPOINT=DOWNLOAD["endpoint"] or "",
    PETCT_KEEP_DICOM="true" if DOWNLOAD["keep_dicom"] else "false",
)


checkpoint index_studies:
    input:
        STUDY_SOURCES,
        salt=[READING["salt_file"]] if READING["salt_file"] else [],
    output:
        **({"source": D / "index_studies/source.json"} if FROM_COMMONS else {}),
        table=D / "index_studies/studies.tsv",
        excluded=D / "index_studies/excluded.tsv",
        entries=directory(D / "index_studies/studies"),
    log:
        LOGS / "index_studies.log",
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(480),
    params:
        code=code_of("index_studies"),
        settings=settings(**{key: READING[key] for key in INDEX_SETTINGS}),
        origin=studies_to_index,
        contents=study_contents,
    shell:
        "python $PETCT_SRC/index_studies.py {params.origin} --settings {params.settings:q}"
        " --output-folder $(dirname {output.table}) > {log} 2>&1"


rule download_study:
    input:
        entry=D / "index_studies/studies/{study}.json",
    output:
        (str if DOWNLOAD["keep_dicom"] else temp)(
            f"{D}/download_study/{{study}}/download.json"
        ),
    log:
        LOGS / "download_study/{study}.log",
    retries: 2
    conda:
        "../envs/environment.yaml"
    resources:
        download=1,
        mem_mb=growing(1000),
        runtime=growing(240),
    # No digest of the code: what arrives is checked against the index, so that an edit of the
    # script cannot change it, and would otherwise fetch hundreds of gigabytes again.
    shell:
        "python $PETCT_SRC/download_study.py --study-index {input.entry}"
        ' --endpoint "$PETCT_ENDPOINT" --output {output} > {log} 2>&1'


rule convert_study:
    input:
        entry=D / "index_studies/studies/{study}.json",
        download=D / "download_study/{study}/download.json" if FROM_COMMONS else [],
    output:
        D / "convert_study/{study}/study.json",
    log:
        LOGS / "convert_study/{study}.log",
    priority: 1  # before further downloads, so that a disk need not hold them all
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("convert_study"),
        settings=settings(**{key: READING[key] for key in CONVERSION_SETTINGS}),
        dicom=f"{D}/download_study/{{study}}/dicom",
    shell:
        "python $PETCT_SRC/convert_study.py --study-index {input.entry} --settings {params.settings:q}"
        " --download {input.download} --output {output} > {log} 2>&1"
        " && ($PETCT_KEEP_DICOM || rm -rf {params.dicom:q})"


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
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        code=code_of("resample_study"),
        settings=settings(
            **config["preprocessing"], unusable_study=READING["unusable_study"]
        ),
    shell:
        "python $PETCT_SRC/resample_study.py --study {input} --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"
