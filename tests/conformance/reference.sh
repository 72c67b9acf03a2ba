#!/usr/bin/env bash
# tests/conformance/reference.sh BUILD_FOLDER SOURCES
#
# docs/reference is what `engine inspect --pages` makes of the shipped plugins.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
env -u ENGINE_PLUGIN_PATH "$1/bin/engine" inspect --pages "$work"
diff -ru "$2/docs/reference" "$work" || { echo "docs/reference is stale: run make reference" >&2; exit 1; }
