/* A rule of a Postgres server about passwords: it refuses as many of them as the file REFUSALS says, and counts down.

   Compiled for the server's VERSION (its number by 100) without its headers, which are seldom installed. */
#include <stdbool.h>
#include <stdio.h>

typedef struct {
    int length, version, most_arguments, most_index_keys, name_length, float8_by_value;
#if VERSION >= 1500
    char abi[32];
#endif
#if VERSION >= 1800
    const char *name, *module_version;
#endif
} Magic;

const Magic *Pg_magic_func(void)
{
    static const Magic magic = {
        sizeof(Magic), VERSION, 100, 32, 64, 1,
#if VERSION >= 1500
        "PostgreSQL",
#endif
    };
    return &magic;
}

enum { ERROR = 21, INVALID_PARAMETER_VALUE = 2 + (2 << 6) + (0 << 12) + (2 << 18) + (3 << 24) };

extern void (*check_password_hook)(const char *, const char *, int, long, bool);
extern bool errstart(int, const char *);
extern int errcode(int);
extern int errmsg(const char *, ...);
extern void errfinish(const char *, int, const char *);

static void check(const char *user, const char *password, int type, long until, bool is_forever)
{
    int left = 0;
    FILE *file = fopen(REFUSALS, "r+");
    if (!file)
        return;
    bool refuses = fscanf(file, "%d", &left) == 1 && left > 0;
    if (refuses) {
        rewind(file);
        fprintf(file, "%d \n", left - 1);
    }
    fclose(file);
    if (refuses && errstart(ERROR, 0)) {
        errcode(INVALID_PARAMETER_VALUE);
        errmsg("password is against the rules of the house");
        errfinish("password_rule.c", 1, "check");
    }
}

void _PG_init(void)
{
    check_password_hook = check;
}
