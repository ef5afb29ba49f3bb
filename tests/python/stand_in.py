"""What the stand-ins for docker, systemctl and pm2 share: they keep real processes, and write down who called them.

A stand-in is told its state directory by the wrapper that the tests put on PATH. There it keeps
  calls.jsonl     every call: program, argv, environment
  owner           the process id of the test; when it is gone, everything that was started is killed
  faults.json     what the tests want to fail: [{"match": ["up", "backend"], "do": "fail" | "hang", "times": 1}]
  ID.spec.json    what is run, with which environment     ID.status.json   how it is (written by its shim)
  ID.log          what it wrote, each line with its time   ID.stop          it is to end
  ID.next.json    what is to take its place: it is started first, and the old one told to end once that says "ready"
A spec with `listen`, a port of 127.0.0.1, has a socket that its processes share, by LISTEN_FD.
"""
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def write(path, value):
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    beside.write_text(json.dumps(value))
    beside.rename(path)


def read(path, otherwise=None):
    with contextlib.suppress(FileNotFoundError):
        return json.loads(path.read_text())
    return otherwise


def record(state, program, argv):
    """Writes a call down; what a child is told stands in its argv and its environment, nowhere else."""
    line = json.dumps({"program": program, "argv": argv, "environment": dict(os.environ), "at": now()})
    with open(state / "calls.jsonl", "a") as calls:
        calls.write(line + "\n")


@contextlib.contextmanager
def locked(state):
    with open(state / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fault(state, words):
    """What the tests want of this call: "fail", "hang" or None. A fault matches when all its words occur."""
    with locked(state):
        faults = read(state / "faults.json", [])
        for planted in faults:
            if planted.get("times", 1) > 0 and all(word in words for word in planted["match"]):
                planted["times"] = planted.get("times", 1) - 1
                write(state / "faults.json", faults)
                return planted["do"]
    return None


def suffer(state, words):
    match fault(state, words):
        case "fail":
            sys.exit("the daemon says no, as the test wants it")
        case "hang":
            time.sleep(3600)


def start(state, identity, spec):
    """Starts a process under a shim of its own, and returns its status once it runs, or did not come to run."""
    write(state / f"{identity}.spec.json", spec)
    resume(state, identity)
    return status(state, identity)


def resume(state, identity):
    """Starts what was stopped, as it was."""
    (state / f"{identity}.stop").unlink(missing_ok=True)
    (state / f"{identity}.status.json").unlink(missing_ok=True)
    nothing = subprocess.DEVNULL
    with open(state / "shims.log", "ab") as errors:
        shim = [sys.executable, __file__, str(state), identity]
        subprocess.Popen(shim, stdin=nothing, stdout=nothing, stderr=errors, start_new_session=True)
    deadline = time.monotonic() + 60
    while status(state, identity)["status"] == "created":
        if time.monotonic() > deadline:
            sys.exit(f"the shim of {identity} does not come up")
        time.sleep(0.01)


def status(state, identity):
    return read(state / f"{identity}.status.json", {"status": "created", "pid": 0, "exit_code": 0, "started": None})


def stop(state, identity, grace=10):
    """SIGTERM, some time, SIGKILL; returns when it has ended."""
    (state / f"{identity}.stop").touch()
    begin, told = time.monotonic(), None
    while (seen := status(state, identity))["status"] in ("running", "restarting"):
        wanted = signal.SIGKILL if time.monotonic() - begin > grace else signal.SIGTERM
        if told != wanted and seen["pid"]:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(seen["pid"], wanted)
            told = wanted
        time.sleep(0.01)


def forget(state, identity):
    for file in state.glob(f"{identity}.*"):
        file.unlink(missing_ok=True)


def log_lines(state, identity, since):
    """Lines as (time, text) from `since` on, an RFC 3339 time, "@seconds" or "".

    Times of this form are in the order of their texts.
    """
    if since.startswith("@"):
        moment = datetime.datetime.fromtimestamp(float(since[1:]), datetime.timezone.utc)
        since = moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    elif since:
        whole, _, fraction = since.rstrip("Z").partition(".")
        since = f"{whole}.{fraction:0<6.6}Z"
    try:
        text = (state / f"{identity}.log").read_text(errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        at, _, said = line.partition(" ")
        if at >= since:
            yield at, said


def owner_lives(state):
    owner = state / "owner"
    return owner.exists() and pathlib.Path(f"/proc/{owner.read_text().strip()}").exists()


def take_over(state, identity, spec):
    """Lets a process with this spec take the place of the one that runs, without a moment in which nobody serves."""
    before = status(state, identity)["pid"]
    write(state / f"{identity}.next.json", spec)
    deadline = time.monotonic() + 60
    while status(state, identity)["pid"] == before or (state / f"{identity}.next.json").exists():
        if time.monotonic() > deadline or status(state, identity)["status"] != "running":
            sys.exit(f"{identity} was not taken over")
        time.sleep(0.01)
    write(state / f"{identity}.spec.json", spec)


def shim(state, identity):
    """Runs one process, writes down what it says and how it ends, starts it again where its policy says so."""
    spec = json.loads((state / f"{identity}.spec.json").read_text())
    listening = socket.create_server(("127.0.0.1", spec["listen"]), backlog=128) if "listen" in spec else None
    restarts = 0
    while True:
        process = run(state, identity, spec, restarts, listening)
        if process is None:
            return
        ended = {"status": "exited", "pid": 0, "exit_code": process.returncode, "started": process.started}
        is_wanted = not (state / f"{identity}.stop").exists() and owner_lives(state)
        if not is_wanted or spec.get("restart", "no") in ("no", "", None):
            write(state / f"{identity}.status.json", ended | {"restarts": restarts, "finished": now()})
            return
        write(state / f"{identity}.status.json", ended | {"status": "restarting", "restarts": restarts})
        time.sleep(min(0.1 * 2**restarts, 2))
        restarts += 1


def launch(state, identity, spec, listening):
    """Starts a process whose lines go to the log of `identity`."""
    shared = [listening.fileno()] if listening else []
    environment = spec["environment"] | ({"LISTEN_FD": str(shared[0])} if shared else {})
    began = now()
    process = subprocess.Popen(spec["argv"], env=environment, cwd=spec["cwd"], start_new_session=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               pass_fds=shared)
    process.started, process.ready = began, threading.Event()

    def listen():
        with open(state / f"{identity}.log", "ab", buffering=0) as log:
            for line in process.stdout:
                log.write(now().encode() + b" " + line.rstrip(b"\n") + b"\n")
                if line == b"ready\n":
                    process.ready.set()

    process.listener = threading.Thread(target=listen, daemon=True)
    process.listener.start()
    return process


def run(state, identity, spec, restarts, listening):
    def is_running(process):
        write(state / f"{identity}.status.json", {"status": "running", "pid": process.pid, "exit_code": 0,
                                                  "started": process.started, "restarts": restarts})

    try:
        process = launch(state, identity, spec, listening)
    except OSError as error:
        failed = {"status": "failed", "pid": 0, "exit_code": 127, "started": now(), "error": str(error)}
        write(state / f"{identity}.status.json", failed)
        return None
    is_running(process)
    following = state / f"{identity}.next.json"
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.25)
            break
        if following.exists():
            next_process = launch(state, identity, read(following), listening)
            if next_process.ready.wait(timeout=20):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=20)
                process = next_process
                is_running(process)
                following.unlink()
        if not owner_lives(state):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    process.listener.join(timeout=0.5)
    # A shell would say 128 + the signal, and so does docker.
    if process.returncode < 0:
        process.returncode = 128 - process.returncode
    return process


