#!/usr/bin/env bash
# tests/install/plugins.sh BUILD_FOLDER
#
# The plugins that ship keep the promises of the SDK: one exported symbol, the tier that was
# decided for each, nothing linked that the host must bring.
set -euo pipefail
build=$1
imports=$(cd "$(dirname "$0")/../abi" && pwd)/stable_imports.txt
declare -A tiers=([text]=NONE [kv_cache]=STABLE [int8]=STABLE [lora]=STABLE [checkpoint]=STABLE [batcher]=NONE [speculate]=NONE [traffic]=NONE
                  [trainer]=STABLE [trainable]=STABLE [precision]=STABLE [data]=NONE [guided]=NONE [http_api]=NONE)
failures=0
complain() { echo "FAILED: $*" >&2; failures=$((failures + 1)); }

# No folder but the build's own may answer.
list=$(env -u ENGINE_PLUGIN_PATH "$build/bin/engine" plugin list --why)
for name in "${!tiers[@]}"; do
  [ -e "$build/lib/engine/plugins/$name.so" ] || complain "$name.so is not there"
  grep -qE "^engine\.$name +[0-9]+\.[0-9]+\.[0-9]+ +${tiers[$name]} " <<<"$list" ||
    complain "engine.$name is not listed with tier ${tiers[$name]}"
done
grep -A5 "refused" <<<"$list" && complain "a shipped plugin was refused"

for plugin in "$build"/lib/engine/plugins/*.so; do
  name=$(basename "$plugin" .so)
  [ -n "${tiers[$name]:-}" ] || complain "$name ships, but no tier was decided for it in this test"
  symbols=$(nm -D --defined-only "$plugin" | awk '{print $NF}')
  [ "$symbols" = engine_plugin_v1 ] || complain "$name.so exports: $symbols"
  linked=$(readelf -d "$plugin" | grep -E 'NEEDED.*lib(protobuf|protoc|torch|c10)|RUNPATH|RPATH' || true)
  [ -z "$linked" ] || complain "$name.so must not link or search: $linked"
  # What is asked of LibTorch is its stable ABI as far as the SDK needs it, and no more: each line
  # of the list is a promise that later releases of LibTorch must keep for stored plugins.
  asked=$(nm -D --undefined-only "$plugin" | awk '{print $2}' |
    grep -E '^(torch_|aoti_)|^_ZNK?(2at|3c10|5torch)' | sort -u || true)
  [ "${tiers[$name]:-}" != NONE ] || [ -z "$asked" ] || complain "$name.so, of tier NONE, asks for $asked"
  more=$(comm -23 <(echo "$asked") "$imports" | tr '\n' ' ')
  [ -z "${more// /}" ] || complain "$name.so asks LibTorch for more than tests/abi/stable_imports.txt: $more"
done
[ "$failures" = 0 ] || { echo "$list" >&2; exit 1; }
echo "${#tiers[@]} plugins keep the rules"
