"""Stands in for SLURM: sbatch keeps its script, and runs an array's jobs one after another on this machine."""

import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def sbatch(script: str) -> None:
    """Keep the script, and start its jobs; they wait for what is written once their number is known."""
    (HERE / "script.sh").write_text(Path(script).read_text())
    with (HERE / "log.txt").open("w") as log:
        command = [sys.executable, __file__, "jobs"]
        subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    print("Submitted batch job 7")


def jobs() -> None:
    """Run every job of the script's array."""
    script = HERE / "script.sh"
    last = re.search(r"--array=0-(\d+)", script.read_text())
    for index in range(int(last[1]) + 1 if last else 1):
        job = {"JOB_ID": f"{100 + index}", "ARRAY_JOB_ID": "7", "ARRAY_TASK_ID": f"{index}"}
        job |= {"JOB_NUM_NODES": "1", "NTASKS": "1", "NODEID": "0", "PROCID": "0", "LOCALID": "0", "JOB_NODELIST": "n"}
        environment = os.environ | {f"SLURM_{name}": value for name, value in job.items()}
        subprocess.run(["bash", str(script)], env=environment, check=False)


def srun(*arguments: str) -> None:
    """Run the command that stands after srun's own options."""
    command = [argument for argument in arguments if argument != "--unbuffered"]
    while command[0].startswith("--"):
        del command[: 1 if "=" in command[0] else 2]
    os.execvp(command[0], command)


def sacct(*_: str) -> None:
    """Say that all jobs run."""
    print("JobID|State|NodeList", *(f"7_{index}|RUNNING|n" for index in range(9)), sep="\n")


def install(folder: Path) -> None:
    """Put commands of SLURM's names into a folder, which makes them SLURM for whoever has it in PATH."""
    folder.mkdir()
    copy = folder / "slurm_stand_in.py"
    copy.write_text(Path(__file__).read_text())
    for name in ("sbatch", "srun", "sacct", "scancel"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {copy} {name} "$@"\n')
        path.chmod(0o755)


if __name__ == "__main__" and sys.argv[1] != "scancel":
    {"sbatch": sbatch, "jobs": jobs, "srun": srun, "sacct": sacct}[sys.argv[1]](*sys.argv[2:])
