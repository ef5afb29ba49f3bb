"""Writes readers.jsonl: what real readers read from small .env files, one file and reader a row.

    generate.py PYTHON_WITH_DOTENV NODE_MODULES DOTENVY_READER > readers.jsonl

DOTENVY_READER takes one JSON string a line (a file) and answers each with a JSON object, or null where dotenvy fails.
Every reader runs with an empty environment. `values` is null where the reader fails.
"""
import json, os, random, re, subprocess, sys, tempfile

python, node_modules, dotenvy = sys.argv[1:4]

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


def version(command, pattern=r"[0-9]+(\.[0-9]+)+"):
    return re.search(pattern, subprocess.run(command, capture_output=True, text=True, check=True).stdout).group(0)


files = FILES + list(random_files(60))
readers = [
    ("python-dotenv", version([python, "-c", "from importlib.metadata import version; print(version('python-dotenv'))"]), read_python),
    ("node-dotenv", json.load(open(f"{node_modules}/dotenv/package.json"))["version"], read_node),
    ("shell", "bash " + version(["/bin/bash", "--version"]), read_bash),
    ("dotenvy", "0.15.7", lambda files: lines([dotenvy], files)),
]
for reader, number, read in readers:
    for file, values in zip(files, read(files), strict=True):
        print(json.dumps({"reader": reader, "version": number, "file": file, "values": values}))
