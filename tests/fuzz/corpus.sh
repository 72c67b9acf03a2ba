#!/usr/bin/env bash
# tests/fuzz/corpus.sh BUILD_FOLDER JOBS [TARGET...]
#
# Writes the committed corpora anew: of the seeds, of what is committed and of what runs have kept
# in BUILD_FOLDER, as few small inputs as take every edge that these take.
set -euo pipefail
source "$(dirname "$0")/common.sh"
build=$1 jobs=$2
shift 2
targets=("$@")
((${#targets[@]})) || targets=("${all_targets[@]}")
build "$build" fuzzer "$jobs" fuzz_targets

for target in "${targets[@]}"; do
  # Longer ones add little to a corpus and much to a repository.
  most=4096
  case $target in
    pipeline | gguf) most=8192 ;;
    tokenizer) most=2048 ;;
  esac
  merged=$(mktemp -d)
  # Copies: a fuzzer that runs beside this takes inputs away that it has found a shorter one for.
  copies=$(mktemp -d)
  for folder in "$build/seeds/$target" "$committed/$target" "$build/corpus/$target"; do
    [ -d "$folder" ] && { cp -r "$folder/." "$copies" 2>/dev/null || true; }
  done
  "$build/fuzz/${target}_fuzz" -merge=1 -use_counters=0 "${limits[@]:0:2}" -max_len=$most "$merged" \
    "$copies" >"$build/$target.merge.log" 2>&1 ||
    { tail -20 "$build/$target.merge.log"; exit 1; }
  rm -rf "${committed:?}/$target"
  mkdir -p "$committed/$target"
  cp "$merged"/* "$committed/$target/"
  rm -rf "$merged" "$copies"
  echo "$target: $(find "$committed/$target" -type f | wc -l) inputs," \
    "$(du -sb "$committed/$target" | cut -f1) bytes"
done
