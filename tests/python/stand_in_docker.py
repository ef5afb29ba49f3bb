"""A stand-in for `docker` with the compose plugin, and for the old `docker-compose`, that behaves as they do.

Containers are real processes. `up` interpolates the compose file and reads env files anew; `restart` and `start` keep
the environment that a container was made with; `ps`, `inspect`, `config`, `logs` and `exec` answer in the real shapes.
A service's `networks: {default: {ipv4_address: …}}` names the loopback address that it listens on; programs inside find
other services by the variable STAND_IN_HOSTS (name=address, …), since there is no name server.

Called as: stand_in_docker.py STATE docker|docker-engine|docker-compose ARGUMENTS… (docker-engine: without the plugin)
"""
import hashlib
import json
import os
import pathlib
import secrets
import shlex
import sys

import yaml

import stand_in

VERSION = "2.39.1"


class Project:
    def __init__(self, state, files, name):
        self.state = state
        self.files = [pathlib.Path(file) for file in files] or [self.default_file()]
        self.directory = self.files[0].resolve().parent
        self.dotenv = {}
        if (self.directory / ".env").is_file():
            text = (self.directory / ".env").read_text()
            self.dotenv = stand_in.parse_environment_file(text, os.environ.get)
        self.model = {}
        for file in self.files:
            loaded = self.interpolated(yaml.safe_load(file.read_text()))
            for service, fields in loaded.get("services", {}).items():
                self.model.setdefault(service, {}).update(fields)
        self.name = name or os.environ.get("COMPOSE_PROJECT_NAME") or self.directory.name.lower()

    @staticmethod
    def default_file():
        for name in ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"):
            if pathlib.Path(name).is_file():
                return pathlib.Path(name)
        sys.exit("no configuration file provided: not found")

    def lookup(self, name):
        """What is exported wins over the `.env` of the project."""
        return os.environ.get(name, self.dotenv.get(name))

    def interpolated(self, value):
        if isinstance(value, dict):
            return {key: self.interpolated(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.interpolated(item) for item in value]
        return stand_in.interpolate(value, self.lookup) if isinstance(value, str) else value

    def service(self, name):
        if name not in self.model:
            sys.exit(f"no such service: {name}")
        return self.model[name]

    def env_files(self, service):
        files = self.service(service).get("env_file") or []
        files = [files] if isinstance(files, str) else files
        return [file if isinstance(file, dict) else {"path": file, "required": True} for file in files]

    def own_environment(self, service):
        own = self.service(service).get("environment") or {}
        if isinstance(own, list):
            own = dict(item.split("=", 1) if "=" in item else (item, self.lookup(item)) for item in own)
        return {name: None if value is None else str(value) for name, value in own.items()}

    def environment(self, service):
        values = {}
        for file in self.env_files(service):
            path = self.directory / file["path"]
            if not path.is_file():
                if file.get("required", True):
                    sys.exit(f"env file {path} not found: stat {path}: no such file or directory")
                continue
            values |= stand_in.parse_environment_file(path.read_text(), self.lookup)
        return values | self.own_environment(service)

    def argv(self, service):
        fields = self.service(service)
        words = []
        for field in ("entrypoint", "command"):
            part = fields.get(field) or []
            words += shlex.split(part) if isinstance(part, str) else [str(word) for word in part]
        return words

    def address(self, service):
        networks = self.service(service).get("networks") or {}
        named = [network.get("ipv4_address") for network in networks.values() if network] if isinstance(networks, dict) else []
        return next((address for address in named if address), "127.0.0.1")

    def configuration(self, service):
        """What a container is made from; when it changes, a plain `up` makes a new one."""
        environment = {name: value for name, value in self.environment(service).items() if value is not None}
        return {"argv": self.argv(service), "environment": environment, "address": self.address(service)}

    def containers(self, service=None):
        """Kept ones, also those that do not run: (id, what they were made from)."""
        for file in sorted(self.state.glob("*.container.json")):
            container = json.loads(file.read_text())
            if container["project"] == self.name and service in (None, container["service"]):
                yield file.name.split(".")[0], container

    def make(self, service):
        configuration = self.configuration(service)
        identity = secrets.token_hex(32)
        hosts = ",".join(f"{name}={self.address(name)}" for name in self.model)
        kept = {
            "project": self.name, "service": service, "created": stand_in.now(), **configuration,
            "hash": digest(configuration), "volumes": self.service(service).get("volumes") or [],
            "ports": [str(port) for port in self.service(service).get("ports") or []],
            "restart": str(self.service(service).get("restart") or "no"),
            "grace": seconds(self.service(service).get("stop_grace_period") or "10s"),
            "cwd": str(self.directory / (self.service(service).get("working_dir") or ".")),
        }
        stand_in.write(self.state / f"{identity}.container.json", kept)
        inside = {"PATH": os.environ.get("PATH", os.defpath), "HOSTNAME": identity[:12], "STAND_IN_HOSTS": hosts}
        spec = {"argv": configuration["argv"], "environment": inside | configuration["environment"],
                "cwd": kept["cwd"], "restart": "no" if kept["restart"] == "no" else "always"}
        status = stand_in.start(self.state, identity, spec)
        if status["status"] == "failed":
            sys.exit(f"Error response from daemon: failed to create task for container: {status['error']}")

    def up(self, services, force, deps):
        wanted = list(services or self.model)
        if deps:
            queue = list(wanted)
            while queue:
                depends = self.service(queue.pop()).get("depends_on") or []
                for name in depends:
                    if name not in wanted:
                        wanted.insert(0, name)
                        queue.append(name)
        for service in wanted:
            name = f"{self.name}-{service}-1"
            current = list(self.containers(service))
            is_same = current and current[0][1]["hash"] == digest(self.configuration(service))
            if is_same and not (force and service in (services or self.model)):
                if stand_in.status(self.state, current[0][0])["status"] != "running":
                    stand_in.resume(self.state, current[0][0])
                    print(f" Container {name}  Started", file=sys.stderr)
                continue
            # The new environment is read before the old container goes.
            self.configuration(service)
            for identity, old in current:
                print(f" Container {name}  Recreate", file=sys.stderr)
                stand_in.stop(self.state, identity, old["grace"])
                stand_in.forget(self.state, identity)
            self.make(service)
            print(f" Container {name}  Started", file=sys.stderr)


def digest(configuration):
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def seconds(text):
    return float(str(text).removesuffix("s"))


def doubled(value):
    """`config` prints a compose file: `$` is `$$` there."""
    if isinstance(value, dict):
        return {key: doubled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [doubled(item) for item in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def options(arguments, with_value):
    """Splits flags, which may take a value, from the rest; stops at the first word that is no flag."""
    flags, rest = {}, list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        flag, separator, value = rest.pop(0).partition("=")
        if flag == "--":
            break
        if flag in with_value:
            flags.setdefault(flag, []).append(value if separator else rest.pop(0))
        else:
            flags[flag] = True
    return flags, rest


def compose(state, arguments):
    flags, rest = options(arguments, {"-f", "--file", "-p", "--project-name", "--project-directory", "--ansi", "--env-file"})
    command, *rest = rest or ["help"]
    if command == "version":
        print(f"Docker Compose version v{VERSION}")
        return 0
    stand_in.suffer(state, [command, *rest])
    files = flags.get("-f", []) + flags.get("--file", [])
    project = Project(state, files, (flags.get("-p") or flags.get("--project-name") or [None])[0])
    flags, rest = options(rest, {"--format", "--since", "--tail", "-t", "--timeout", "-n", "--scale", "--index", "-e", "--env", "-w", "--workdir", "-u", "--user"})
    match command:
        case "config":
            return config(project, flags)
        case "ps":
            return ps(project, flags, rest)
        case "up":
            if "-d" not in flags and "--detach" not in flags:
                sys.exit("the stand-in starts in the background only: up -d")
            with stand_in.locked(state):
                project.up(rest, "--force-recreate" in flags, "--no-deps" not in flags)
            return 0
        case "stop" | "start" | "restart" | "down" | "kill":
            with stand_in.locked(state):
                for service in rest or project.model:
                    project.service(service)
                    for identity, kept in list(project.containers(service)):
                        if command != "start":
                            stand_in.stop(state, identity, 0 if command == "kill" else kept["grace"])
                        if command in ("start", "restart"):
                            stand_in.resume(state, identity)
                        if command == "down":
                            stand_in.forget(state, identity)
            return 0
        case "exec":
            return execute(project, rest)
        case "logs":
            return logs(project, flags, rest)
    sys.exit(f'unknown docker command: "compose {command}"')


def config(project, flags):
    if "--services" in flags:
        print("\n".join(project.model))
        return 0
    services = {}
    for service in project.model:
        entry = {"command": project.argv(service) or None, "entrypoint": None,
                 "image": project.service(service).get("image", f"{project.name}-{service}"), "networks": {"default": None}}
        if "--no-env-resolution" in flags:
            entry["environment"] = project.own_environment(service) or None
            entry["env_file"] = [{"path": str(project.directory / file["path"]), "required": file.get("required", True)}
                                 for file in project.env_files(service)] or None
        else:
            entry["environment"] = project.environment(service) or None
        services[service] = {key: value for key, value in entry.items() if value is not None or key in ("command", "entrypoint")}
    if "-q" in flags or "--quiet" in flags:
        return 0
    whole = {"name": project.name, "networks": {"default": {"name": f"{project.name}_default", "ipam": {}}}, "services": services}
    if flags.get("--format") == ["json"]:
        print(json.dumps(doubled(whole), indent=2))
    else:
        print(yaml.safe_dump(doubled(whole)), end="")
    return 0


def ps(project, flags, services):
    for service in services:
        project.service(service)
    for identity, kept in project.containers():
        status = stand_in.status(project.state, identity)
        if services and kept["service"] not in services:
            continue
        if "-a" not in flags and "--all" not in flags and status["status"] != "running":
            continue
        if "-q" in flags or "--quiet" in flags:
            print(identity)
        elif flags.get("--format") == ["json"]:
            print(json.dumps({"Command": json.dumps(" ".join(kept["argv"])), "ExitCode": status["exit_code"], "Health": "",
                              "ID": identity[:12], "Name": f"{project.name}-{kept['service']}-1", "Project": project.name,
                              "Publishers": [], "Service": kept["service"], "State": status["status"]}))
        else:
            print(f"{project.name}-{kept['service']}-1   {kept['service']}   {status['status']}")
    return 0


def execute(project, words):
    service, *argv = words
    project.service(service)
    for identity, kept in project.containers(service):
        if stand_in.status(project.state, identity)["status"] == "running":
            spec = json.loads((project.state / f"{identity}.spec.json").read_text())
            sys.stdout.flush()
            os.chdir(kept["cwd"])
            try:
                os.execvpe(argv[0], argv, spec["environment"])
            except FileNotFoundError:
                print(f'OCI runtime exec failed: exec failed: exec: "{argv[0]}": executable file not found in $PATH', file=sys.stderr)
                return 127
    sys.exit(f'service "{service}" is not running')


def logs(project, flags, services):
    since = (flags.get("--since") or [""])[0]
    for service in services or project.model:
        project.service(service)
        for identity, _ in project.containers(service):
            for at, line in stand_in.log_lines(project.state, identity, since):
                stamp = f"{at} " if "-t" in flags or "--timestamps" in flags else ""
                print(f"{stamp}{line}" if "--no-log-prefix" in flags else f"{service}-1  | {stamp}{line}")
    return 0


def port_bindings(ports):
    bindings = {}
    for port in ports:
        *host, inside = port.removesuffix("/tcp").split(":")
        published = [{"HostIp": host[0] if len(host) > 1 else "0.0.0.0", "HostPort": host[-1]}] if host else None
        bindings[f"{inside}/tcp"] = published
    return bindings


def inspected(state, identity, kept):
    status = stand_in.status(state, identity)
    name = "running" if status["status"] == "running" else "exited" if status["status"] == "failed" else status["status"]
    environment = [f"{key}={value}" for key, value in kept["environment"].items()]
    environment.append("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    volumes = [str(volume).split(":") for volume in kept["volumes"]]
    mounts = [{"Type": "bind" if volume[0].startswith((".", "/")) else "volume", "Source": volume[0],
               "Destination": volume[min(1, len(volume) - 1)], "Mode": "rw", "RW": True} for volume in volumes]
    return {
        "Id": identity, "Created": kept["created"], "Path": (kept["argv"] or [""])[0], "Args": kept["argv"][1:],
        "State": {"Status": name, "Running": name == "running", "Paused": False, "Restarting": name == "restarting",
                  "OOMKilled": False, "Dead": False, "Pid": status["pid"], "ExitCode": status["exit_code"],
                  "Error": status.get("error", ""), "StartedAt": status["started"] or "0001-01-01T00:00:00Z",
                  "FinishedAt": status.get("finished", "0001-01-01T00:00:00Z")},
        "Name": f"/{kept['project']}-{kept['service']}-1", "RestartCount": status.get("restarts", 0),
        "HostConfig": {"RestartPolicy": {"Name": kept["restart"], "MaximumRetryCount": 0}}, "Mounts": mounts,
        "Config": {"Hostname": identity[:12], "Env": environment, "Cmd": kept["argv"] or None, "Entrypoint": None,
                   "Labels": {"com.docker.compose.project": kept["project"], "com.docker.compose.service": kept["service"],
                              "com.docker.compose.config-hash": kept["hash"], "com.docker.compose.oneoff": "False"}},
        "NetworkSettings": {"Ports": port_bindings(kept["ports"]),
                            "Networks": {f"{kept['project']}_default": {"IPAddress": kept["address"], "IPPrefixLen": 16,
                                                                       "Aliases": [kept["service"]]}}},
    }


def inspect(state, words):
    found, missing = [], []
    for word in options(words, {"-f", "--format", "--type"})[1]:
        matches = [file for file in state.glob("*.container.json") if file.name.startswith(word)]
        if len(matches) == 1:
            found.append(inspected(state, matches[0].name.split(".")[0], json.loads(matches[0].read_text())))
        else:
            missing.append(word)
    print(json.dumps(found, indent=4))
    for word in missing:
        print(f"Error: No such object: {word}", file=sys.stderr)
    return 1 if missing else 0


def main():
    state, program, *arguments = sys.argv[1:]
    state = pathlib.Path(state)
    stand_in.record(state, program, arguments)
    if program == "docker-compose":
        return compose(state, arguments)
    match arguments:
        case ["compose", *rest] if program == "docker":
            return compose(state, rest)
        case ["inspect", *rest]:
            return inspect(state, rest)
        case ["version" | "--version", *_]:
            print("Docker version 28.3.3, build 980b856")
            return 0
    sys.exit(f"docker: unknown command: docker {' '.join(arguments[:1])}")


if __name__ == "__main__":
    sys.exit(main())
