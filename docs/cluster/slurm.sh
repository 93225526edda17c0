#!/bin/bash
#SBATCH --job-name=mpt
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
# A task per GPU. RUNS must be a folder that all nodes see; a requeued job goes on from its last checkpoint.
set -euo pipefail
RUNS=${RUNS:-$SLURM_SUBMIT_DIR/runs}
srun --kill-on-bad-exit=1 mpt pretrain mpt_source --out "$RUNS/source"
