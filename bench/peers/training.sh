#!/usr/bin/env bash
# Training steps and rollouts of Fathom and of PyTorch, turn by turn; prints medians and ratios.
#
#   bench/peers/training.sh DIR [ROUNDS]
#
# DIR is what bench/peers/setup.sh made. FATHOM names the binary (default: target/release/fathom),
# PRELOAD an allocator for PyTorch to try beside glibc's tuned malloc (libjemalloc.so.2, …), THREADS
# the threads of both (default: one per core). PyTorch runs at every setting of the list below in the first
# round, then at the two best of each row.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 DIR [ROUNDS]" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
exec "$1/bin/python" "$here/training.py" --rounds "${2:-3}" \
  --fathom "${FATHOM:-$here/../../target/release/fathom}" \
  --threads "${THREADS:-$(nproc)}" ${PRELOAD:+--preload "$PRELOAD"}
