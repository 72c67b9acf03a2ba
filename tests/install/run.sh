#!/usr/bin/env bash
# tests/install/run.sh BUILD_FOLDER
#
# The whole road of a third party: installs the build, builds two plugins from the installed SDK
# alone, runs them in the installed engine, and puts a broken file beside them. CXX chooses the
# compiler of the plugins, which need not be that of the engine.
set -euo pipefail
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
sources=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix

fail() { echo "FAILED: $*" >&2; exit 1; }
# expect TEXT WHAT FILE...: each file holds the text.
expect() {
  local text=$1 what=$2 file
  shift 2
  for file; do
    grep -qF -- "$text" "$file" || { cat "$file" >&2; fail "$what: no '$text' there"; }
  done
}

echo "--- install"
cmake --install "$build" --prefix "$prefix" >"$work/install.log"
for file in bin/engine bin/protoc-gen-engine lib/engine/plugins/text.so include/engine/plugin.hpp \
            share/engine/proto/engine/annotations.proto share/engine/pipelines/generate.pbtxt \
            lib/cmake/EngineSDK/EngineSDKConfig.cmake; do
  [ -e "$prefix/$file" ] || fail "the installation has no $file"
done
# LibTorch alone may stay where it is.
grep -rIF -e "$sources" -e "$build" "$prefix" | grep -v '/\.deps/' >"$work/leaks" &&
  fail "installed files name the sources: $(cat "$work/leaks")"

echo "--- build two plugins from the installed SDK"
# Away from the sources and without LIBTORCH: only the installation may answer.
cp -r "$here/plugin" "$work/plugin"
env -u LIBTORCH -u Torch_DIR cmake -S "$work/plugin" -B "$work/acme" \
  -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release >"$work/configure.log" 2>&1 ||
  { cat "$work/configure.log" >&2; fail "configure"; }
cmake --build "$work/acme" >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; fail "build"; }
for plugin in acme_text acme_gain; do
  symbols=$(nm -D --defined-only "$work/acme/$plugin.so")
  [[ $symbols =~ ^[0-9a-f]+\ D\ engine_plugin_v1$ ]] || fail "$plugin.so exports: $symbols"
done

engine=$prefix/bin/engine
export ENGINE_PLUGIN_PATH=$work/acme ENGINE_MODELS=$sources/models
cd "$work"

echo "--- the NONE tier: text through a node"
"$engine" run "$here/upper.pbtxt" "hello, World" >out 2>err || { cat err >&2; fail "run"; }
[ "$(cat out)" = "> HELLO, WORLD HELLO, WORLD" ] || fail "upper printed '$(cat out)'"
"$engine" run "$here/upper.pbtxt" "hello, World" --set loud.upper.letters=FIRST \
  --set loud.upper.times=1 >out 2>err || { cat err >&2; fail "run with an option"; }
[ "$(cat out)" = "> Hello, World" ] || fail "upper with letters=FIRST printed '$(cat out)'"
if "$engine" run "$here/upper.pbtxt" x --set loud.upper.times=101 >out 2>err; then
  fail "times=101 is above the maximum, and was taken"
fi
expect "100" "the refusal of times=101" err
"$engine" inspect upper.times >out
expect "How often to say it." "the manual of upper.times" out
"$engine" plugin list >out
expect "com.acme.text" "plugin list" out
expect "com.acme.gain" "plugin list" out

echo "--- the STABLE tier: a model through a transform"
for factor in 1 4; do
  "$engine" run "$here/gain.pbtxt" --set factor=$factor >gain.$factor 2>err ||
    { cat err >&2; fail "run of gain.pbtxt"; }
done
python3 - gain.1 gain.4 <<'PY' || fail "gain: the factor is not seen in the margins"
import json, sys
plain, loud = (json.load(open(f)) for f in sys.argv[1:])
assert plain["ids"] == loud["ids"] and len(plain["ids"]) == 6, (plain["ids"], loud["ids"])
for a, b in zip(plain["margins"], loud["margins"]):
    assert abs(b - 4 * a) <= 1e-3 * b, (a, b)
print("    the same six tokens, margins times 4:", plain["text"])
PY

