#!/usr/bin/env bash
#SBATCH --job-name=humansim
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#
# A sweep on the nodes of a Slurm job: Ray on all of them, the driver on the first. Before the time is up the sweep
# stops and the job queues itself again: it goes on where it was. From the project's folder, after `uv sync`, both on a
# file system that all nodes see:
#
#   sbatch clusters/slurm.sh sweep full --root /scratch/me/humansim
set -euo pipefail

export PATH="$PWD/.venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # srun no longer takes it from sbatch
head_ip=$(hostname -I | awk '{print $1}') # this script runs on the job's first node
# Others may be on these machines: a port and a folder of our own, and a secret that Ray asks for.
export RAY_ADDRESS="$head_ip:$((20000 + SLURM_JOB_ID % 10000))" RAY_TMP="/tmp/ray-$SLURM_JOB_ID"
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token

# shellcheck disable=SC2016 # expanded on each node
srun bash -c '
    options=(--num-cpus "$SLURM_CPUS_PER_TASK" --block)
    if [ "$SLURM_PROCID" = 0 ]; then
        exec ray start --head --node-ip-address "${RAY_ADDRESS%:*}" --port "${RAY_ADDRESS#*:}" \
            --include-dashboard false --temp-dir "$RAY_TMP" "${options[@]}"
    fi
    until ray start --address "$RAY_ADDRESS" "${options[@]}"; do sleep 5; done # the head may not be up yet
' > "ray-$SLURM_JOB_ID.log" 2>&1 &

until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do sleep 2; done
timeout 600 python -c '
import os, time, ray
ray.init(os.environ["RAY_ADDRESS"], log_to_driver=False)
while len(ray.nodes()) < int(os.environ["SLURM_JOB_NUM_NODES"]):
    time.sleep(2)
' > /dev/null 2>&1

set -m # else what runs in the background would not hear Ctrl-C; and on SIGTERM Ray ends a driver at once
humansim "$@" &
driver=$!
trap 'kill -INT $driver; wait $driver || true; scontrol requeue "$SLURM_JOB_ID"' USR1
wait $driver
