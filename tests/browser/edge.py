"""The real binary with a configuration, backends in this process, and clients that keep it busy."""

import contextlib
import http.client
import http.server
import json
import os
import queue
import random
import subprocess
import tempfile
import threading
import time

TOKEN = "a-token-for-the-tests-of-the-page"


class Backend(http.server.ThreadingHTTPServer):
    """Answers everything with 200 after a few milliseconds; unwell, its health checks fail."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, milliseconds=6):
        self.milliseconds, self.well = milliseconds, True
        super().__init__(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        check = self.path == "/health"
        if not check:
            time.sleep(self.server.milliseconds * random.uniform(0.6, 2.2) / 1000)
        body = b"ok\n"
        self.send_response(200 if self.server.well or not check else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Edge:
    """A running Weir."""

    def __init__(self, binary, configuration):
        self.directory = tempfile.TemporaryDirectory()
        file = os.path.join(self.directory.name, "weir.yaml")
        with open(file, "w", encoding="utf-8") as written:
            written.write(configuration)
        self.process = subprocess.Popen([binary, "run", "-c", file], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        seen = []
        while True:
            try:
                seen.append(self.lines.get(timeout=60))
            except queue.Empty:
                raise AssertionError("Weir did not start:\n" + "".join(seen)) from None
            if '"admin":"' in seen[-1]:
                ready = json.loads(seen[-1])
                self.admin, self.web = f"http://{ready['admin']}/", ready["listeners"]["web"][0]
                return

    def read(self):
        for line in self.process.stderr:
            self.lines.put(line)

    def read_api(self, path):
        connection = http.client.HTTPConnection(self.admin[7:-1], timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/api/v1/" + path, headers={"Authorization": f"Bearer {TOKEN}"})
            return json.load(connection.getresponse())

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self.process.stderr.close()
        self.directory.cleanup()


class Clients:
    """Threads that ask for `(weight, host, path)` until they are stopped."""

    def __init__(self, address, requests, threads=10, pause=0.05):
        self.going, self.address, self.requests, self.pause = True, address, requests, pause
        self.threads = [threading.Thread(target=self.run, daemon=True) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def run(self):
        connection = http.client.HTTPConnection(self.address, timeout=30)
        weights = [weight for weight, _, _ in self.requests]
        while self.going:
            _, host, path = random.choices(self.requests, weights)[0]
            try:
                connection.request("GET", path, headers={"Host": host})
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
            time.sleep(random.uniform(0.5, 1.5) * self.pause)
        connection.close()

    def stop(self):
        self.going = False
        for thread in self.threads:
            thread.join()
