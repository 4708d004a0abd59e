/* SPDX-License-Identifier: Apache-2.0
 * Finds a sampler's row by name. */
#include "internal.h"

#include <string.h>

#define SAMPLER(name) extern const at_sampler_kind at_sampler_kind_##name;
#include "samplers.def"
#undef SAMPLER

static const at_sampler_kind *const kinds[] = {
#define SAMPLER(name) &at_sampler_kind_##name,
#include "samplers.def"
#undef SAMPLER
};
enum { KINDS = sizeof kinds / sizeof *kinds };

const at_sampler_kind *at_sampler_at(size_t i)
{
    return i < KINDS ? kinds[i] : NULL;
}

const at_sampler_kind *at_sampler_find(const char *name, at_error *err)
{
    const char *names[KINDS];
    for (size_t i = 0; i < KINDS; i++) {
        if (strcmp(kinds[i]->name, name) == 0)
            return kinds[i];
        names[i] = kinds[i]->name;
    }
    const char *near = at_nearest(name, names, KINDS);
    at_fail(err, AT_EINPUT, "unknown sampler \"%s\"%s%s%s", name, near ? "; did you mean \"" : "",
            near ? near : "", near ? "\"?" : "");
    return NULL;
}
