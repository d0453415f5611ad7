#!/bin/bash
# A campaign on the nodes of one Slurm job, resumed by the next one:
#   sbatch --export=ALL,CONFIG=published,RUN=/scratch/me/run cluster/slurm/campaign.sh
# RUN must be on a file system that all nodes share. 15 minutes before its time is up the campaign
# stops in good order, and the job puts itself back into the queue.
#SBATCH --job-name=campaign
#SBATCH --nodes=2
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@900
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=campaign-%j.log
set -euo pipefail
: "${CONFIG:?a preset, or a file that all nodes see}" "${RUN:?the folder of the run}"

nodes=("$(scontrol show hostnames "$SLURM_JOB_NODELIST")")
mapfile -t nodes <<< "${nodes[0]}"
head=${nodes[0]}

# A port of this job's own, away from those that Ray gives to workers (10002 to 19999).
port=$((20000 + SLURM_JOB_ID % 10000))
private=$HOME/.bilayer/slurm-$SLURM_JOB_ID
(umask 077 && mkdir -p "$private" && python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$private/token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$private/token RAY_USAGE_STATS_ENABLED=0
export RAY_ADDRESS=$head:$port
temporary=/tmp/ray-$SLURM_JOB_ID

steps=()
finish() {
    for step in "${steps[@]}"; do kill "$step" 2> /dev/null || true; done
    wait "${steps[@]}" 2> /dev/null || true
    rm -rf "$private"
}
trap finish EXIT

env -u RAY_ADDRESS srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --block --port="$port" --include-dashboard=false \
    --temp-dir="$temporary" --num-cpus="${SLURM_CPUS_ON_NODE:-1}" &
steps+=("$!")
for node in "${nodes[@]:1}"; do
    srun --overlap --nodes=1 --ntasks=1 --nodelist="$node" \
        ray start --block --address="$RAY_ADDRESS" --num-cpus="${SLURM_CPUS_ON_NODE:-1}" &
    steps+=("$!")
done

# Ray itself would go on without the nodes that are late.
python - "${#nodes[@]}" <<'PYTHON'
import os, sys, time
import ray

wanted, deadline = int(sys.argv[1]), time.monotonic() + 600
while True:
    try:
        ray.init(address=os.environ["RAY_ADDRESS"], log_to_driver=False)
        there = sum(node["Alive"] for node in ray.nodes())
        ray.shutdown()
    except ConnectionError:
        there = 0
    if there >= wanted:
        break
    if time.monotonic() > deadline:
        sys.exit(f"only {there} of {wanted} nodes have joined Ray in ten minutes")
    time.sleep(5)
PYTHON

if [[ -d $RUN/journal ]]; then
    python -m campaign resume "$RUN" &
else
    python -m campaign run "$CONFIG" --out "$RUN" &
fi
campaign=$!

out_of_time=false
trap 'out_of_time=true; python -m campaign stop "$RUN"' USR1

code=0
wait "$campaign" || code=$?
while kill -0 "$campaign" 2> /dev/null; do # the signal ended the first wait
    code=0
    wait "$campaign" || code=$?
done

if $out_of_time && [[ $code -eq 0 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
