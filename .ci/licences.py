"""Refuses dependencies from elsewhere than crates.io, or under licences that deny.toml does not allow."""
import json, re, subprocess, sys, tomllib

def allowed_by(expression, allowed):
    """Evaluates an SPDX expression; `/` is the old spelling of OR."""
    expression = re.sub(r"\s+WITH\s+", "-WITH-", expression.replace("/", " OR "))
    def word(match):
        name = match.group(0)
        return name.lower() if name in ("AND", "OR") else str(name.replace("-WITH-", " WITH ") in allowed)
    return eval(re.sub(r"[A-Za-z0-9.+-]+", word, expression), {"__builtins__": {}})

allowed = set(tomllib.load(open("deny.toml", "rb"))["licenses"]["allow"])
metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--locked", "--format-version", "1"]))
foreign = [package for package in metadata["packages"] if package["source"]]
faults = [f"{p['name']} {p['version']}: licence {p['license']} is not allowed" for p in foreign
          if not p["license"] or not allowed_by(p["license"], allowed)]
faults += [f"{p['name']} {p['version']}: comes from {p['source']}" for p in foreign
           if not p["source"].startswith("registry+https://github.com/rust-lang/crates.io-index")]
print("\n".join(faults) or f"{len(foreign)} dependencies, all from crates.io and under allowed licences")
sys.exit(bool(faults))
