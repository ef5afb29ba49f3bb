"""A stand-in for pm2: `start SCRIPT… --name NAME [-i 1]`, `reload NAME [--update-env]`, `stop NAME`, `jlist`.

With `-i`, in cluster mode, pm2 listens on $PORT for the processes, and `reload` starts the new one before it ends the old.
As the real one, it keeps the environment of the shell in which an application was started; `reload` takes a new one from
its own shell with `--update-env` only.

Called as: stand_in_pm2.py STATE pm2 ARGUMENTS…
"""
import json
import os
import pathlib
import sys

import stand_in


def main():
    state, program, command, *words = sys.argv[1:]
    state = pathlib.Path(state)
    stand_in.record(state, program, [command, *words])
    stand_in.suffer(state, [command, *words])
    updates = "--update-env" in words
    words = [word for word in words if word != "--update-env"]
    with stand_in.locked(state):
        if command == "start":
            shared = {}
            if "-i" in words:
                at = words.index("-i")
                del words[at:at + 2]
                shared = {"listen": int(os.environ["PORT"])}
            at = words.index("--name")
            spec = shared | {"argv": words[:at] + words[at + 2:], "environment": dict(os.environ), "cwd": os.getcwd(),
                             "restart": "always"}
            stand_in.start(state, f"pm2-{words[at + 1]}", spec)
            return 0
        if command == "jlist":
            listed = []
            for file in state.glob("pm2-*.status.json"):
                status = json.loads(file.read_text())
                listed.append({"name": file.name.removesuffix(".status.json").removeprefix("pm2-"), "pid": status["pid"],
                               "pm2_env": {"status": "online" if status["status"] == "running" else "stopped"}})
            print(json.dumps(listed))
            return 0
        identity = f"pm2-{words[0]}"
        spec = stand_in.read(state / f"{identity}.spec.json")
        if spec is None:
            sys.exit(f"[PM2][ERROR] Process or Namespace {words[0]} not found")
        following = spec | ({"environment": dict(os.environ)} if updates else {})
        if command == "reload" and "listen" in spec:
            stand_in.take_over(state, identity, following)
            return 0
        stand_in.stop(state, identity)
        if command in ("reload", "restart"):
            stand_in.start(state, identity, following)
    return 0


if __name__ == "__main__":
    sys.exit(main())
