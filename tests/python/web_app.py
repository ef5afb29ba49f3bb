"""A small web application, and its worker, as they are found in the field.

It reads its environment once, at start: variables that are exported win, then `--dotenv FILE` by python-dotenv. It holds
pooled connections to Postgres (DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD) and Redis (REDIS_URL), if those are set.

  GET  /health          200 if a query and a PING succeed on the pooled connection and on a new one, else 500
  POST /signed/NAME     200 if X-Signature is HMAC-SHA-256 of the body under NAME or NAME_OLD, else 403
  GET  /has/NAME/HEX    200 if SHA-256 of the variable is HEX, else 404: which value runs, without one being shown

`--worker` serves nothing: it does the same query and PING five times a second and logs what fails.
`--fault FILE`: one line "MODE VARIABLE HEX". If SHA-256 of the variable is not HEX, so with any value but the one the
test began with, it fails: `dies` at start, answers `500`, `hangs`, or works `once` and then answers 500.
"""
import argparse
import datetime
import hashlib
import hmac
import http.server
import os
import pathlib
import signal
import socket
import sys
import threading
import time

import dotenv
import psycopg
import redis

ENVIRONMENT = {}
HOSTS = dict(pair.split("=", 1) for pair in os.environ.get("STAND_IN_HOSTS", "").split(",") if pair)
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: look_up(HOSTS.get(host, host), *rest, **named)


def say(text):
    stamp = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S,%f")[:-3]
    print(f"{stamp} {text}", flush=True)


def digest(name):
    return hashlib.sha256(ENVIRONMENT.get(name, "").encode()).hexdigest()


def postgres():
    host = ENVIRONMENT["DB_HOST"]
    return psycopg.connect(host=HOSTS.get(host, host), port=ENVIRONMENT.get("DB_PORT", "5432"),
                           dbname=ENVIRONMENT["DB_NAME"], user=ENVIRONMENT["DB_USER"],
                           password=ENVIRONMENT["DB_PASSWORD"], connect_timeout=5, autocommit=True)


def redis_client():
    return redis.Redis.from_url(ENVIRONMENT["REDIS_URL"], socket_timeout=5, single_connection_client=True)


class Pool:
    """One connection of each kind, made when it is first needed and kept: it hides a login that no longer works."""

    def __init__(self):
        self.lock, self.database, self.cache = threading.Lock(), None, None

    def check(self):
        with self.lock:
            if "DB_HOST" in ENVIRONMENT:
                self.database = self.database if self.database and not self.database.closed else postgres()
                self.database.execute("SELECT 1")
            if "REDIS_URL" in ENVIRONMENT:
                self.cache = self.cache or redis_client()
                self.cache.ping()


def check_new():
    if "DB_HOST" in ENVIRONMENT:
        with postgres() as connection:
            connection.execute("SELECT 1")
    if "REDIS_URL" in ENVIRONMENT:
        client = redis_client()
        client.ping()
        client.close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pool, fault, served = Pool(), None, 0

    def log_message(self, *_):
        pass

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        match self.path.split("/"):
            case ["", "health"]:
                self.health()
            case ["", "has", name, wanted]:
                self.answer(200 if digest(name) == wanted else 404, "")
            case _:
                self.answer(404, "no such page")

    def health(self):
        Handler.served += 1
        if self.fault == "hangs":
            time.sleep(3600)
        if self.fault == "500" or (self.fault == "once" and Handler.served > 1):
            say("ERROR the planted fault")
            return self.answer(500, "a planted fault")
        try:
            self.pool.check()
            check_new()
        except (psycopg.Error, redis.RedisError) as error:
            say(f"ERROR {type(error).__name__}: {error}")
            return self.answer(500, f"{type(error).__name__}: {error}")
        self.answer(200, "ok")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        name = self.path.removeprefix("/signed/")
        given = self.headers.get("X-Signature", "")
        keys = [ENVIRONMENT[key] for key in (name, f"{name}_OLD") if ENVIRONMENT.get(key)]
        signatures = [hmac.new(key.encode(), body, hashlib.sha256).hexdigest() for key in keys]
        if any(hmac.compare_digest(signature, given) for signature in signatures):
            return self.answer(200, "ok")
        say(f"WARNING 403 Invalid signature for {self.path}")
        self.answer(403, "Invalid signature")


def work():
    pool = Pool()
    while True:
        try:
            pool.check()
            check_new()
        except (psycopg.Error, redis.RedisError) as error:
            say(f"ERROR worker: {type(error).__name__}: {error}")
        time.sleep(0.2)


def planted(file):
    if not file or not pathlib.Path(file).is_file():
        return None
    mode, name, wanted = pathlib.Path(file).read_text().split()
    return None if digest(name) == wanted else mode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--dotenv", action="append", default=[])
    parser.add_argument("--fault")
    parser.add_argument("--worker", action="store_true")
    arguments = parser.parse_args()
    for file in arguments.dotenv:
        ENVIRONMENT.update({name: value for name, value in dotenv.dotenv_values(file).items() if value is not None})
    ENVIRONMENT.update(os.environ)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    fault = planted(arguments.fault)
    if fault == "dies":
        say("ERROR the planted fault: it dies")
        return 3
    say("started")
    if arguments.worker:
        work()
    Handler.fault = fault
    host, _, port = arguments.listen.rpartition(":")
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    sys.exit(main())
