"""The Kubernetes profile, with a kubectl that runs each pod's command on this machine.

No cluster runs here: what is held is that Snakemake takes the profile and what kubectl is told.
"""

import json
import subprocess
import sys
from pathlib import Path

PROFILE = Path(__file__).parents[2] / "config/profiles/kubernetes"

KUBECTL = """#!/bin/sh
# create: runs the manifest's command and keeps its exit status; get: how that job ended
cd "$(dirname "$0")"
case "$1" in
  create)
    number=$(ls | grep -c manifest)
    cat > manifest-$number.json
    python3 - manifest-$number.json <<'END' > output-$number 2>&1
import json, subprocess, sys
pod = json.load(open(sys.argv[1]))["spec"]["template"]["spec"]["containers"][0]
sys.exit(subprocess.run(pod["command"], cwd=pod["workingDir"]).returncode)
END
    echo $? > status-$number
    echo job.batch/petct-$number ;;
  get)
    number=${2##*-}
    case "$(cat status-$number)" in 0) type=Complete ;; *) type=Failed ;; esac
    echo "petct-$number $type" ;;
esac
"""

SNAKEFILE = """
rule train_network:
    output:
        "model.json",
    threads: 3
    resources:
        gpu=1,
        mem_mb=lambda wildcards, attempt: 100 * attempt,
        runtime=5,
    shell:
        "test {resources.mem_mb} = 200 && touch {output}"


rule convert_study:
    input:
        "model.json",
    output:
        "study.json",
    resources:
        mem_mb=50,
        runtime=2,
    shell:
        "touch {output}"
"""


def test_jobs_become_pods_with_their_resources(
    tmp_path: Path, cluster_environment: dict[str, str]
) -> None:
    cluster, folder = tmp_path / "cluster", tmp_path / "run"
    cluster.mkdir()
    folder.mkdir()
    (cluster / "kubectl").write_text(KUBECTL)
    (cluster / "kubectl").chmod(0o755)
    (folder / "Snakefile").write_text(SNAKEFILE)
    environment = cluster_environment | {"PATH": f"{cluster}:{cluster_environment['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--profile", str(PROFILE)]
    command += ["--seconds-between-status-checks", "1", "study.json"]
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    outputs = "".join(path.read_text() for path in sorted(cluster.glob("output-*")))
    assert result.returncode == 0, result.stderr + outputs
    jobs = [json.loads(path.read_text()) for path in sorted(cluster.glob("manifest-*"))]
    pods = [job["spec"]["template"]["spec"] for job in jobs]
    # The first attempt fails for want of memory; the second is given twice as much.
    assert [pod["containers"][0]["resources"]["limits"] for pod in pods] == [
        {"memory": "100M", "nvidia.com/gpu": 1},
        {"memory": "200M", "nvidia.com/gpu": 1},
        {"memory": "50M"},
    ]
    assert pods[0]["containers"][0]["resources"]["requests"]["cpu"] == 3
    assert [pod["activeDeadlineSeconds"] for pod in pods] == [300, 300, 120]
    assert all(pod["containers"][0]["workingDir"] == str(folder) for pod in pods)
    assert all(pod["volumes"][0]["name"] == "work" for pod in pods)
    assert "# properties" not in pods[0]["containers"][0]["command"][2]
