/* SPDX-License-Identifier: Apache-2.0
 * Source: a zip with the layout of a folder; also a folder that holds just such a file. All but its
 * recognition is as of a tar. */
#include "internal.h"

#include <stdlib.h>

static bool recognise(const char *path)
{
    char *file = at_archive_find(path);
    bool zip = file && at_archive_is_zip(file);
    free(file);
    return zip;
}

const at_source_kind at_source_zip = {.name = "zip",
                                      .recognise = recognise,
                                      .open = at_members_open,
                                      .next = at_members_next,
                                      .close = at_members_close};
