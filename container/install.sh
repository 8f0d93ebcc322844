#!/bin/sh
# Install the project of the current folder: install.sh gpu, or install.sh cpu INDEX.
# For a CPU, torch and torchvision come first, from the index of CPU-only packages, in the versions of constraints.txt.
set -eu
device="$1"
index="${2:-}"
case "$device" in
gpu) ;;
cpu)
  if [ -z "$index" ]; then
    echo "error: TORCH_CPU_INDEX is empty: with DEVICE=cpu give PyTorch's index of CPU-only packages" >&2
    exit 2
  fi
  grep -E '^(torch|torchvision)==' constraints.txt >/tmp/torch.txt
  pip install --no-cache-dir --index-url "$index" -r /tmp/torch.txt
  rm /tmp/torch.txt
  ;;
*)
  echo "error: DEVICE is '$device': give cpu or gpu" >&2
  exit 2
  ;;
esac
pip install --no-cache-dir -c constraints.txt -e .
