#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ch03_ddp_train on two nodes of eight devices, by PyTorch's own launcher. Type
# it on each node, with another NODE_RANK:
#
#   NODE_RANK=0 MASTER_ADDR=node-a ch03_ddp/launch/torchrun_node8x2.sh
#
# Other sizes: NNODES, NPROC (ranks a node), PRESET. Options of the app follow.
set -euo pipefail
top=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
export NNODES=${NNODES:-2} NPROC=${NPROC:-8}
exec "$top/scripts/launch_torchrun.sh" ch03_ddp_train \
  --preset "${PRESET:-node8x2}" "$@"