echo "--- the worked samples, from where they were installed"
cp -r "$prefix/share/engine/samples" "$work/samples"
wc -l "$work"/samples/*/*.cc | awk '$2 != "total" && $1 >= 150 { print; long = 1 } END { exit long }' ||
  fail "a sample is too long for a tutorial"
env -u LIBTORCH -u Torch_DIR cmake -S "$work/samples" -B "$work/made" \
  -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" >"$work/configure.log" 2>&1 ||
  { cat "$work/configure.log" >&2; fail "configure the samples"; }
cmake --build "$work/made" >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; fail "build the samples"; }
sample() {  # NAME ARGUMENTS...
  local name=$1
  shift
  ENGINE_PLUGIN_PATH=$work/made "$engine" run "$work/samples/$name/$name.pbtxt" "$@" >out 2>err ||
    { cat err >&2; fail "sample $name"; }
}
sample redact "The capital of France is" --set word=Paris
expect " #####." "redact" out
"$engine" run "$prefix/share/engine/pipelines/generate.pbtxt" "What is gravity?" \
  --set max_tokens=16 >plain 2>err || { cat err >&2; fail "generate"; }
sample fused_mlp "What is gravity?"
cmp plain out || fail "fused_mlp: another text"
sample dora "$sources/data/short-answers.jsonl"
expect "step 4 of 4" "dora" err
ENGINE_PLUGIN_PATH=$work/made "$engine" explain "$work/samples/dora/dora.pbtxt" \
  "$sources/data/short-answers.jsonl" >out 2>err || { cat err >&2; fail "explain dora"; }
expect "15 sites" "explain dora: half of the blocks" out

echo "--- a project of each kind and tier, as a stranger begins one"
for what in node:NONE node:STABLE node:NATIVE transform:NONE transform:STABLE transform:NATIVE \
            resource:NONE; do
  kind=${what%:*} tier=${what#*:}
  name=my_${kind}_${tier,,}
  begin=$SECONDS
  "$engine" plugin new "$name" --kind "$kind" --tier "$tier" >out 2>err || { cat err >&2; fail "new $name"; }
  env -u LIBTORCH -u Torch_DIR cmake -S "$name" -B "$name/build" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror" >log 2>&1 ||
    { cat log >&2; fail "configure $name"; }
  cmake --build "$name/build" >log 2>&1 || { cat log >&2; fail "build $name"; }
  ctest --test-dir "$name/build" --output-on-failure >log 2>&1 || { cat log >&2; fail "tests of $name"; }
  ENGINE_PLUGIN_PATH=$work/$name/build "$engine" run "$name/$name.pbtxt" "The capital of France is" \
    >out 2>err || { cat err >&2; fail "run $name"; }
  [ -s out ] || fail "$name printed nothing"
  "$engine" plugin check "$name/build/$name.so" --json >out || { cat out >&2; fail "check $name"; }
  echo "    $name: $((SECONDS - begin)) s from nothing to a run"
done
"$engine" plugin new my_node_none >out 2>err && fail "a folder that holds files was taken"
expect "holds files" "the folder" err
"$engine" plugin new upper >out 2>err && fail "a kind that is there was taken"
expect "com.acme.text" "the kind that is there" err
"$engine" plugin new it --kind transfrom >out 2>err && fail "a kind that is none was taken"
expect 'did you mean "transform"' "the kind that is none" err
"$engine" plugin new it --kind resource --tier STABLE >out 2>err && fail "resource STABLE was taken"
expect "no template" "resource STABLE" err
for bad in 9a A class a__b test; do
  "$engine" plugin new "$bad" >out 2>err && fail "the name $bad was taken"
done
for plugin in acme/acme_text acme/acme_gain made/redact made/dora made/deep_blocks made/fused_mlp; do
  "$engine" plugin check "$work/$plugin.so" >out || { cat out >&2; fail "check $plugin"; }
done

echo "--- a broken file beside them"
mkdir broken
echo "this is not a shared library" >broken/broken.so
export ENGINE_PLUGIN_PATH=$work/broken:$work/acme
"$engine" plugin list --why >out 2>&1
expect "broken.so" "plugin list --why" out
expect "because" "plugin list --why" out
"$engine" run "$here/upper.pbtxt" "still here" >out 2>err || { cat err >&2; fail "run beside it"; }
[ "$(cat out)" = "> STILL HERE STILL HERE" ] || fail "beside a broken file: '$(cat out)'"

echo "all of it works"
