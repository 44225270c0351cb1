"""A reverse proxy in front of an HTTP server that now and then fails as networks and stores do.

Every n-th request is hit, by turns: the connection is dropped, the answer delayed, replaced by 500, 503 or S3's SlowDown, or
cut short. `hit` counts how often each happened; `down` makes everything fail.
"""

import collections
import http.client
import http.server
import socket
import threading
import time

FAULTS = ["drop", "delay", "500", "503", "slow-down", "truncate", "drop-after"]
SLOW_DOWN = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Proxy(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream, every):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream, self.every, self.down = upstream, every, False
        self.requests, self.hit, self.lock = 0, collections.Counter(), threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self):
        with self.lock:
            self.requests += 1
            if self.down:
                self.hit["down"] += 1
                return "drop"
            if self.requests % self.every:
                return None
            fault = FAULTS[self.requests // self.every % len(FAULTS)]
            self.hit[fault] += 1
            return fault

    def handle_error(self, *_):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def gone(self):
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def answer(self, status, headers, body, send=None):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = dict((n.lower(), v) for n, v in headers).get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if send is None else body[:send])
            self.wfile.flush()

    def handle_request(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.fault()
        if fault == "drop":
            return self.gone()
        if fault == "delay":
            time.sleep(1.5)
        if fault in ("500", "503"):
            return self.answer(int(fault), [], b"")
        if fault == "slow-down":
            return self.answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders(body)
        response = upstream.getresponse()
        answer = response.read()
        upstream.close()
        if fault == "drop-after":  # it was done, and nobody knows
            return self.gone()
        if fault == "truncate" and len(answer) > 1:
            self.answer(response.status, response.getheaders(), answer, len(answer) // 2)
            return self.gone()
        self.answer(response.status, response.getheaders(), answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_request
