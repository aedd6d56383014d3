#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Open MPI, on one node or on several that it reaches by ssh. Typed once:
#
#   HOSTS=node-a:8,node-b:8 scripts/launch_mpirun.sh ch01_first_distributed
#
# With `--backend mpi` at the end MPI also carries the tensors; without it Gloo
# or NCCL does, and mpirun only starts the ranks.
# IFNAME: the network interface to take (ip -br addr).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
(($#)) || {
  echo "usage: [HOSTS=a:8,b:8 | NPROC=2] scripts/launch_mpirun.sh" \
    "APP [OPTIONS]" >&2
  exit 2
}
app=$1
shift
if [[ -n ${HOSTS:-} ]]; then
  first=${HOSTS%%,*}
  where=(--host "$HOSTS" -x "MASTER_ADDR=${MASTER_ADDR:-${first%%:*}}"
    -x "MASTER_PORT=${MASTER_PORT:-29500}")
else
  where=(-n "${NPROC:-2}")
fi
if [[ -n ${IFNAME:-} ]]; then
  where+=(--mca btl_tcp_if_include "$IFNAME" -x "NCCL_SOCKET_IFNAME=$IFNAME"
    -x "GLOO_SOCKET_IFNAME=$IFNAME")
fi
((EUID)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
set -x
exec mpirun "${where[@]}" -x OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" \
  "build/${DAI_PRESET:-cpu}/bin/$app" "$@"
