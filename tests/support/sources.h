/* SPDX-License-Identifier: Apache-2.0
 * Sources of pictures for ingest, written as people have them: folders, tars, idx and CIFAR files.
 *
 *     put_picture(dir, "train/cat/1.png", 7);         // the seed decides the pixels
 *     put_text(dir, "README.txt", "hello");
 *     put_tar(dir, "photos", "photos.tar.gz", true);  // of dir/photos, with that leading folder
 */
#ifndef ATOLL_TEST_SOURCES_H
#define ATOLL_TEST_SOURCES_H

#include "encode.h"

void put_file(const char *dir, const char *name, const void *bytes, size_t size);
void put_text(const char *dir, const char *name, const char *text);
/* .png or .jpg by the name's end (anything else: PNG); 8 x 6, RGB. */
void put_picture(const char *dir, const char *name, uint64_t seed);
/* classes x count pictures as dir/<split>/class_<k>/<i>.png; split "": none. */
void put_pictures(const char *dir, const char *split, int classes, int count, uint64_t seed);
/* dir/name becomes a tar of dir/folder: members in the order of their names. */
void put_tar(const char *dir, const char *folder, const char *name, bool gzip, bool leading);

/* The same as a zip. */
void put_zip(const char *dir, const char *folder, const char *name, bool leading);

typedef struct idx_spec {
    uint32_t images_magic, labels_magic; /* 0: the right one */
    uint32_t images, labels;             /* as the headers say */
    uint32_t images_there, labels_there; /* as there really are; 0: the same */
    bool gzip;
} idx_spec;
/* dir/<prefix>-images-idx3-ubyte and labels: 4 x 5 pictures, label i % 3. */
void put_idx(const char *dir, const char *prefix, const idx_spec *spec);
/* dir/name: count records of CIFAR's binary form, label i % 10 (and a coarse one before it if
 * coarse). */
void put_cifar(const char *dir, const char *name, int count, bool coarse, uint64_t seed);

/* Runs an ingest that must end well, or with this code; returns its message (static). */
at_ingest_result ingest_must(const char *source, const char *out, double val_fraction);
const char *ingest_must_fail(const at_ingest_options *o, int code);
/* The first column of the first row as text (static), "" for none or null. */
const char *query(const char *dataset, const char *sql);

#endif
