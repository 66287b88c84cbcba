"""Lesion segmentation in PET/CT: from DICOM to a comparison of networks, strategies and cohorts.

    study (DICOM | NIfTI | phantom | a collection of the Imaging Data Commons)
      index_studies      one table: study, patient, where PET, CT and label are
      download_study     a study of a collection, whole or not at all
      convert_study      SUV [g/mL] and CT [HU] on the PET grid, lesion mask
      resample_study     cropped to the body, on the coarse and the fine grid
      select_cohort      who trains, who tests, who was excluded and why
      train_network      one job per strategy, model, cohort and fold
      predict_network    held-out studies, back on the native PET grid
      plan_nnunet        train_nnunet   predict_nnunet: the same by nnU-Net itself
      locate_regions     coarse predictions -> boxes that a fine network looks into
      score_predictions  one row per study and experiment
      measure_calibration  how often voxels of a given probability are lesion
      tabulate_metrics   compare_experiments   pair_experiments   rank_experiments   plot_...
      tabulate_origins   which code, data, versions and hardware each of it comes from
      package            one experiment in a file: its networks, settings and model card
      apply              new studies with it: masks, DICOM SEG, lesion tables, a page per study
      benchmark          how fast all of this is beside others, on studies of its own

Each rule runs the script of its name in src/ and writes to results/<dataset>/<rule>/.
Settings: config/config.yaml and overlays (--configfile). Start: snakemake --cores all
"""

from snakemake.utils import min_version

min_version("9.0")


configfile: Path(workflow.basedir) / "config/config.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/cohort.smk"
include: "rules/train.smk"
include: "rules/nnunet.smk"
include: "rules/refine.smk"
include: "rules/evaluate.smk"
include: "rules/compare.smk"
include: "rules/report.smk"
include: "rules/apply.smk"
include: "rules/benchmark.smk"


rule all:
    default_target: True
    input:
        D / "report/index.html",
        D / "tables/metrics.tsv",
        D / "tables/comparison.tsv",
        D / "tables/differences.tsv",
        D / "tables/ranks.tsv",
        D / "tables/excluded.tsv",
        D / "tables/studies.tsv",
        D / "tables/origins.tsv",
        D / "tables/regions.tsv",
        D / "tables/calibration.tsv",
        D / "tables/calibration_summary.tsv",
        D / "plot_dice/dice.png",
        D / "plot_differences/differences.png",
        D / "plot_ranks/ranks.png",
        D / "plot_agreement/agreement.png",
        D / "plot_calibration/calibration.png",
        D / "plot_history/history.png",
        expand(
            D / "plot_studies/{e.strategy}/{e.model}/{e.cohort}/pictures.json",
            e=EXPERIMENTS,
        ),


onstart:
    hold_run_lock()


onsuccess:
    if APPLY_TO and (A / "index.html").exists():
        print(f"\nThe new studies are in {A}/index.html: open it in a browser.")
    elif (D / "report/index.html").exists():
        print(f"\nThe report is {D}/report/index.html: open it in a browser.")
        print(
            f"The comparison is in {D}/tables/comparison.tsv, each study's row in metrics.tsv beside"
            f" it, a picture of each study in {D}/plot_studies/."
        )
