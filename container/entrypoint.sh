#!/bin/sh
# What a container does: head [OPTIONS], worker ADDRESS [OPTIONS], job [ARGUMENTS], or the arguments of zip-ray.
# A shell's own command line (Kubernetes gives one) runs as it is: sh, bash, /bin/..., python, ray.
set -eu
case "${1:-}" in
head)
  shift
  exec ray start --head --port=6379 --dashboard-host=0.0.0.0 --block "$@"
  ;;
worker)
  if [ -z "${2:-}" ]; then
    echo "error: worker: no address: give that of the head, such as zip-ray-head:6379" >&2
    exit 2
  fi
  address="$2"
  shift 2
  exec ray start --address="$address" --block "$@"
  ;;
job)
  shift
  exec ray job submit "$@"
  ;;
sh | bash | /bin/* | python | ray) exec "$@" ;;
*) exec zip-ray "$@" ;;
esac
