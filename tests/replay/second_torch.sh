#!/usr/bin/env bash
# tests/replay/second_torch.sh BUILD_FOLDER SECOND_BUILD_FOLDER
#
# Plugins of the STABLE tier that were built for one LibTorch, on a host with a later one: the stored
# ones and those of BUILD_FOLDER, as they are. Gradients are compared by the tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
first=$1 second=$2
export LIBTORCH=$PWD/.deps/second-torch/torch
test -e "$second/build.ninja" || cmake -S . -B "$second" -G Ninja
cmake --build "$second" -j "${JOBS:-2}" --target stable_replay_test lora_test checkpoint_test
rm -rf "$second/lib/engine/plugins"
cp -r "$first/lib/engine/plugins" "$second/lib/engine/plugins"
echo "LibTorch of the host:"
sed -n "s/^__version__ = /  /p" "$LIBTORCH/version.py"
for test in stable_replay_test lora_test checkpoint_test; do
  GOMP_SPINCOUNT=1000 "$second/tests/$test" --gtest_brief=1
done
