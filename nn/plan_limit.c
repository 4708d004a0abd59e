/* SPDX-License-Identifier: Apache-2.0
 * How large a plan is before it is made, and which batch fits. A plan for sizes is compiled as any
 * other, down to the places in its arena, but times no candidates and maps nothing.
 */
#include "plan.h"

size_t at_plan_size(at_net *net, const at_plan_options *options, at_error *err)
{
    at_plan *p = plan_new_sizes(net, options, err);
    size_t bytes = p ? at_plan_bytes(p) : 0;
    at_plan_free(p);
    return bytes;
}

/* The arena grows almost in proportion to the batch: so the next guess lies on the line through the
 * largest that fits and the smallest that does not. One that cannot be compiled does not fit. */
int at_plan_largest_batch(at_net *net, const at_plan_options *options, size_t bytes)
{
    at_plan_options o = *options;
    int fits = 0, too_large = options->batch;
    size_t less = 0, more = at_plan_size(net, &o, NULL);
    while (too_large - fits > 1) {
        double part = more > less ? ((double)bytes - (double)less) / (double)(more - less) : 0.5;
        int guess = fits + (int)(part * (too_large - fits));
        guess = guess <= fits ? fits + 1 : guess >= too_large ? too_large - 1 : guess;
        o.batch = guess;
        size_t size = at_plan_size(net, &o, NULL);
        if (size && size <= bytes) {
            fits = guess;
            less = size;
        } else {
            too_large = guess;
            more = size;
        }
    }
    return fits;
}
