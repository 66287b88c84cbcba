"""How fast we are beside others at the same work: `snakemake --cores all benchmark`.

It has nothing to do with the dataset. A contest is a rule and a script of its name, which holds the
peers' code as well; each is called with
  --inputs    the folder of prepare_benchmark: clinical/ and demo/, or smoke/ in place of both
  --peers     the folder of packages that install_peers filled, for a contestant's PYTHONPATH
  --settings  size, repeats, threads and what of the config the contest hangs on
  --output    its table (petct.contest.COLUMNS); logs of its runs go beside it
and takes all cores, so that nothing runs beside it.
"""

B = Path("results/benchmark")
SNAKEFILE = Path(workflow.basedir) / "Snakefile"
BENCHMARK = config["benchmark"] | {"repeats": int(config["benchmark"]["repeats"])}
SMOKE = BENCHMARK["size"] == "smoke"
CONTESTS = [
    *["conversion", "patches", "steps", "inference", "two_step", "budget"],
    *["metrics", "planning"],
]
# What a contest may take at most: the others' memory and time count.
CONTEST = {"mem_mb": growing(16000), "runtime": growing(120)}
# The first study is DICOM with lesions as SEG, and tested; the others are to learn from.
SETS = (
    {"smoke": phantom_set("demo", 4, 16.0, 10.0)}
    if SMOKE
    else {
        "clinical": phantom_set("clinical", 6, 12.0, 4.0),
        "demo": phantom_set("demo", 28, 12.0, 7.5),
    }
)


rule prepare_benchmark:
    output:
        B / "prepare_benchmark/inputs.json",
    log:
        B / "logs/prepare_benchmark.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        code=code_of("prepare_benchmark"),
        settings=settings(**SETS),
    shell:
        "python $PETCT_SRC/prepare_benchmark.py --settings {params.settings:q} --threads {threads}"
        " --output {output} > {log} 2>&1"


rule install_peers:
    output:
        B / "install_peers/peers.json",
    log:
        B / "logs/install_peers.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("install_peers"),
        pins=content_of(SRC / "../envs/requirements-benchmark.txt"),
    shell:
        "python $PETCT_SRC/install_peers.py"
        " --requirements $PETCT_SRC/../envs/requirements-benchmark.txt --output {output} > {log} 2>&1"


rule benchmark_conversion:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_conversion/contest.tsv",
    log:
        B / "logs/benchmark_conversion.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_conversion"),
        settings=contest_settings(
            sets=SETS,
        ),
    shell:
        "python $PETCT_SRC/benchmark_conversion.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_patches:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_patches/contest.tsv",
    log:
        B / "logs/benchmark_patches.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_patches"),
        settings=contest_settings(
            training=config["training"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_patches.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_steps:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_steps/contest.tsv",
    log:
        B / "logs/benchmark_steps.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_steps"),
        settings=contest_settings(
            training=config["training"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_steps.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_inference:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_inference/contest.tsv",
    log:
        B / "logs/benchmark_inference.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_inference"),
        settings=contest_settings(
            inference=config["inference"],
            preprocessing=SETS[min(SETS)]["preprocessing"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_inference.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_two_step:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_two_step/contest.tsv",
    log:
        B / "logs/benchmark_two_step.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_two_step"),
        settings=contest_settings(
            inference=config["inference"],
            training=config["training"],
            regions=config["regions"],
            preprocessing=SETS[min(SETS)]["preprocessing"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_two_step.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_budget:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_budget/contest.tsv",
    log:
        B / "logs/benchmark_budget.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_budget"),
        settings=contest_settings(
            training=config["training"],
            inference=config["inference"],
            strategies=config["strategies"],
            models=config["models"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_budget.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_metrics:
    input:
        inputs=B / "prepare_benchmark/inputs.json",
        peers=B / "install_peers/peers.json",
    output:
        B / "benchmark_metrics/contest.tsv",
    log:
        B / "logs/benchmark_metrics.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
        gpu=1,
    params:
        code=code_of("benchmark_metrics"),
        settings=contest_settings(
            evaluation=config["evaluation"],
        ),
    shell:
        "python $PETCT_SRC/benchmark_metrics.py --inputs $(dirname {input.inputs})"
        " --peers $(dirname {input.peers})/packages --settings {params.settings:q}"
        " --output {output} > {log} 2>&1"


rule benchmark_planning:
    output:
        B / "benchmark_planning/contest.tsv",
    log:
        B / "logs/benchmark_planning.log",
    conda:
        "../envs/environment.yaml"
    threads: CORES
    resources:
        **CONTEST,
    params:
        code=code_of("benchmark_planning"),
        rules=content_of(SNAKEFILE, *sorted((SRC / "../rules").glob("*.smk"))),
        settings=contest_settings(),
    shell:
        "python $PETCT_SRC/benchmark_planning.py --settings {params.settings:q} --output {output}"
        " > {log} 2>&1"


rule tabulate_benchmark:
    input:
        contests=expand(B / "benchmark_{task}/contest.tsv", task=CONTESTS),
        peers=B / "install_peers/peers.json",
    output:
        table=B / "benchmark.tsv",
        origin=B / "benchmark.origin.json",
    log:
        B / "logs/tabulate_benchmark.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("tabulate_benchmark"),
        settings=settings(**BENCHMARK),
    shell:
        "python $PETCT_SRC/tabulate_benchmark.py --contests {input.contests} --peers {input.peers}"
        " --settings {params.settings:q} --code {params.code} --output {output.table} 2>&1 | tee {log}"


rule plot_benchmark:
    input:
        B / "benchmark.tsv",
    output:
        B / "benchmark.png",
    log:
        B / "logs/plot_benchmark.log",
    conda:
        "../envs/environment.yaml"
    resources:
        **SMALL_JOB,
    params:
        code=code_of("plot_benchmark"),
    shell:
        "python $PETCT_SRC/plot_benchmark.py --table {input} --output {output} > {log} 2>&1"


rule benchmark:
    input:
        B / "benchmark.tsv",
        B / "benchmark.png",
