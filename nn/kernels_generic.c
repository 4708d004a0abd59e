/* SPDX-License-Identifier: Apache-2.0
 * kernels_generic: the kernels for any CPU that the compiler was told of.
 */
#define VF         4
#define TABLE      nn_kernels_generic
#define TABLE_NAME "generic"
#include "kernels_table.h"
