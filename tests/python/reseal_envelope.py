"""Reads and writes reseal's column envelope, from docs/formats/envelope.md alone; needs only PyCA's `cryptography`.

As a program, JSON lines in and out: key (43 characters), suite, binding, column_id (hex), row_key ([[type, value], ...],
bytes and uuid as hex), and either `value` to open (text, or {"hex": ...}) or `plaintext` (hex) to seal.
"""
import base64, json, os, re, struct, sys
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
ROW_TYPES = {"integer": 1, "text": 2, "bytes": 3, "uuid": 4}
class Refused(Exception): pass

def unbase64url(text):
    if re.fullmatch("[A-Za-z0-9_-]*", text) and len(text) % 4 != 1:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") == text:
            return raw
    raise Refused("not canonical base64url")

def row_key(columns):
    out = bytes([len(columns)])
    for kind, value in columns:
        data = struct.pack(">q", value) if kind == "integer" else value.encode() if kind == "text" else bytes.fromhex(value)
        out += struct.pack(">BI", ROW_TYPES[kind], len(data)) + data
    return out

def xaes(key, nonce):
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    left = int.from_bytes(aes.update(bytes(16)), "big")
    k1 = ((left << 1) & (2**128 - 1)) ^ (0x87 if left >> 127 else 0)
    half = lambda i: aes.update((int.from_bytes(bytes([0, i, 0x58, 0]) + nonce[:12], "big") ^ k1).to_bytes(16, "big"))
    return AESGCM(half(1) + half(2)), nonce[12:]

def xchacha(key, nonce):
    # HChaCha20 is a ChaCha20 block without its last step, which adds the initial state: take that away again.
    block = Cipher(algorithms.ChaCha20(key, nonce[:16]), None).encryptor().update(bytes(64))
    start = struct.unpack("<8I", b"expand 32-byte k" + nonce[:16])
    words = struct.unpack("<8I", block[:16] + block[48:])
    return ChaCha20Poly1305(struct.pack("<8I", *((w - s) % 2**32 for w, s in zip(words, start)))), bytes(4) + nonce[16:]

class Column:
    """One column's key and policy: what it seals, and the only thing it opens."""
    def __init__(self, key, suite, binding, column_id):
        derive = lambda info: HKDF(SHA256(), 32, b"", info).derive(unbase64url(key))
        if len(unbase64url(key)) != 32 or len(column_id) != 16 or suite not in (1, 2) or binding not in (0, 1, 2):
            raise Refused("not a column key, column id, suite or binding")
        self.binding, self.column_id, self.cipher = binding, column_id, {1: xchacha, 2: xaes}[suite]
        self.header = bytes([0xFB, 1, suite, binding]) + derive(b"reseal/v1/column/commit")[:8]
        self.aead_key = derive(b"reseal/v1/column/aead/" + bytes([suite]))
    def aad(self, row):
        return self.header + self.column_id * (self.binding > 0) + (row_key(row) if self.binding == 2 else b"")
    def seal(self, plaintext, row=None, nonce=None):
        cipher, short = self.cipher(self.aead_key, nonce := nonce or os.urandom(24))
        return self.header + nonce + cipher.encrypt(short, plaintext, self.aad(row))
    def open(self, value, row=None):
        if isinstance(value, str):
            value = unbase64url(value[4:]) if value.startswith("rs1.") else b""
        if len(value) < 52 or value[:2] != b"\xfb\x01" or len(value) > 52 + 2**28:
            raise Refused("not an envelope")
        if value[:12] != self.header:
            raise Refused("sealed with another key, suite or binding")
        cipher, short = self.cipher(self.aead_key, value[12:36])
        return cipher.decrypt(short, value[36:], self.aad(row))

def answer(ask):
    try:
        column = Column(ask["key"], ask["suite"], ask["binding"], bytes.fromhex(ask["column_id"]))
        if "plaintext" in ask:
            return {"value": column.seal(bytes.fromhex(ask["plaintext"]), ask["row_key"]).hex()}
        value = ask["value"] if isinstance(ask["value"], str) else bytes.fromhex(ask["value"]["hex"])
        return {"plaintext": column.open(value, ask["row_key"]).hex()}
    except (Refused, InvalidTag) as refused:
        return {"error": str(refused) or "does not authenticate in this place"}

if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
