# zip-ray in a container, for CPU or GPU, with the versions of constraints.txt:
#   docker build -t zip-ray .                            for GPUs: torch with its CUDA libraries
#   docker build -t zip-ray --build-arg DEVICE=cpu .     without them
#   docker run zip-ray head | worker HEAD:6379 | job JOB_ARGUMENTS | ZIP_RAY_ARGUMENTS
# See configs/cluster/rayjob.yaml for Kubernetes.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim

ARG DEVICE=gpu
# PyTorch's index of CPU-only packages: its install page names it. Needed with DEVICE=cpu only.
ARG TORCH_CPU_INDEX=

WORKDIR /zip-ray
COPY pyproject.toml constraints.txt README.md LICENSE NOTICES.md run.py ./
COPY actors actors
COPY configs configs
COPY zip_ray zip_ray
COPY container/install.sh container/entrypoint.sh /usr/local/bin/
RUN sh /usr/local/bin/install.sh "$DEVICE" "$TORCH_CPU_INDEX"

# A user of any number, without a home or a name of its own (getpass reads LOGNAME, and fails without one): what is
# written goes to /runs or to the temporary folder.
ENV HOME=/tmp LOGNAME=zip-ray MPLCONFIGDIR=/tmp/matplotlib PYTHONDONTWRITEBYTECODE=1
RUN mkdir -m 1777 /runs
WORKDIR /runs
USER 10001:10001
EXPOSE 6379 8265
ENTRYPOINT ["sh", "/usr/local/bin/entrypoint.sh"]
CMD ["--help"]
