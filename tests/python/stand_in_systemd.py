"""Stand-ins for `systemctl` and `journalctl` that behave as they do for units of type simple.

A unit's EnvironmentFile= is read shortly before its process starts; `reload` runs ExecReload= and changes nothing of
the environment. Units stand in STATE/units/NAME.service.

Called as: stand_in_systemd.py STATE systemctl|journalctl ARGUMENTS…
"""
import configparser
import os
import pathlib
import shlex
import signal
import subprocess
import sys

import stand_in


class Unit:
    def __init__(self, state, name):
        self.state, self.name = state, name.removesuffix(".service")
        self.identity = f"unit-{self.name}"
        file = state / "units" / f"{self.name}.service"
        self.is_there = file.is_file()
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str
        parser.read(file)
        self.service = dict(parser["Service"]) if parser.has_section("Service") else {}

    def status(self):
        return stand_in.status(self.state, self.identity)

    def environment(self):
        values = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
        values |= dict(word.split("=", 1) for word in shlex.split(self.service.get("Environment", "")))
        if named := self.service.get("EnvironmentFile"):
            path = pathlib.Path(named.removeprefix("-"))
            for line in path.read_text().splitlines():
                name, separator, value = line.strip().partition("=")
                if separator and not name.startswith(("#", ";")):
                    quoted = value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1
                    values[name] = value[1:-1] if quoted else value
        return values

    def start(self):
        if self.status()["status"] in ("running", "restarting"):
            return
        spec = {"argv": shlex.split(self.service["ExecStart"]), "environment": self.environment(),
                "cwd": self.service.get("WorkingDirectory", "/"),
                "restart": "no" if self.service.get("Restart", "no") == "no" else "always"}
        if stand_in.start(self.state, self.identity, spec)["status"] == "failed":
            sys.exit(f"Job for {self.name}.service failed because of unavailable resources or another system error.")

    def stop(self):
        stand_in.stop(self.state, self.identity)

    def reload(self):
        if "ExecReload" not in self.service:
            sys.exit(f"Failed to reload {self.name}.service: Job type reload is not applicable for unit {self.name}.service.")
        if self.status()["status"] != "running":
            sys.exit(f"{self.name}.service is not active, cannot reload.")
        environment = self.environment() | {"MAINPID": str(self.status()["pid"])}
        subprocess.run(["/bin/sh", "-c", self.service["ExecReload"]], env=environment, check=True)

    def properties(self):
        status = self.status()
        is_failed = status["status"] == "failed" or (status["status"] == "exited" and status["exit_code"] not in (0, 143))
        active = {"running": "active", "restarting": "activating"}.get(status["status"], "failed" if is_failed else "inactive")
        sub = {"active": "running", "activating": "auto-restart", "failed": "failed"}.get(active, "dead")
        return {"Id": f"{self.name}.service", "LoadState": "loaded" if self.is_there else "not-found",
                "ActiveState": active, "SubState": sub, "MainPID": str(status["pid"]),
                "NRestarts": str(status.get("restarts", 0)), "Result": "exit-code" if is_failed else "success"}



def systemctl(state, words):
    names, wanted, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-p", "--property"):
            wanted += rest.pop(0).split(",")
        elif word.startswith("--property="):
            wanted += word.partition("=")[2].split(",")
        elif not word.startswith("-"):
            names.append(word)
    command, *names = names
    stand_in.suffer(state, [command, *names])
    if command == "daemon-reload":
        return 0
    for unit in (Unit(state, name) for name in names):
        if command == "show":
            for name, value in unit.properties().items():
                if not wanted or name in wanted:
                    print(f"{name}={value}")
            continue
        if not unit.is_there:
            sys.exit(f"Failed to {command} {unit.name}.service: Unit {unit.name}.service not found.")
        with stand_in.locked(state):
            match command:
                case "start":
                    unit.start()
                case "stop":
                    unit.stop()
                case "restart":
                    unit.stop()
                    unit.start()
                case "reload":
                    unit.reload()
                case "is-active":
                    active = unit.properties()["ActiveState"]
                    print(active)
                    return 0 if active == "active" else 3
                case _:
                    sys.exit(f"Unknown command verb {command}.")
    return 0


def journalctl(state, words):
    rest, since, names = list(words), "", []
    while rest:
        word = rest.pop(0)
        if word == "--since":
            since = rest.pop(0)
        elif word in ("-u", "--unit"):
            names.append(rest.pop(0))
    for name in names:
        for at, line in stand_in.log_lines(state, Unit(state, name).identity, since):
            print(line if "--output=cat" in words else f"{at} {line}")
    return 0


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    state, program, *words = sys.argv[1:]
    state = pathlib.Path(state)
    stand_in.record(state, program, words)
    return systemctl(state, words) if program == "systemctl" else journalctl(state, words)


if __name__ == "__main__":
    sys.exit(main())
