#!/usr/bin/env bash
#SBATCH --job-name=latentmill
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
#
# The whole pipeline on Slurm: sbatch deploy/slurm.sh, in a clone on a file system that every node sees, after
# `make setup`. Trials run on all nodes. After a preemption or the time limit Slurm, or you, run it again, and every
# trial goes on from its last epoch.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000)) # so that two jobs on a node do not meet
export RAY_ADDRESS="${nodes[0]}:$port"
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# One task a node: each starts Ray, the first also runs the command, and all stop when it ends.
srun ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- dvc repro
