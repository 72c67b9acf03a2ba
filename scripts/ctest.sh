#!/usr/bin/env bash
# scripts/ctest.sh BUILD_FOLDER [CTEST_ARGUMENTS...]
#
# Runs ctest and ends with one plain line, "N passed, N failed", alone on its line; the exit code is
# ctest's. That no test was found counts as a failure.
set -uo pipefail
# Tests run beside each other: a team of threads that waits spinning would take their cores.
export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}
folder=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
ctest --test-dir "$folder" --output-on-failure --no-tests=error "$@" 2>&1 | tee "$log"
code=${PIPESTATUS[0]}
# ctest's own summary: "90% tests passed, 1 tests failed out of 10"
summary=$(grep -E '^[0-9]+% tests passed, [0-9]+ tests failed out of [0-9]+$' "$log" | tail -1)
read -r failed total <<<"$(sed -E 's/.*passed, ([0-9]+) tests failed out of ([0-9]+)$/\1 \2/' <<<"${summary:-x passed, 0 tests failed out of 0}")"
echo
echo "$((total - failed)) passed, $failed failed"
exit "$code"
