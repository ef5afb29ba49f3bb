"""Writes readers.jsonl: what real readers read from small .env files, one file and reader a row.

    generate.py PYTHON_WITH_DOTENV NODE_MODULES DOTENVY_READER SYSTEMD_READER > readers.jsonl

DOTENVY_READER and SYSTEMD_READER take one JSON string a line (a file) and answer each with a JSON object, or null where the
reader fails; tests/python/read_systemd.py is the latter. Docker's command talks to a daemon of ours that notes what it is sent.
Every reader runs with an empty environment. `values` is null where the reader fails.
"""
import http.server, json, os, random, re, socketserver, subprocess, sys, tempfile, threading

python, node_modules, dotenvy, systemd = sys.argv[1:5]

FILES = [
    "A=1\n", "A=1", "A=\n", "A=\"\"\n", "A=''\n", "\ufeffA=1\nB=2\n", "A=1\r\nB=2\r\n", "export A=1\n", "export  A='x y'\n",
    "# c\nA=1 # d\n", "A=1# d\n", "A=#x\n", "A= #x\n", "A=x y\n", " A=1\n", "A =1\n", "A= 1\n", "A=1 \n", "A=1 ", "A='1' \n",
    "A='1' # c\n", "A=\"1\"# c\n", "A='x\ny'\nB=2\n", "A=\"x\ny\"\nB=2\n", "A=`x`\n", "A=`x\ny`\n", "A=\"x\\ny\"\n", "A='x\\ny'\n",
    "A=x\\ny\n", "A=\"x\\ty\"\n", "A=x\\ y\n", "A='it'\\''s'\n", "A='it\\'s'\n", "A=\"say \\\"x\\\"\"\n", "A='a\\\\b'\n",
    "A=\"a\\\\b\"\n", "A=a\\\\b\n", "A='a\\'\n", "A=\"a\\\\\"\n", "A=a\\\nB=2\n", "A=1\nB=$A\n", "A=1\nB=${A}\n", "A=1\nB='${A}'\n",
    "A=1\nB='$A'\n", "A=1\nB=\"${A}\"\n", "A=1\nB=\"$A.\"\n", "A=1\nB=\\${A}\n", "A=1\nB=\"\\$A\"\n", "A=a$\n", "A='a$'\n",
    "A=\"a$b\"\n", "A=$$x\n", "A=\"x`y\"\n", "A='x`y'\n", "A='x\"y'\n", "A=\"x'y\"\n", "A=x'y\n", "A=x\"y\n", "A='x\n", "A=\"x\n",
    "A=1\nA=2\n", "A=1\nB=$A\nA=2\n", "A=\"x\"y\n", "A='x''y'\n", "A.B=1\nC=2\n", "A-B=1\nC=2\n", "1A=1\nB=2\n", "A\nB=2\n", "A: 1\n",
    "A=a;b\n", "A=a&b\n", "A=a|b\n", "A=a(b\n", "A=~\n", "A='~'\n", "A={x,y}\n", "A=*\n", "A=a=b\n", "A==\n", "A=\u00e4\n",
    "A='\u00e4 \u20ac'\n", "A=a!b\n", "A=\"a!b\"\n", "A='a#b'\n", "A=\"a#b\"\n", "A='a # b'\n", "A=a%b@c/d+e\n", "\n\n# only\n",
    "A='1' B='2'\n", "A=x\tb\n", "A='a\tb'\n", "A=redis://:p@h:1/0\n", "A=p\nB=redis://:${A}@h:1/0\n", "A=[1,\"x\"]\n", "A='{\"k\": \"v\"}'\n",
]


def random_files(count):
    """Values of awkward characters, written as people write them."""
    dice = random.Random(20)
    for _ in range(count):
        value = "".join(dice.choice("ab$#'\"\\ \n`{}\u00e4!=") for _ in range(dice.randint(1, 6)))
        quote = dice.choice(["", "'", '"', "`"])
        yield f"A={quote}{value}{quote}\nB=2\n"


