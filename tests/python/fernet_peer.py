"""PyCA's Fernet, for tests that hold reseal's against it.

As a program, JSON lines in and out: `do` is "seal" (key, created, plaintext as hex), "open" (keys, token) or "rotate"
(keys, token; the first key seals, as MultiFernet.rotate does). Answers token, or plaintext and created, or refused.
"""
import json
import sys

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


def answer(question):
    if question["do"] == "seal":
        token = Fernet(question["key"]).encrypt_at_time(bytes.fromhex(question["plaintext"]), question["created"])
        return {"token": token.decode()}
    fernet = MultiFernet([Fernet(key) for key in question["keys"]])
    token = question["token"].encode()
    try:
        if question["do"] == "rotate":
            return {"token": fernet.rotate(token).decode()}
        plaintext = fernet.decrypt(token)
    except InvalidToken:
        return {"refused": True}
    created = Fernet(question["keys"][0]).extract_timestamp(token) if len(question["keys"]) == 1 else None
    return {"plaintext": plaintext.hex(), "created": created}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
