"""guided_schemas.py PROGRAM: what the guided plugin generates under random schemas, judged by the
jsonschema package. PROGRAM (guided_schema_lines) prints the schemas and the outputs."""
import json
import subprocess
import sys

try:
    from jsonschema import Draft202012Validator
except ImportError:
    print("skipped: the Python package jsonschema is not installed")
    sys.exit(77)

SCHEMAS = 1000
lines = subprocess.run([sys.argv[1], str(SCHEMAS)], check=True, capture_output=True,
                       encoding="utf-8").stdout.rstrip("\n").split("\n")
outputs = refused = 0
problems = []
for line in map(json.loads, lines):
    if "refused" in line:
        refused += 1
        continue
    validator = Draft202012Validator(line["schema"],
                                     format_checker=Draft202012Validator.FORMAT_CHECKER)
    for text in line["outputs"]:
        outputs += 1
        try:
            error = next(validator.iter_errors(json.loads(text)), None)
        except ValueError as e:
            error = e
        if error is not None:
            problems.append(f"{error}\n  output: {text}\n  schema: {json.dumps(line['schema'])}")
print(f"{outputs} outputs under {len(lines)} schemas, {refused} of them refused; "
      f"{len(problems)} outputs are not valid")
print("\n".join(problems[:10]))
sys.exit(bool(problems) or len(lines) != SCHEMAS or refused > SCHEMAS // 10)