def parse_environment_file(text, lookup):
    """An env file as compose reads it, for the forms that the tests use: names, comments, both quotes, `${NAME}`.

    `lookup` has the last word over names of the file itself, as in compose: first what is exported.
    """
    values = {}
    for line in text.lstrip("\ufeff").splitlines():
        line = line.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not separator:
            if (inherited := lookup(name)) is not None:
                values[name] = inherited
            continue

        def find(wanted):
            found = lookup(wanted)
            return values.get(wanted) if found is None else found

        if value[:1] == "'":
            values[name] = value[1:value.index("'", 1)]
        elif value[:1] == '"':
            inner, escaped, at = [], False, 1
            while escaped or value[at] != '"':
                if escaped:
                    inner.append({"n": "\n", "r": "\r", "t": "\t", "$": "$$"}.get(value[at], value[at]))
                elif value[at] != "\\":
                    inner.append(value[at])
                escaped = not escaped and value[at] == "\\"
                at += 1
            values[name] = interpolate("".join(inner), find)
        else:
            values[name] = interpolate(value.partition(" #")[0].rstrip(), find)
    return values


def interpolate(text, find):
    """`$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?error}` and `$$`, as in compose."""
    import re

    def replace(match):
        if match["dollar"]:
            return "$"
        value = find(match["plain"] or match["name"])
        operator, rest = match["operator"] or "", match["rest"] or ""
        is_missing = value is None or (operator.startswith(":") and value == "")
        if is_missing and operator.endswith("-"):
            return interpolate(rest, find)
        if is_missing and operator.endswith("?"):
            sys.exit(f"required variable {match['name']} is missing a value: {rest}")
        return value or ""

    name = "[A-Za-z_][A-Za-z0-9_]*"
    form = rf"\$(?:(?P<dollar>\$)|(?P<plain>{name})|\{{(?P<name>{name})(?:(?P<operator>:?[-?])(?P<rest>[^}}]*))?\}})"
    return re.sub(form, replace, text)


if __name__ == "__main__":
    shim(pathlib.Path(sys.argv[1]), sys.argv[2])
