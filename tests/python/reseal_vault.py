"""Reads a reseal vault, from docs/formats/vault.md alone; needs only PyCA's `cryptography`. Opens by a key file or a recovery code.

As a program, JSON lines in and out: `path`, `key_file` (hex) or `recovery_code`, and optionally `auditor_key` (43 characters);
answers with everything the vault holds, after checking all of it, or with `refused`.
"""
import base64, hmac, json, sqlite3, struct, sys
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from reseal_envelope import xaes, xchacha
KINDS = {"secret": 1, "version": 2, "value": 3, "handle": 4, "journal": 5, "snapshot": 6, "part": 7, "chunk": 8}
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
class Refused(Exception): pass

def check(truth, what):
    if not truth:
        raise Refused(what)

def canonical(*fields):
    encode = lambda f: struct.pack(">Q", f) if isinstance(f, int) else f.encode() if isinstance(f, str) else f
    return b"".join(struct.pack(">I", len(encode(f))) + encode(f) for f in fields)

def hkdf(key, salt, info, length=32): return HKDF(SHA256(), length, salt, info.encode()).derive(key)
def mac(key, message): return hmac.digest(key, message, "sha256")
def number(data): return int.from_bytes(data, "big")

def sha256(data):
    state = Hash(SHA256())
    state.update(data)
    return state.finalize()

def unseal(suite, key, sealed, aad):
    cipher, nonce = {1: xchacha, 2: xaes}[suite](key, sealed[:24])
    return cipher.decrypt(nonce, sealed[24:], aad)

def recovery_code(text):
    value = 0
    for c in text.upper().replace("-", ""):
        value = value << 5 | CROCKFORD.index(c)
    code, checksum = value.to_bytes(35, "big")[:32], value.to_bytes(35, "big")[32:]
    check(sha256(b"reseal/v1/recovery-code" + code)[:3] == checksum, "checksum of the recovery code")
    return code

