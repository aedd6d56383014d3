#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PyTorch's own launcher, on one node or on each of several. Type it on every
# node, with another NODE_RANK:
#
#   NNODES=2 NODE_RANK=0 MASTER_ADDR=node-a NPROC=8 \
#     scripts/launch_torchrun.sh ch01_first_distributed --smoke
#
# IFNAME: the network interface that NCCL and Gloo shall take (ip -br addr).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
(($#)) || {
  echo "usage: [NNODES=2 NODE_RANK=0 MASTER_ADDR=HOST] [NPROC=8]" \
    "scripts/launch_torchrun.sh APP [OPTIONS]" >&2
  exit 2
}
app=$1
shift
nnodes=${NNODES:-1}
if ((nnodes > 1)); then
  : "${MASTER_ADDR:?the host of node 0, as all nodes can reach it}"
  : "${NODE_RANK:?0 on the first node, 1 on the second}"
  where=(--nnodes "$nnodes" --node-rank "$NODE_RANK"
    --master-addr "$MASTER_ADDR" --master-port "${MASTER_PORT:-29500}")
else
  where=(--standalone)
fi
if [[ -n ${IFNAME:-} ]]; then
  export NCCL_SOCKET_IFNAME=$IFNAME GLOO_SOCKET_IFNAME=$IFNAME
fi
set -x
exec .deps/venv/bin/torchrun --no-python "${where[@]}" \
  --nproc-per-node "${NPROC:-2}" "build/${DAI_PRESET:-cpu}/bin/$app" "$@"
