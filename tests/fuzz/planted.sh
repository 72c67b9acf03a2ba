#!/usr/bin/env bash
# tests/fuzz/planted.sh BUILD_FOLDER JOBS [TARGET...]
#
# Would the fuzzers see a bug? Each reader is built once more with one check left out (see
# CMakeLists.txt); beginning with the committed corpus, its target must find that within a minute,
# and must find nothing in the reader as it is.
set -euo pipefail
source "$(dirname "$0")/common.sh"
build=$1 jobs=$2
shift 2
targets=("$@")
((${#targets[@]})) || targets=("${planted_targets[@]}")
build "$build" fuzzer "$jobs" fuzz_targets
build "$build" fuzzer "$jobs" planted_targets
missed=()
for target in "${targets[@]}"; do
  "$build/fuzz/${target}_fuzz" -runs=0 "${limits[@]}" "$committed/$target" \
    >"$build/$target.corpus.log" 2>&1 ||
    { tail -20 "$build/$target.corpus.log"; echo "planted: $target fails on its corpus"; exit 1; }
  work=$(mktemp -d)
  begin=$(date +%s.%N)
  if "$build/planted/${target}_fuzz" -max_total_time=60 "${limits[@]}" \
    -artifact_prefix="$work/" "$work" "$committed/$target" >"$build/$target.planted.log" 2>&1; then
    missed+=("$target")
    echo "$target: the planted bug was not found"
  else
    end=$(date +%s.%N)
    found=$(grep -m1 -E '^SUMMARY|ERROR:' "$build/$target.planted.log" | cut -c1-90 || true)
    printf '%s: found after %.1f s, %s\n' "$target" "$(echo "$end - $begin" | bc)" "$found"
  fi
  rm -rf "$work"
done
((${#missed[@]} == 0)) || { echo "planted: not found: ${missed[*]}" >&2; exit 1; }
