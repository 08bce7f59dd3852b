"""An object store on 127.0.0.1 for tests: S3 as moto makes it, or Google Cloud Storage.

    python emulator.py s3|gcs BUCKET

prints its port on the first line of stdout, and ends when its stdin does, so that
none outlives the test that started it. Objects are kept in memory. Packages:
ci/object-stores/requirements.txt.
"""

import os
import sys
import threading
from urllib.parse import quote, unquote

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client


class Generations:
    """moto's S3 with what a client of Google's XML API looks for besides.

    Google numbers every version of an object and tells the number in a header; clients
    refuse an answer without it. The rest of what we use (PUT, GET, HEAD, DELETE, lists,
    uploads in parts) is the same in both.
    """

    def __init__(self, s3):
        self.s3 = s3
        self.lock = threading.Lock()
        self.newest = 0
        self.by_object = {}

    def __call__(self, environ, start_response):
        method, name = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING", "")
        makes_object = (method == "PUT" and "partNumber=" not in query) or (
            method == "POST" and "uploadId=" in query
        )

        # Google's clients write `-` and `.` as %2D and %2E, and `/` inside a name as %2F; moto
        # finds its buckets and objects by the text of the path.
        for uri in ("RAW_URI", "REQUEST_URI"):
            path, question_mark, parameters = environ[uri].partition("?")
            environ[uri] = quote(unquote(path)) + question_mark + parameters

        def start(status, headers, exc_info=None):
            with self.lock:
                if makes_object and status.startswith("2"):
                    self.newest += 1
                    self.by_object[name] = self.newest
                generation = self.by_object.get(name)
            if generation is not None:
                headers = [*headers, ("x-goog-generation", str(generation))]
            return start_response(status, headers, exc_info)

        return self.s3(environ, start)


class Quiet(WSGIRequestHandler):
    """No line for each request: stdout is for the port."""

    def log(self, *_args):
        pass


def main(kind, bucket):
    s3 = DomainDispatcherApplication(create_backend_app)
    if Client(s3).put(f"/{bucket}").status_code != 200:
        raise SystemExit(f"moto did not make the bucket {bucket}")
    app = {"s3": s3, "gcs": Generations(s3)}[kind]
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    # Connections that are still open would keep the threads.
    os._exit(0)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("s3", "gcs"):
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2])
