"""The admin API held against its own OpenAPI document: what it answers to what is right, and to what is wrong.

`run.py WEIR SCHEMATHESIS`. Bounded to about a minute.
"""

import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "browser"))

from edge import TOKEN, Backend, Edge  # noqa: E402

backend = Backend()
edge = Edge(sys.argv[1], f"""
admin: {{address: "127.0.0.1:0", token: "{TOKEN}"}}
observability: {{access_log: {{path: "off"}}}}
listeners: {{web: {{address: "127.0.0.1:0"}}}}
routes: [{{name: app, upstream: app}}]
upstreams: {{app: {{endpoints: ["{backend.address}"]}}}}
""")
try:
    code = subprocess.run([
        os.path.abspath(sys.argv[2]), "--config-file", os.path.join(HERE, "schemathesis.toml"), "run", edge.admin + "api/v1/openapi.json",
        "--header", f"Authorization: Bearer {TOKEN}",
        # The stream never ends, a drain ends the process and an upgrade replaces it: all are tested elsewhere.
        "--exclude-operation-id", "events", "--exclude-operation-id", "drain", "--exclude-operation-id", "upgrade",
        "--phases", "examples,coverage,fuzzing", "--max-examples", "40", "--max-time", "60", "--seed", "1",
        "--request-timeout", "20", "--continue-on-failure", "--no-shrink",
    # It keeps what it found where it runs.
    ], cwd=edge.directory.name, check=False).returncode
    if edge.process.poll() is not None:
        sys.exit("weir ended while it was asked")
    overview = edge.read_api("overview")
    assert overview["verdict"]["state"] in ("ok", "degraded", "down"), overview
finally:
    edge.stop()
sys.exit(code)
