#!/bin/bash
# cargo.sh ARGUMENTS…: cargo, with what the worker's cuda feature is built with. No GPU is needed to build.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CUDA_HOME=$("$here/../install.sh" cuda | sed -n 's/^cuda=//p')
export CUDA_HOME
# cudarc would look there too.
unset CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR CUDNN_LIB
export CUDARC_CUDA_VERSION=13000
# Ampere's PTX, which later GPUs run too. From 90 on, candle would ask for PTX that runs on that GPU alone.
export CUDA_COMPUTE_CAP=80
export NVCC=$CUDA_HOME/candle/nvcc
# For what is run here: tests and benchmarks.
export LD_LIBRARY_PATH=$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "${CARGO:-cargo}" "$@"
