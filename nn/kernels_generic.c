/* SPDX-License-Identifier: Apache-2.0
 * kernels_generic: the kernels for any x86-64 CPU: compiled with the build's own flags, which name
 * no instruction set (the test lint.instructions looks).
 */
#define VF         4
#define TABLE      nn_kernels_generic
#define TABLE_NAME "generic"
#include "kernels_table.h"
