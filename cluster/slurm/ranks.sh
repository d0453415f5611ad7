#!/bin/bash
# The ranks of a campaign's membrane as a Slurm job of their own, for campaigns with
# `continuum.source: attached` that run elsewhere on the same file system:
#   sbatch --ntasks=256 --export=ALL,RUN=/scratch/me/run,LAST=1000 cluster/slurm/ranks.sh
# They continue from the last checkpoint, and wait at each boundary for the campaign's permit.
# Needs an mpi4py that is linked with the MPI of this machine.
#SBATCH --job-name=ranks
#SBATCH --ntasks=256
#SBATCH --time=04:00:00
#SBATCH --output=ranks-%j.log
set -euo pipefail
: "${RUN:?the folder of the run}" "${LAST:?the last snapshot}"
export OMP_NUM_THREADS=1
exec srun --kill-on-bad-exit=1 --mpi="${MPI_TYPE:-pmi2}" \
    python -m campaign continuum-rank "$RUN" --last-snapshot "$LAST" --transport spool
