/* SPDX-License-Identifier: Apache-2.0
 * conv_choice: remembers on disk which candidate was fastest, a line a convolution:
 *
 *     <choice> <seconds> <key>
 *
 * The file's name holds the candidates' generation, which counts up as they change, oneDNN's version,
 * the CPU's model and the instructions that are allowed; its folder is $ATOLL_CACHE_DIR, else
 * $XDG_CACHE_HOME/atoll, else ~/.cache/atoll. It is replaced as a whole, so a reader sees the old or
 * the new one. It saves time and nothing else: a file that is missing, broken or cannot be written
 * is treated as empty.
 */
#include "conv.h"

#include <cpuid.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, GENERATION = 8 };

/* "Intel(R) Xeon(R) ..." as letters and digits. */
static void cpu_model(char *out, size_t bytes)
{
    unsigned int words[12] = {0};
    char text[49] = "";
    for (unsigned int i = 0; i < 3; i++)
        if (!__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2],
                         &words[4 * i + 3]))
            break;
    memcpy(text, words, sizeof words);
    size_t n = 0;
    for (const char *s = text; *s && n + 1 < bytes; s++) {
        bool plain =
            (*s >= '0' && *s <= '9') || (*s >= 'A' && *s <= 'Z') || (*s >= 'a' && *s <= 'z');
        if (plain || (n && out[n - 1] != '-'))
            out[n++] = plain ? *s : '-';
    }
    out[n] = '\0';
}

static char *cache_folder(void)
{
    const char *own = getenv("ATOLL_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    if (own && *own)
        return strdup(own);
    if (xdg && *xdg)
        return at_path_join(xdg, "atoll");
    return home && *home ? at_format("%s/.cache/atoll", home) : NULL;
}

static char *choice_file(void)
{
    char cpu[64], version[32];
    cpu_model(cpu, sizeof cpu);
    dnn_version(version);
    char *folder = cache_folder();
    char *path = folder ? at_format("%s/convolutions-%d-%s-%s-%s.txt", folder, GENERATION, version,
                                    cpu, dnn_isa_name(dnn_isa_allowed()))
                        : NULL;
    if (path && at_make_dirs(folder, NULL)) {
        free(path);
        path = NULL;
    }
    free(folder);
    return path;
}

/* The file's text, "" if there is none. */
static char *read_choices(const char *path)
{
    char *text = NULL;
    size_t bytes = 0;
    if (!path || at_file_read(path, MOST_BYTES, &text, &bytes, NULL))
        return strdup("");
    return text;
}

/* A line's choice if its key is the one looked for, else -1. */
static int match(const char *line, const char *key)
{
    char *end = NULL;
    long choice = strtol(line, &end, 10);
    if (end == line || *end != ' ' || choice < 0 || choice > 100)
        return -1;
    const char *seconds = end + 1;
    strtod(seconds, &end);
    if (end == seconds || *end != ' ')
        return -1;
    size_t length = strlen(key);
    bool same = !strncmp(end + 1, key, length) && (end[1 + length] == '\n' || !end[1 + length]);
    return same ? (int)choice : -1;
}

int conv_choice_find(const char *key)
{
    char *path = choice_file(), *text = read_choices(path);
    int found = -1;
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        int choice = match(line, key);
        found = choice >= 0 ? choice : found;
    }
    free(text);
    free(path);
    return found;
}

void conv_choice_add(const char *key, int choice, double seconds)
{
    char *path = choice_file(), *old = read_choices(path);
    at_text text = {0};
    size_t n = old ? strlen(old) : 0;
    if (old && n < MOST_BYTES / 2)
        at_text_add(&text, "%s%s", old, n && old[n - 1] != '\n' ? "\n" : "");
    at_text_add(&text, "%d %.6g %s\n", choice, seconds, key);
    if (path && !text.failed)
        at_file_write(path, text.data, text.length, NULL);
    at_text_fini(&text);
    free(old);
    free(path);
}
