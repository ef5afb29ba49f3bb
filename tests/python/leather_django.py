"""The API of runbook R4, as gunicorn runs it: a master with workers that share its socket.

A worker reads its environment once, when it is made: variables that are exported win, then `--dotenv FILE` by
python-dotenv. SIGHUP makes new workers and then lets the old ones finish what they have; with `--preload` the master
reads the environment, and new workers have the old one.

  GET  /api/healthcheck/   200 if a query succeeds on a connection that is kept and on a new one, by DATABASE_URL
  POST /api/revalidate/    200 if X-Signature is HMAC-SHA-256 of the body under REVALIDATE_SECRET or its _OLD, else 403
  POST /api/track-view/    the same under ANALYTICS_SECRET
  GET  /has/NAME/HEX       200 if SHA-256 of the variable is HEX, else 404
"""
import argparse
import datetime
import hashlib
import hmac
import http.server
import os
import signal
import socket
import sys
import threading

import dotenv
import psycopg

SECRETS = {"/api/revalidate/": "REVALIDATE_SECRET", "/api/track-view/": "ANALYTICS_SECRET"}
WORKERS = 2
SIGNALS = {signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD}


def read_environment(arguments):
    file = {name: value for name, value in dotenv.dotenv_values(arguments.dotenv).items() if value is not None}
    return file | dict(os.environ)


class Handler(http.server.BaseHTTPRequestHandler):
    environment, log = {}, None
    lock, kept = threading.Lock(), None

    def log_message(self, *_):
        pass

    def answer(self, status, text=""):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        match self.path.strip("/").split("/"):
            case ["api", "healthcheck"]:
                self.health()
            case ["has", name, wanted]:
                found = hashlib.sha256(self.environment.get(name, "").encode()).hexdigest()
                self.answer(200 if found == wanted else 404)
            case _:
                self.answer(404)

    def health(self):
        try:
            with Handler.lock:
                if Handler.kept is None or Handler.kept.closed:
                    Handler.kept = self.connect()
                Handler.kept.execute("SELECT 1")
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            self.say(f"ERROR {type(error).__name__}: {error}")
            return self.answer(500, f"{type(error).__name__}: {error}")
        self.answer(200, "ok")

    def connect(self):
        return psycopg.connect(self.environment["DATABASE_URL"], connect_timeout=5, autocommit=True)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        name, given = SECRETS.get(self.path, ""), self.headers.get("X-Signature", "")
        keys = [self.environment[key] for key in (name, f"{name}_OLD") if self.environment.get(key)]
        signatures = [hmac.new(key.encode(), body, hashlib.sha256).hexdigest() for key in keys]
        if any(hmac.compare_digest(signature, given) for signature in signatures):
            return self.answer(200, "ok")
        self.say(f"WARNING 403 Invalid signature for {self.path}")
        self.answer(403, "Invalid signature")

    def say(self, text):
        stamp = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
        line = f"{stamp} {text}\n".encode()
        os.write(self.log, line)


class Server(http.server.ThreadingHTTPServer):
    # What was accepted is answered before the worker ends.
    daemon_threads = False

    def __init__(self, listening):
        super().__init__(listening.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening


def work(listening, arguments, environment, ready):
    Handler.environment = environment or read_environment(arguments)
    Handler.log = os.open(arguments.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    server = Server(listening)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.write(ready, b".")
    os.close(ready)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def workers(listening, arguments, environment):
    """Makes workers, and returns their process ids once they serve."""
    made = []
    for _ in range(WORKERS):
        wait, ready = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(wait)
            work(listening, arguments, environment, ready)
            os._exit(0)
        os.close(ready)
        os.read(wait, 1)
        os.close(wait)
        made.append(pid)
    return made


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--dotenv", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--preload", action="store_true")
    arguments = parser.parse_args()
    host, _, port = arguments.listen.rpartition(":")
    listening = socket.create_server((host, int(port)), backlog=128)
    # Two workers may see the same connection; one of them takes it.
    listening.setblocking(False)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    environment = read_environment(arguments) if arguments.preload else None
    serving = workers(listening, arguments, environment)
    print("started", flush=True)
    while True:
        match signal.sigwait(SIGNALS):
            case signal.SIGHUP:
                old, serving = serving, workers(listening, arguments, environment)
                for pid in old:
                    os.kill(pid, signal.SIGTERM)
                print("reloaded", flush=True)
            case signal.SIGTERM:
                for pid in serving:
                    os.kill(pid, signal.SIGTERM)
                return 0
            case signal.SIGCHLD:
                try:
                    while os.waitpid(-1, os.WNOHANG)[0]:
                        pass
                except ChildProcessError:
                    return 1


if __name__ == "__main__":
    sys.exit(main())
