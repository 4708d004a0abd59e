/* SPDX-License-Identifier: Apache-2.0
 * The keys of training: one name each on the command line, in YAML, in -s key=value and in config.yaml.
 */
#include "internal.h"

#define AT(field) offsetof(at_train_config, field)

const at_option at_train_options[] = {
    {"epochs", AT_OPT_INT, AT(epochs), "10", "passes over the training samples", "N", .min = 1, .max = 1e6},
    {"batch", AT_OPT_INT, AT(batch), "64", "samples a rank and step; all ranks together take batch x ranks", "N",
     .min = 1, .max = 65536},
    {"lr", AT_OPT_REAL, AT(lr), "0.05", "peak learning rate", "RATE", .min = 1e-12, .max = 1e3},
    {"optimizer", AT_OPT_CHOICE, AT(optimizer), "sgd", "sgd: momentum; adam: adaptive moments", .choices = "sgd|adam"},
    {"momentum", AT_OPT_REAL, AT(momentum), "0.9", "of sgd; of adam's first moment", "M", .min = 0, .max = 0.99999},
    {"nesterov", AT_OPT_BOOL, AT(nesterov), "true", "look ahead along the momentum (sgd)"},
    {"beta2", AT_OPT_REAL, AT(beta2), "0.999", "of adam's second moment", "B", .min = 0, .max = 0.9999999},
    {"epsilon", AT_OPT_REAL, AT(epsilon), "1e-8", "of adam", "E", .min = 1e-30, .max = 1},
    {"weight_decay", AT_OPT_REAL, AT(weight_decay), "0.0005", "L2 penalty on kernels, not on biases or scales", "W",
     .min = 0, .max = 10},
    {"schedule", AT_OPT_CHOICE, AT(schedule), "cosine", "of the learning rate, over all epochs",
     .choices = "constant|cosine|step|onecycle"},
    {"warmup", AT_OPT_REAL, AT(warmup), "0", "epochs of linear warm-up", "EPOCHS", .min = 0, .max = 1e6},
    {"schedule.step_epochs", AT_OPT_INT, AT(step_epochs), "10", "schedule step: every so many epochs", "N", .min = 1,
     .max = 1e6},
    {"schedule.step_factor", AT_OPT_REAL, AT(step_factor), "0.1", "schedule step: the rate is multiplied by this", "F",
     .min = 1e-9, .max = 1},
    {"precision", AT_OPT_CHOICE, AT(precision), "fp32", "of activations; weights are kept in fp32",
     .choices = "fp32|bf16"},
    {"threads", AT_OPT_INT, AT(threads), "0", "compute threads of a rank; 0: its share of the CPUs", "N", .min = 0,
     .max = 4096},
    {"seed", AT_OPT_INT, AT(seed), "1", "of weights, order, augmentation and dropout", "S", .min = 0, .max = 9e15},
    {"augment.flip", AT_OPT_BOOL, AT(augment_flip), "false", "mirror half of the images left-right"},
    {"augment.shift", AT_OPT_INT, AT(augment_shift), "0", "crop at up to this many pixels aside", "PIXELS", .min = 0,
     .max = 1024},
    {"train_limit", AT_OPT_INT, AT(train_limit), "0", "only the first N samples of each epoch's plan; 0: all", "N",
     .min = 0, .max = 9e15},
    {"normalize", AT_OPT_BOOL, AT(normalize), "true", "by the data set's own mean and deviation, inside the model"},
    {"size", AT_OPT_STRING, AT(size), "auto", "height and width of the network's input; auto: the data set's", "HxW"},
    {"cache", AT_OPT_STRING, AT(cache), "", "a folder made by `atoll cache build`; empty: made on first use", "CACHE"},
    {"checkpoint.every", AT_OPT_REAL, AT(checkpoint_every), "1", "epochs; 0: only when interrupted", "EPOCHS",
     .min = 0, .max = 1e6},
    {"checkpoint.keep", AT_OPT_INT, AT(checkpoint_keep), "2", "newest checkpoints that stay", "N", .min = 1,
     .max = 1e6},
    {"log.every", AT_OPT_INT, AT(log_every), "50", "steps between lines of metrics.jsonl; 0: only epochs", "STEPS",
     .min = 0, .max = 1e9},
    {"bucket_kib", AT_OPT_INT, AT(bucket_kib), "1024", "gradients travel in pieces of this size", "KIB", .min = 4,
     .max = 1048576},
    {0}};