def read_python(files):
    program = """
import io, json, sys, logging
from dotenv import dotenv_values
logging.disable(logging.CRITICAL)
for line in sys.stdin:
    values = dotenv_values(stream=io.StringIO(json.loads(line), newline=''))
    print(json.dumps({k: v for k, v in values.items() if v is not None}))
"""
    return lines([python, "-c", program], files)


def read_node(files):
    program = """
const dotenv = require(process.argv[1] + '/dotenv');
require('fs').readFileSync(0, 'utf8').trimEnd().split('\\n').forEach((line) =>
    console.log(JSON.stringify(dotenv.parse(Buffer.from(JSON.parse(line))))));
"""
    return lines(["node", "-e", program, os.path.abspath(node_modules)], files)


def lines(command, files):
    asked = "".join(json.dumps(file) + "\n" for file in files)
    answer = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    return [json.loads(line) for line in answer.stdout.splitlines()]


def read_bash(files):
    return [read_bash_file(file) for file in files]


def read_bash_file(file):
    """Null too where a command would be looked for: the shell complains, and goes on."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "env")
        with open(path, "w", newline="") as out:
            out.write(file)
        script = '. ./env || exit 1; for n in A B C; do [ -n "${!n+x}" ] && printf "%s=%s\\0" "$n" "${!n}"; done'
        run = subprocess.run(["/bin/bash", "--norc", "-c", script], cwd=folder, capture_output=True, env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"})
    if run.stderr:
        return None
    return dict(item.split("=", 1) for item in run.stdout.decode().split("\0") if item)


class Daemon(http.server.BaseHTTPRequestHandler):
    """As much of a Docker daemon as `docker create` needs; keeps the environment it is asked for."""
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in [("Content-Type", "application/json"), ("Content-Length", str(len(data))), ("Api-Version", "1.41")]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.environment = asked["Env"]
        self.answer(201, {"Id": "0" * 64, "Warnings": []})

    def log_message(self, *words):
        pass

    def address_string(self):
        return "docker"


def read_docker(files):
    with tempfile.TemporaryDirectory() as folder:
        socket = os.path.join(folder, "docker.sock")
        server = socketserver.ThreadingUnixStreamServer(socket, Daemon)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        path, found = os.path.join(folder, "env"), []
        for file in files:
            with open(path, "w", newline="", encoding="utf-8") as out:
                out.write(file)
            command = ["docker", "-H", f"unix://{socket}", "create", "--env-file", path, "image"]
            run = subprocess.run(command, capture_output=True, env={"PATH": os.environ["PATH"], "HOME": folder})
            # A name alone is looked up outside, where there is none.
            pairs = [pair.split("=", 1) for pair in server.environment or [] if "=" in pair] if run.returncode == 0 else None
            found.append(pairs if pairs is None else dict(pairs))
        return found


def version(command, pattern=r"[0-9]+(\.[0-9]+)+"):
    return re.search(pattern, subprocess.run(command, capture_output=True, text=True, check=True).stdout).group(0)


files = FILES + list(random_files(60))
readers = [
    ("python-dotenv", version([python, "-c", "from importlib.metadata import version; print(version('python-dotenv'))"]), read_python),
    ("node-dotenv", json.load(open(f"{node_modules}/dotenv/package.json"))["version"], read_node),
    ("shell", "bash " + version(["/bin/bash", "--version"]), read_bash),
    ("dotenvy", "0.15.7", lambda files: lines([dotenvy], files)),
    ("docker", version(["docker", "--version"]), read_docker),
    ("systemd", version(["systemctl", "--version"], r"\(([^)]+)\)").strip("()"), lambda files: lines([sys.executable, systemd], files)),
]
for reader, number, read in readers:
    for file, values in zip(files, read(files), strict=True):
        print(json.dumps({"reader": reader, "version": number, "file": file, "values": values}))
