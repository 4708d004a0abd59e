/* SPDX-License-Identifier: Apache-2.0
 * TensorBoard event files.
 *
 *     at_tensorboard *tb = at_tensorboard_open("runs/1", &err);
 *     at_tensorboard_scalar(tb, 3, "loss/train", 0.42);
 *     at_tensorboard_close(tb);
 */
#ifndef ATOLL_TRAINER_TENSORBOARD_H
#define ATOLL_TRAINER_TENSORBOARD_H

#include <atoll/base.h>

typedef struct at_tensorboard at_tensorboard;
/* Begins DIR/events.out.tfevents.<time>.<host>.<pid>.0; a resumed training begins another, which TensorBoard joins. */
at_tensorboard *at_tensorboard_open(const char *dir, at_error *err);
/* Appends one record and flushes it; what is not finite is left out. */
int at_tensorboard_scalar(at_tensorboard *tb, int64_t step, const char *tag, double value, at_error *err);
void at_tensorboard_close(at_tensorboard *tb);

#endif
