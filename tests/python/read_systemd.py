"""What systemd reads from an EnvironmentFile=: a JSON string a line (a file), answered with a JSON object each, null for a refusal.

Asks systemd's own code, the function that its manager loads such a file with, in the library that all its programs share.
"""
import ctypes, glob, json, sys

libraries = sorted(glob.glob("/usr/lib/systemd/libsystemd-shared-*.so") + glob.glob("/usr/lib/*/systemd/libsystemd-shared-*.so"))
if not libraries:
    sys.exit("libsystemd-shared is missing: run `./test`, or `apt-get install libsystemd-shared`")
systemd, libc = ctypes.CDLL(libraries[-1]), ctypes.CDLL(None)
libc.fmemopen.restype = ctypes.c_void_p
libc.fmemopen.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
libc.fclose.argtypes = [ctypes.c_void_p]
systemd.load_env_file.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.POINTER(ctypes.c_char_p))]
systemd.env_assignment_is_valid.argtypes = [ctypes.c_char_p]
systemd.env_assignment_is_valid.restype = ctypes.c_bool

def read(text):
    data, found = text.encode(), ctypes.POINTER(ctypes.c_char_p)()
    stream = libc.fmemopen(data, len(data), b"r")
    failed = systemd.load_env_file(stream, b"env", ctypes.byref(found)) < 0
    libc.fclose(stream)
    if failed:
        return None
    values, at = {}, 0
    while found and found[at]:
        # The manager drops what is no assignment, as here.
        if systemd.env_assignment_is_valid(found[at]):
            name, value = found[at].decode().split("=", 1)
            values[name] = value
        at += 1
    return values

for line in sys.stdin:
    print(json.dumps(read(json.loads(line))))
