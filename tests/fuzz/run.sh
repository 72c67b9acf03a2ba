#!/usr/bin/env bash
# tests/fuzz/run.sh BUILD_FOLDER SECONDS JOBS [TARGET...]
#
# Builds the fuzz targets with clang and runs each for that many seconds, beginning with the
# committed corpus, with small good files and with what earlier runs found worth keeping. A finding
# ends it: the input that did it is kept in BUILD_FOLDER/findings, and the last lines say how to run
# it again.
set -euo pipefail
source "$(dirname "$0")/common.sh"
build=$1 seconds=$2 jobs=$3
shift 3
targets=("$@")
((${#targets[@]})) || targets=("${all_targets[@]}")
build "$build" fuzzer "$jobs" fuzz_targets
mkdir -p "$build/findings"

for target in "${targets[@]}"; do
  mkdir -p "$build/corpus/$target"
  echo
  echo "--- fuzzing $target for $seconds s: $(sed -n '1s,^// ,,p' tests/fuzz/"$target"_fuzz.cc)"
  folders=("$build/corpus/$target" "$build/seeds/$target")
  [ -d "$committed/$target" ] && folders+=("$committed/$target")
  "$build/fuzz/${target}_fuzz" -max_total_time="$seconds" "${limits[@]}" -print_final_stats=1 \
    -verbosity=1 -artifact_prefix="$build/findings/$target-" "${folders[@]}" \
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
