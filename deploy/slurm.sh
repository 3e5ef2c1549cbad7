#!/usr/bin/env bash
#SBATCH --job-name=latentmill
#SBATCH --nodes=3
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@60
#
# The whole pipeline on Slurm: sbatch deploy/slurm.sh, in a clone on a file system that every node sees, after
# `make setup`. Trials run on all nodes. After a preemption or the time limit Slurm, or you, run it again, and every
# trial goes on from its last epoch. Nodes are not shared, because `ray symmetric-run` refuses to start where another
# Ray runs, and when it ends, ends every Ray of yours on the node.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
export PATH="$PWD/.venv/bin:$PATH"

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 10000)) # below the ports that Linux gives out, apart from those that Ray listens on
export RAY_ADDRESS="${nodes%%$'\n'*}:$port"
RAY_AUTH_TOKEN=$(openssl rand -hex 32)
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
export RAY_gcs_rpc_server_reconnect_timeout_s=20 # that the other nodes wait when the first has ended, else a minute
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # for nodes that read Python from a slow file system, else 30 s

# What `dvc repro` has reserved on a node that died is taken for reserved if any process here has its number.
if ((${SLURM_RESTART_COUNT:-0})); then rm -f .dvc/tmp/rwlock; fi

# One task a node: each starts Ray, the first also runs the command, and all stop when it ends. `srun` does not take
# the number of CPUs over from `sbatch` by itself. What Ray of the other nodes says is in files of their own, because
# it ends with a long complaint that the first has gone.
# shellcheck disable=SC2016 # for the shell of each task
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" bash -c '
    ((SLURM_NODEID == 0)) || exec &>> "slurm-$SLURM_JOB_ID-$SLURMD_NODENAME.out"; exec "$@"' task \
    ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --disable-usage-stats -- dvc repro
