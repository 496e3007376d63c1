# syntax=docker/dockerfile:1.10
# qdsft with its exact versions, for NVIDIA cards with driver 580 or newer (CUDA 13), and for the CPU.
#
#   docker build --tag qdsft .
#   docker run --rm --gpus all qdsft qdsft doctor
#
# torch brings its own CUDA libraries, so the small image without the toolkit does. DeepSpeed's offloading to the CPU
# compiles a kernel with nvcc and wants the toolkit:
#   docker build --build-arg CUDA_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04 --tag qdsft .
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-runtime-ubuntu24.04
FROM ${CUDA_IMAGE}

# A C++ compiler and Python.h: Triton and DeepSpeed build small parts of themselves when they are first used. Ubuntu
# takes old versions of packages away, so pinned ones would end the build one day.
# hadolint ignore=DL3008
RUN --mount=type=cache,target=/var/cache/apt,sharing=locked \
    --mount=type=cache,target=/var/lib/apt/lists,sharing=locked \
    rm --force /etc/apt/apt.conf.d/docker-clean \
    && apt-get update \
    && apt-get install --yes --no-install-recommends g++ git make python3-dev python3-venv

# The slow layer, which only a change of the versions builds anew.
WORKDIR /app
COPY scripts/install.sh scripts/install.sh
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip scripts/install.sh --requirements-only /opt/venv

COPY . .
ARG EXTRAS=deepspeed
RUN --mount=type=cache,target=/root/.cache/pip scripts/install.sh /opt/venv "${EXTRAS}"

# Whoever runs the container may be any user (docker run --user), and may write here and nowhere else.
RUN useradd --create-home --uid 10001 qdsft \
    && install --directory --mode=0777 outputs models /home/qdsft /home/qdsft/.cache /home/qdsft/.cache/huggingface
ENV PATH=/opt/venv/bin:$PATH QDSFT_BIN=/opt/venv/bin HOME=/home/qdsft USER=qdsft PYTHONUNBUFFERED=1
USER 10001

# In the place of the base image's, which greets on standard output.
ENTRYPOINT ["/usr/bin/env"]
CMD ["qdsft", "--help"]
