#!/usr/bin/env bash
# Installs what some tests and benchmarks want of Debian and Python's packages do not bring:
#   redis-server  a peer that `make bench` measures beside Evenflow
#   nats-server   another
#   iproute2      `ip`, for test hosts in network namespaces
#   bubblewrap    whose cold starts `make bench` measures beside Evenflow's
#   gcc           a C compiler and its headers, for the recorder of `make crash`
#   cmake, g++    and make and xz, where Node.js is: AWS's runtime client for it is compiled when it is installed
# It never fails: what needs a program that is missing here skips and says so.
set -uo pipefail

wanted=()
command -v redis-server >/dev/null || wanted+=(redis-server)
command -v nats-server >/dev/null || wanted+=(nats-server)
command -v ip >/dev/null || wanted+=(iproute2)
command -v bwrap >/dev/null || wanted+=(bubblewrap)
command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || wanted+=(gcc libc6-dev)
if command -v node >/dev/null; then
  for program in cmake make g++; do
    command -v $program >/dev/null || wanted+=($program)
  done
  command -v xz >/dev/null || wanted+=(xz-utils)
fi
[ ${#wanted[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "debian-packages: not here, and only root with apt-get can install them: ${wanted[*]}"
  exit 0
fi

# Runlevel 1 keeps the package from starting a server of its own: tests start theirs on a port of their own.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
if timeout 300 apt-get -qq update && timeout 300 apt-get -qq install -y --no-install-recommends "${wanted[@]}" >/dev/null; then
  echo "debian-packages: installed ${wanted[*]}"
else
  echo "debian-packages: could not install ${wanted[*]}; going on without"
fi </dev/null
exit 0
