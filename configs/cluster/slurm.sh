#!/usr/bin/env bash
# One run on Slurm: a Ray head on the first node, a worker on each of them, the driver beside the head.
#   sbatch configs/cluster/slurm.sh configs/quickstart.yaml --output.dir "$HOME/runs/first"
# Slurm sends SIGTERM two minutes before the time limit; the run saves its state. Continue it with
#   sbatch configs/cluster/slurm.sh resume "$HOME/runs/first"
#SBATCH --job-name=zip-ray
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=01:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

PYTHON="${PYTHON:-.venv/bin/python}"
RAY="$(dirname "$PYTHON")/ray"
GPUS="${SLURM_GPUS_ON_NODE:-0}"
CPUS="${SLURM_CPUS_PER_TASK:-1}" # otherwise Ray counts all cores of the node
PORT=$((20000 + SLURM_JOB_ID % 12000))
mapfile -t HOSTS < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
HEAD="${HOSTS[0]}"

# Access needs the token of this job, since other users can reach the same network.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN="$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
export RAY_AUTH_TOKEN

trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
srun --overlap --nodes=1 --ntasks=1 --nodelist="$HEAD" \
  "$RAY" start --head --port="$PORT" --num-cpus=0 --num-gpus=0 --include-dashboard=false --block &
HEAD_STEP=$!
# The head answers before it has started completely; it is ready when it lists itself as a node.
until [[ "$("$RAY" status --address "$HEAD:$PORT" 2>/dev/null)" == *" node_"* ]]; do
  if ((SECONDS > 120)) || ! kill -0 "$HEAD_STEP" 2>/dev/null; then
    echo "error: no Ray head at $HEAD:$PORT after $SECONDS seconds; what it said is above" >&2
    exit 1
  fi
  sleep 1
done
srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --cpus-per-task="$CPUS" \
  "$RAY" start --address="$HEAD:$PORT" --num-cpus="$CPUS" --num-gpus="$GPUS" --block &

if [[ "$1" == resume ]]; then set -- resume "${@:2}"; else set -- tune "$@"; fi
"$PYTHON" run.py "$@" --cluster.address "$HEAD:$PORT" --cluster.actors auto --cluster.gpus-per-actor "$((GPUS > 0))" &
DRIVER=$!
trap 'kill -TERM "$DRIVER"; wait "$DRIVER"' TERM
wait "$DRIVER"
