/* SPDX-License-Identifier: Apache-2.0
 * The loops of picture_look.c for every CPU. */
#define LOOK_VECTOR 16
#define LOOK_TABLE  at_look_kernels_generic
#include "look_kernels.h"
