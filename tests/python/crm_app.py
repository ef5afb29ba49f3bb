"""The application of runbook R2: it reads and writes encrypted columns through the functions of the database, with the
keys that its `.env` gives it by python-dotenv and nothing else, at least 200 reads and 50 writes a second.

`--keys one` knows DB_ENCRYPTION_KEY. `--keys two` seals with that one too, and opens with DB_ENCRYPTION_KEY_NEXT and
DB_ENCRYPTION_KEY_PREVIOUS as well where they are set. SIGHUP makes it read its file again; on SIGTERM it finishes what it
has begun and remembers what it wrote in `--ledger FILE`, where the next process finds it.

  GET /health  200 if it has the keys that its file holds now and reads rows with them, else 500
  GET /stats   {"reads", "writes", "failures": [...]} since the process started
  GET /writes  {"ID": "full name"}: the last acknowledged write of each row

`--fault FILE`: one line, SHA-256 of the one key with which it is healthy.
"""
import argparse
import hashlib
import http.server
import json
import pathlib
import random
import signal
import threading
import time

import dotenv
import psycopg

NAMES = ["DB_ENCRYPTION_KEY", "DB_ENCRYPTION_KEY_NEXT", "DB_ENCRYPTION_KEY_PREVIOUS"]
COLUMNS = ["email_encrypted", "phone_number_encrypted", "full_name_encrypted"]


class Crm:
    def __init__(self, arguments):
        self.file, self.names = arguments.dotenv, NAMES if arguments.keys == "two" else NAMES[:1]
        self.rows, self.fault, self.ledger = arguments.rows, arguments.fault, pathlib.Path(arguments.ledger)
        self.stopping, self.failures, self.reads, self.writes = threading.Event(), [], 0, 0
        self.acknowledged = json.loads(self.ledger.read_text()) if self.ledger.is_file() else {}
        self.under_way = {}
        self.read_file()

    def settings(self):
        return dotenv.dotenv_values(self.file)

    def keys_of(self, settings):
        return [settings[name] for name in self.names if settings.get(name)]

    def read_file(self, *_):
        self.keys = self.keys_of(self.settings())

    def connect(self):
        settings = self.settings()
        return psycopg.connect(host="127.0.0.1", port=settings["DB_PORT"], dbname="eventdb", user="eventuser",
                               password=settings["DB_PASSWORD"], connect_timeout=5, autocommit=True)

    def read(self, database, row, column):
        """With one key after the other: a wrong one is an error of the database."""
        error = None
        for key in self.keys:
            try:
                query = f"SELECT decrypt_sensitive_data({column}, %s) FROM crm_client_preferences WHERE id = %s"
                return database.execute(query, (key, row)).fetchone()[0]
            except psycopg.errors.ExternalRoutineInvocationException as wrong:
                error = wrong
        raise error

    def read_one(self, database):
        row, column = random.randint(1, self.rows), random.choice(COLUMNS)
        expected = {self.acknowledged.get(str(row))}
        found = self.read(database, row, column)
        expected |= {self.acknowledged.get(str(row)), self.under_way.get(str(row))}
        if column == COLUMNS[2] and expected != {None} and None not in expected and found not in expected:
            raise ValueError(f"row {row} lost a write")
        self.reads += 1

    def write_one(self, database):
        row = random.randint(1, self.rows)
        name = f"Written {self.writes} {random.random()}"
        self.under_way[str(row)] = name
        query = f"UPDATE crm_client_preferences SET {COLUMNS[2]} = encrypt_sensitive_data(%s, %s) WHERE id = %s"
        database.execute(query, (name, self.keys[0], row))
        self.acknowledged[str(row)] = name
        self.writes += 1

    def work(self, what, per_second):
        database, due = self.connect(), time.monotonic()
        while not self.stopping.is_set():
            try:
                what(database)
            except (psycopg.Error, ValueError) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                if database.closed:
                    database = self.connect()
            due += 1 / per_second
            if due > time.monotonic():
                time.sleep(due - time.monotonic())

    def health(self):
        if self.fault and pathlib.Path(self.fault).is_file():
            if hashlib.sha256(self.keys[0].encode()).hexdigest() != pathlib.Path(self.fault).read_text():
                return "the planted fault"
        if self.keys != self.keys_of(self.settings()):
            return "it has other keys than its file"
        try:
            with self.connect() as database:
                for row in random.sample(range(1, self.rows + 1), 10):
                    for column in COLUMNS:
                        self.read(database, row, column)
        except psycopg.Error as error:
            return f"{type(error).__name__}: {error}"
        return None

    def stop(self, *_):
        self.stopping.set()


class Handler(http.server.BaseHTTPRequestHandler):
    crm = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        status, text = 200, "ok"
        match self.path:
            case "/health":
                if why := self.crm.health():
                    status, text = 500, why
            case "/stats":
                crm = self.crm
                text = json.dumps({"reads": crm.reads, "writes": crm.writes, "failures": list(crm.failures)})
            case "/writes":
                text = json.dumps(dict(self.crm.acknowledged))
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dotenv", required=True)
    parser.add_argument("--keys", choices=["one", "two"], required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--ledger", required=True)
    parser.add_argument("--fault")
    crm = Handler.crm = Crm(parser.parse_args())
    signal.signal(signal.SIGTERM, crm.stop)
    signal.signal(signal.SIGHUP, crm.read_file)
    http.server.ThreadingHTTPServer.allow_reuse_address = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    workers = [threading.Thread(target=crm.work, args=(crm.read_one, 115)) for _ in range(2)]
    workers.append(threading.Thread(target=crm.work, args=(crm.write_one, 60)))
    for worker in workers:
        worker.start()
    while not crm.stopping.wait(0.1):
        pass
    for worker in workers:
        worker.join()
    crm.ledger.write_text(json.dumps(crm.acknowledged))


if __name__ == "__main__":
    main()
