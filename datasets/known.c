/* SPDX-License-Identifier: Apache-2.0
 * Well-known data sets: official addresses and the SHA-256 of what lies there. */
#include "internal.h"

static const at_known_dataset known[] = {
    {.name = "fashion-mnist",
     .title = "Fashion-MNIST: 70,000 articles of clothing, 28 x 28 grey, 10 classes",
     .url = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
     .system_path = "/usr/share/datasets/fashion-mnist", /* Debian: dataset-fashion-mnist */
     .files = {{"train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26421880},
               {"train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29515},
               {"t10k-images-idx3-ubyte.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4422102},
               {"t10k-labels-idx1-ubyte.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5148}},
     .bytes = 30878645},
    {.name = "mnist",
     .title = "MNIST: 70,000 handwritten digits, 28 x 28 grey, 10 classes",
     .url = "https://storage.googleapis.com/cvdf-datasets/mnist/",
     .files = {{"train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9912422},
               {"train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881},
               {"t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877},
               {"t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542}},
     .bytes = 11594722},
    {.name = "cifar10",
     .title = "CIFAR-10: 60,000 pictures of animals and vehicles, 32 x 32 RGB, 10 classes",
     .url = "https://www.cs.toronto.edu/~kriz/",
     .files = {{"cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170052171}},
     .bytes = 170052171},
    {.name = "cifar100",
     .title = "CIFAR-100: 60,000 pictures, 32 x 32 RGB, 100 classes",
     .url = "https://www.cs.toronto.edu/~kriz/",
     .files = {{"cifar-100-binary.tar.gz",
                "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168513733}},
     .bytes = 168513733},
};

const at_known_dataset *at_known_datasets(size_t *n)
{
    *n = sizeof known / sizeof *known;
    return known;
}
