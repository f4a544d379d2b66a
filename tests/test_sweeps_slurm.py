"""A sweep on Slurm, with stand-ins for its programs: what is submitted, and that each array task runs its cell."""

import json
import os
import subprocess
import sys

import pytest

from errata.dataset.arithmetic import Arithmetic
from errata.sweep import read_sweep

PROGRAMS = {
    "sbatch": """
        import os, re, shutil, subprocess, sys
        script = sys.argv[-1]
        shutil.copyfile(script, "submitted.sh")
        last = int(re.search(r"--array=0-(\\d+)", open(script).read()).group(1))
        for task in range(last + 1):
            job = {"SLURM_JOB_ID": f"71{task}", "SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": str(task)}
            job |= {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0",
                    "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "here"}
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": open("tasks.log", "a")}
            subprocess.Popen(["bash", script], env=os.environ | job, **quiet)
        print("Submitted batch job 71")
    """,
    "srun": """
        import os, sys
        words = sys.argv[1:]
        while words[0].startswith("-"):
            if words[0] in ("--output", "--error"):
                words.pop(0)
            words.pop(0)
        os.execvp(words[0], words)
    """,
    "sacct": """
        print("JobID|State|NodeList")
        for task in range(2):
            print(f"71_{task}|RUNNING|here")
    """,
    "scontrol": "print('here')",
}
COMMAND = [
    "evaluate", "-m", "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1",
    "hydra.launcher.cpus_per_task=8", "hydra.launcher.mem_gb=64", "hydra.launcher.timeout_min=600",
    "hydra.launcher.array_parallelism=1", "hydra.launcher.max_num_timeout=3",
    "model=recorded", "model.path=answers.jsonl", "dataset.arithmetic.test=3,4",
]  # fmt: skip


@pytest.mark.slow
def test_slurm_gets_an_array_of_cells_and_each_runs_there(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'errata[slurm]'")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        lines = [line.removeprefix("        ") for line in text.strip("\n").split("\n")]
        (programs / name).write_text("\n".join([f"#!{sys.executable}", *lines]))
        (programs / name).chmod(0o755)
    questions = Arithmetic("arithmetic", test=4).load("test")
    (tmp_path / "answers.jsonl").write_text("\n".join(json.dumps({"id": q.id, "response": q.gold}) for q in questions))
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "errata.cli", *COMMAND]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]

    script = (tmp_path / "submitted.sh").read_text()
    for line in (
        "--array=0-1%1", "--partition=gpu", "--gpus-per-node=1", "--cpus-per-task=8", "--mem=64GB", "--time=600",
        "--signal=USR2@120", "--nodes=1",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, line
    assert "submitit.core._submit" in script
    (folder,) = (tmp_path / "outputs" / "sweeps").glob("*-*")
    cells = read_sweep(folder).cells
    assert [cell.state for cell in cells] == ["finished", "finished"]
    assert len({cell.pid for cell in cells}) == 2

    (tmp_path / "submitted.sh").unlink()
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0
    assert not (tmp_path / "submitted.sh").exists(), "finished cells were submitted"
