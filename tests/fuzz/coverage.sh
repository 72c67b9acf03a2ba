#!/usr/bin/env bash
# tests/fuzz/coverage.sh BUILD_FOLDER JOBS [TARGET...]
#
# Which part of each reader the committed corpus takes, by file: lines, regions (what lies between
# two branches), and ways of branches. Fails when a reader's regions are taken to less than 85 %.
# What is missing to all is mostly what answers a failing disk or system call.
set -euo pipefail
source "$(dirname "$0")/common.sh"
build=$1 jobs=$2
shift 2
targets=("$@")
((${#targets[@]})) || targets=("${planted_targets[@]}")
build "$build" coverage "$jobs" fuzz_targets
cov=$(command -v llvm-cov-14 || command -v llvm-cov)
profdata=$(command -v llvm-profdata-14 || command -v llvm-profdata)

formats=engine/model/formats
graph=engine/graph
files() {
  case $1 in
    pipeline) echo $graph/{block,check,check_flow,check_options,check_resources,check_types,check_wiring,expand,fields,outline,params,reader}.cc ;;
    elf) echo engine/abi/elf.cc ;;
    scan_cache) echo engine/abi/{scan_cache,verdict}.cc ;;
    scan_report) echo engine/abi/scanner.cc ;;
    gguf) echo $formats/{gguf,gguf_checkpoint,tokenizer_gguf}.cc ;;
    safetensors) echo $formats/safetensors.cc ;;
    tokenizer) echo $formats/{tokenizer_json,tokenizer,bpe}.cc ;;
    guided) echo plugins/guided/{ast,automaton,emitter,json_forms,json_text,matcher,numbers,pattern,program,schema,schema_containers,schema_places,schema_scalars,tools,utf8_paths}.cc ;;
    chat_template) echo $formats/jinja_{lexer,parser,eval,value,builtins}.cc ;;
  esac
}

low=()
printf '%-14s %-22s %8s %8s %8s\n' target file lines regions branches
for target in "${targets[@]}"; do
  LLVM_PROFILE_FILE="$build/$target.profraw" "$build/fuzz/${target}_fuzz" -runs=0 "${limits[@]}" \
    "$committed/$target" >"$build/$target.log" 2>&1 || { tail -20 "$build/$target.log"; exit 1; }
  "$profdata" merge -sparse "$build/$target.profraw" -o "$build/$target.profdata"
  # shellcheck disable=SC2046
  result=$("$cov" export -summary-only -instr-profile="$build/$target.profdata" \
    "$build/fuzz/${target}_fuzz" $(files "$target") | TARGET=$target python3 -c '
import json, os, sys
data = json.load(sys.stdin)["data"][0]
covered = count = 0
def row(name, s):
    print("%-14s %-22s %7.1f%% %7.1f%% %7.1f%%" % (os.environ["TARGET"], name,
          *(s[k]["percent"] for k in ("lines", "regions", "branches"))))
for file in data["files"]:
    row(os.path.basename(file["filename"]), file["summary"])
    covered += file["summary"]["regions"]["covered"]
    count += file["summary"]["regions"]["count"]
if len(data["files"]) > 1:
    row("all", data["totals"])
print("TOTAL", 100 * covered / count)')
  grep -v ^TOTAL <<<"$result"
  awk '/^TOTAL/ { exit $2 >= 85 }' <<<"$result" && low+=("$target")
done
((${#low[@]} == 0)) || { echo "coverage: below 85 % of regions: ${low[*]}" >&2; exit 1; }
