/* SPDX-License-Identifier: Apache-2.0
 * Model files with scores that a test in Python holds against another program. With
 * ATOLL_ARTEFACTS=DIR they are left there; else they are made in a folder that goes again.
 *
 *     cmocka_run_group_tests(tests, artefacts_setup, artefacts_teardown)
 *     float *out = artefacts_infer(net, pixels, n, batch);    // logits [n,K], then scores [n,K]
 *     artefacts_write_scores("lenet", net, pixels, out, n);
 */
#ifndef ATOLL_TEST_ARTEFACTS_H
#define ATOLL_TEST_ARTEFACTS_H

#include <atoll/nn.h>

int artefacts_setup(void **state);
int artefacts_teardown(void **state);
bool artefacts_wanted(void);                /* somebody asked for them */
char *artefacts_path(const char *name);     /* in their folder; free it */
void must(bool good, const at_error *err);  /* else fails the test with the message */
size_t artefacts_pixels(const at_net *net); /* of one image */
/* n is a multiple of the batch; malloc'd. */
float *artefacts_infer(at_net *net, const uint8_t *pixels, size_t n, int batch);
/* NAME.scores.h5: pixels [n,H,W,C], logits [n,K], scores [n,K]. */
void artefacts_write_scores(const char *name, const at_net *net, const uint8_t *pixels,
                            const float *out, size_t n);
/* The names "class 0", "class 1", ... of as many as the network has, and its own. Free the names
 * with artefacts_info_fini. */
at_model_info artefacts_info(const char *name, const at_net *net);
void artefacts_info_fini(at_model_info *info);

#endif
