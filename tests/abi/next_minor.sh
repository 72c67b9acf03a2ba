#!/usr/bin/env bash
# tests/abi/next_minor.sh BUILD_FOLDER
#
# Rehearses the next minor release: a host whose every struct has grown at the tail is built (its
# parts without LibTorch, with the thread tags checked), runs its own tests, and runs the stored plugins of earlier releases.
set -euo pipefail
sources=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "$1" && pwd)/next_minor_host
cmake -S "$sources" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DENGINE_WITH_TORCH=OFF \
  -DENGINE_ABI_NEXT_MINOR=ON \
  >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
cmake --build "$build" -j "${JOBS:-2}" --target replay_test runtime_test abi_layout_test \
  >>"$build.log" 2>&1 || { tail -40 "$build.log" >&2; exit 1; }
for test in abi_layout_test replay_test runtime_test; do
  (cd "$sources" && "$build/tests/$test" --gtest_brief=1)
done
