#!/usr/bin/env bash
# tests/fuzz/run.sh BUILD_FOLDER SECONDS JOBS [TARGET...]
#
# Builds the fuzz targets with clang and runs each for that many seconds, beginning with small good
# files and with what earlier runs found worth keeping. A finding ends it: the input that did it is
# kept in BUILD_FOLDER/findings, and the last lines say how to run it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$1 seconds=$2 jobs=$3
shift 3
targets=("$@")
((${#targets[@]})) || targets=(pipeline gguf safetensors tokenizer chat_template)

clang=$(command -v clang++-14 || command -v clang++ || true)
[ -n "$clang" ] || { echo "fuzz: clang is needed; run: apt-get install clang-14" >&2; exit 1; }
[ -e "$build/build.ninja" ] || cmake -S . -B "$build" -G Ninja -DCMAKE_CXX_COMPILER="$clang" \
  -DCMAKE_C_COMPILER="${clang/++/}" -DENGINE_SANITIZE=fuzzer -DENGINE_WITH_TORCH=OFF \
  "-DENGINE_PARTS=abi;graph;model"
cmake --build "$build" -j "$jobs" --target fuzz_targets
python3 tests/fuzz/seeds.py "$build/seeds"
mkdir -p "$build/findings"

for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  echo
  echo "--- fuzzing $target for $seconds s: $(sed -n '1s,^// ,,p' tests/fuzz/"$target"_fuzz.cc)"
  "$build/fuzz/${target}_fuzz" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -max_len=65536 -print_final_stats=1 -verbosity=1 \
    -artifact_prefix="$build/findings/$target-" "$build/corpus/$target" "$build/seeds/$target" \
    >"$build/$target.log" 2>&1 || {
    tail -40 "$build/$target.log"
    echo "fuzz: $target failed; run it again with: $build/fuzz/${target}_fuzz $build/findings/$target-..."
    exit 1
  }
  grep -E 'number_of_executed_units|new_units_added|peak_rss_mb' "$build/$target.log" |
    sed 's/^stat::/    /'
done
echo
echo "fuzzed, without a finding: ${targets[*]}"
