"""Lets another user run the stand-ins, as Docker does: the client has little to do, and what works is the daemon's.

Called as: relay.py serve SOCKET DIRECTORY     runs programs of that directory for whoever asks; says "ready" first
           relay.py call SOCKET PROGRAM ARGUMENTS…
"""
import json
import os
import socket
import socketserver
import subprocess
import sys


def serve(path, directory):
    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            asked = json.loads(self.rfile.readline())
            program, *arguments = asked["argv"]
            ended = subprocess.run([os.path.join(directory, program), *arguments], cwd=asked["cwd"],
                                   env=asked["environment"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
            answer = {"stdout": ended.stdout, "stderr": ended.stderr, "code": ended.returncode}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        os.chmod(path, 0o666)
        print("ready", flush=True)
        server.serve_forever()


def call(path, argv):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        asked = {"argv": argv, "cwd": os.getcwd(), "environment": dict(os.environ)}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        answer = json.loads(connection.makefile().readline())
    sys.stdout.write(answer["stdout"])
    sys.stderr.write(answer["stderr"])
    return answer["code"]


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    sys.exit(serve(where, rest[0]) if what == "serve" else call(where, rest))