class Vault:
    def __init__(self, path, kdf, code):
        self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        head, head_mac = self.db.execute("SELECT body, mac FROM head").fetchone()
        check(len(head) == 2274 and head[0] == 1, "head")
        self.suite, self.id = head[1], head[2:18]
        root = self.unwrap(kdf, code)
        keys = ("record", "wrap", "name", "tree", "audit")
        self.key = {purpose: hkdf(root, self.id, f"reseal/v1/vault/{purpose}") for purpose in keys}
        check(hmac.compare_digest(mac(self.key["tree"], b"\2\0\0" + head), head_mac), "MAC of the head")
        self.counts = [number(head[26 + 8 * i:34 + 8 * i]) for i in range(16)]
        self.entries, self.last = number(head[186:194]), head[194:226]
        self.tree(head[226:])
        slots = self.db.execute("SELECT * FROM slot ORDER BY id").fetchall()
        digest = mac(self.key["tree"], canonical("reseal/v1/vault/slots", *(f for slot in slots for f in slot)))
        check(digest == head[154:186], "slots")
        self.slots = [json.loads(self.unseal("record", s[9], "slot", s[0]))["name"] for s in slots]

    def unwrap(self, kdf, code):
        for slot in self.db.execute("SELECT * FROM slot WHERE kdf = ?", [kdf]):
            id, _, memory, passes, lanes, salt, nonce, wrapped, commitment, _ = slot
            derived = hkdf(code, salt, {2: "reseal/v1/slot/recovery-code", 3: "reseal/v1/slot/key-file"}[kdf], 64)
            if derived[32:] == commitment:
                aad = canonical("reseal/v1/slot", self.id, memory, passes, lanes, kdf, id, salt, commitment)
                return unseal(2, derived[:32], nonce + wrapped, aad)
        raise Refused("no slot opens")

    def unseal(self, key, sealed, *place):
        key = self.key[key] if isinstance(key, str) else key
        return unseal(self.suite, key, sealed, canonical("reseal/v1/vault/sealed", self.id, *place))

    def tree(self, nodes):
        digest = lambda level, n, data: mac(self.key["tree"], struct.pack(">BH", level, n) + data) if data else bytes(32)
        leaves = dict(self.db.execute("SELECT number, entries FROM leaf"))
        stored = dict(self.db.execute("SELECT number, digests FROM node"))
        self.prints = {}
        for n in range(64):
            check(digest(1, n, stored.get(n)) == nodes[32 * n:32 * n + 32], f"node {n}")
            for leaf in range(64 * n, 64 * n + 64):
                entries, at = leaves.get(leaf, b""), 32 * (leaf % 64)
                check(digest(0, leaf, entries) == stored.get(n, bytes(2048))[at:at + 32], f"leaf {leaf}")
                self.prints |= {entries[i:i + 16]: entries[i + 16:i + 32] for i in range(0, len(entries), 32)}
        rows = self.db.execute("SELECT id, kind, body FROM record").fetchall()
        self.records = {id: (kind, body) for id, kind, body in rows}
        check(set(self.records) == set(self.prints) and len(rows) == sum(self.counts), "records")
        for id, (kind, body) in self.records.items():
            check(sha256(bytes([kind]) + body)[:16] == self.prints[id], "fingerprint of a record")

    def record(self, kind, *about, key="record"):
        id = mac(self.key["name"], canonical("reseal/v1/vault/id", KINDS[kind], *about))[:16]
        check(self.records[id][0] == KINDS[kind], "kind of a record")
        return id, self.unseal(key, self.records[id][1], "record", id, KINDS[kind])

    def secrets(self):
        for id, (kind, body) in self.records.items():
            if kind == KINDS["secret"]:
                secret = json.loads(self.unseal("record", body, "record", id, kind))
                check(self.record("secret", secret["name"])[0] == id, "id of a secret")
                yield {**secret, "versions": [self.version(secret, n + 1) for n in range(secret["latest"])]}

    def version(self, secret, n):
        about = bytes.fromhex(secret["id"]), struct.pack(">Q", n)
        version = json.loads(self.record("version", *about)[1])
        if "data_key" in version:
            place = mac(self.key["name"], canonical("reseal/v1/vault/id", KINDS["value"], *about))[:16]
            data_key = self.unseal("wrap", bytes.fromhex(version.pop("data_key")), "data-key", place)
            version["value"] = self.record("value", *about, key=data_key)[1].hex()
        return version

    def snapshots(self):
        for id, (kind, body) in self.records.items():
            if kind == KINDS["snapshot"]:
                snapshot = json.loads(self.unseal("record", body, "record", id, kind))
                name = bytes.fromhex(snapshot["id"])
                check(self.record("snapshot", name)[0] == id, "id of a snapshot")
                parts = b"".join(self.record("part", name, struct.pack(">I", n))[1] for n in range(snapshot["parts"]))
                content = b"".join(self.chunk(parts[i:i + 16]) for i in range(0, len(parts), 16))
                check(len(content) == snapshot["len"], "length of a snapshot")
                yield {**snapshot, "content": content.hex()}

    def chunk(self, id):
        content = self.unseal("record", self.records[id][1], "record", id, KINDS["chunk"])
        check(self.record("chunk", content)[0] == id, "id of a chunk")
        return content

    def log(self, auditor=None):
        previous, entries = bytes(32), []
        for n, (stored, body, stored_mac) in enumerate(self.db.execute("SELECT * FROM audit ORDER BY number")):
            check(stored == n, f"number of entry {n}")
            entries.append(json.loads(self.unseal("audit", body, "audit", n, previous)))
            if auditor:
                check(mac(auditor, canonical("reseal/v1/vault/audit", n, previous, body)) == stored_mac, f"MAC of entry {n}")
                auditor = hkdf(auditor, b"", "reseal/v1/audit/next")
            previous = stored_mac
        check(len(entries) == self.entries and previous == self.last, "end of the log")
        next_key = self.unseal("record", self.db.execute("SELECT body FROM chain").fetchone()[0], "chain", len(entries))
        check(auditor in (None, next_key), "key of the next entry")
        return entries

def answer(question):
    try:
        kdf = 3 if "key_file" in question else 2
        code = bytes.fromhex(question["key_file"]) if kdf == 3 else recovery_code(question["recovery_code"])
        auditor = question.get("auditor_key")
        vault = Vault(question["path"], kdf, code)
        log = vault.log(auditor and base64.urlsafe_b64decode(auditor + "="))
        return {"id": vault.id.hex(), "slots": sorted(vault.slots), "log": log, "secrets": sorted(vault.secrets(), key=lambda s: s["name"]),
                "snapshots": sorted(vault.snapshots(), key=lambda s: s["name"])}
    except (Refused, InvalidTag) as error:
        return {"refused": str(error) or "does not authenticate"}

if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
