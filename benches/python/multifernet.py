"""Rotates three Fernet columns as a careful Python program would: batches by key, MultiFernet.rotate, one of three
ways to write. Arguments: conninfo, table, method, old key, new key. Prints one JSON object."""
import json, resource, sys, time

import psycopg
from cryptography.fernet import Fernet, MultiFernet

BATCH = 5000
conninfo, table, method, old, new = sys.argv[1:6]
fernet = MultiFernet([Fernet(new), Fernet(old)])


def rotate(row):
    return (row[0], *(fernet.rotate(value.encode()).decode() for value in row[1:]))


def executemany(cursor, rows):
    cursor.executemany(f"UPDATE {table} SET a = %s, b = %s, c = %s WHERE id = %s",
                       [(a, b, c, id) for id, a, b, c in rows])


def unnest(cursor, rows):
    cursor.execute(f"UPDATE {table} SET a = u.a, b = u.b, c = u.c"
                   " FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS u(id, a, b, c)"
                   f" WHERE {table}.id = u.id", [list(column) for column in zip(*rows)])


def copy(cursor, rows):
    cursor.execute("CREATE TEMP TABLE IF NOT EXISTS u (id bigint, a text, b text, c text) ON COMMIT DELETE ROWS")
    with cursor.copy("COPY u FROM STDIN") as into:
        for row in rows:
            into.write_row(row)
    cursor.execute(f"UPDATE {table} SET a = u.a, b = u.b, c = u.c FROM u WHERE {table}.id = u.id")


write = {"executemany": executemany, "unnest": unnest, "copy": copy}[method]
begin, last, total = time.monotonic(), 0, 0
with psycopg.connect(conninfo) as connection, connection.cursor() as cursor:
    while rows := cursor.execute(f"SELECT id, a, b, c FROM {table} WHERE id > %s ORDER BY id LIMIT {BATCH}",
                                 [last]).fetchall():
        write(cursor, [rotate(row) for row in rows])
        connection.commit()
        last, total = rows[-1][0], total + len(rows)
seconds = time.monotonic() - begin
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "rows": total, "cpu_seconds": usage.ru_utime + usage.ru_stime,
                  "peak_rss_mib": None}))
