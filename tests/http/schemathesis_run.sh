#!/usr/bin/env bash
# schemathesis_run.sh ENGINE SOURCE_DIR [ARGUMENTS...]: schemathesis, on the description that the server
# gives of itself: what follows it is answered as it says, what does not is refused, and no status is
# given but those documented. Exits with 77 where schemathesis is not installed.
set -uo pipefail
engine=$1
source=$2
shift 2
command -v schemathesis >/dev/null || exit 77
log=$(mktemp)
cd "$source" || exit 1
# A pool that has no room for long answers: it is the requests that are looked at.
GOMP_SPINCOUNT=1000 "$engine" run pipelines/serve.pbtxt --set port=0 --set max_tokens=8 \
  --set kv_budget=16MiB 2>"$log" &
server=$!
trap 'kill -9 "$server" 2>/dev/null; rm -f "$log"' EXIT
for _ in $(seq 600); do
  url=$(sed -n 's/^listening on //p' "$log")
  [ -n "$url" ] && break
  kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
if [ -z "$url" ]; then
  cat "$log" >&2
  exit 1
fi
schemathesis run "$url/openapi.json" --url "$url" --seed 1 --phases coverage,fuzzing \
  --max-examples 20 --max-time 120 \
  --checks status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method \
  --exclude-path /v1/embeddings --request-timeout 60 "$@"
code=$?
if ! kill -0 "$server" 2>/dev/null; then
  echo 'the server ended' >&2
  exit 1
fi
exit "$code"
