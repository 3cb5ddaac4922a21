"""Runs every curl example of docs/admin.md against an edge. `examples.py WEIR`."""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "tests/browser"))

from edge import TOKEN, Edge  # noqa: E402

CONFIGURATION = f"""
admin: {{address: "127.0.0.1:0", token: "{TOKEN}"}}
observability: {{access_log: {{path: "off"}}}}
listeners: {{web: {{address: "127.0.0.1:0"}}}}
routes: [{{name: api, upstream: api}}]
upstreams: {{api: {{endpoints: ["10.0.0.11:8080", "10.0.0.12:8080"]}}}}
"""

with open(os.path.join(ROOT, "docs/admin.md"), encoding="utf-8") as page:
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read(), re.M | re.S)
examples = [line for block in blocks for line in block.splitlines() if line.startswith("curl ")]
assert len(examples) > 10, "the examples were not found"

edge = Edge(sys.argv[1], CONFIGURATION)
failed = []
try:
    for example in examples:
        command = 'curl() { command curl -sS --fail-with-body --max-time "${PATIENCE:-20}" "$@"; }\n' + example
        endless = " -N " in example
        environment = {**os.environ, "WEIR": edge.admin.rstrip("/"), "WEIR_ADMIN_TOKEN": TOKEN, "PATIENCE": "3" if endless else "20"}
        done = subprocess.run(["sh", "-c", command], cwd=edge.directory.name, env=environment, capture_output=True, text=True, check=False)
        # 28: the time is over, which is how a stream ends here.
        fine = done.returncode == (28 if endless else 0) and done.stdout
        print("ok  " if fine else "FAIL", example[:110])
        if not fine:
            failed.append(f"{example}\n  {done.returncode} {done.stdout[:500]} {done.stderr[:300]}")
finally:
    edge.stop()
if failed:
    sys.exit("these examples of docs/admin.md do not work:\n" + "\n".join(failed))
