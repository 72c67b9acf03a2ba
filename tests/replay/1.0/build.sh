#!/usr/bin/env bash
# LIBTORCH=FOLDER tests/replay/1.0/build.sh PREFIX
#
# Built the stored libraries of this folder from an installation of release 1.0 of the SDK. They are
# not built again: that hosts of today load what was built then is what they are for.
set -euo pipefail
prefix=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake -S "$here" -B "$work" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_BUILD_TYPE=MinSizeRel \
  -DCMAKE_CXX_FLAGS="-ffile-prefix-map=$here=. -ffile-prefix-map=$work=. \
-ffile-prefix-map=$(cd "$LIBTORCH" && pwd)=libtorch -ffile-prefix-map=$prefix=sdk"
cmake --build "$work"
for plugin in replay_none replay_stable; do
  strip --strip-unneeded -R .comment -o "$here/$plugin.so" "$work/$plugin.so"
done
