/* The shared memory of "edgedet run MODEL --shm NAME", layout 1, for C11 and C++ (GCC, Clang), little-endian Linux.
 *
 *     int fd = shm_open("/NAME", O_RDONLY, 0);
 *     const volatile struct edgedet_shm *shm = mmap(NULL, size of the file, PROT_READ, MAP_SHARED, fd, 0);
 *     if (edgedet_shm_fits(shm, size) && edgedet_shm_read(shm, &result, records, most) > 0) ...
 *
 * The layout is described in runtime/sinks/shared_memory.py.
 */
#ifndef EDGEDET_SHM_H
#define EDGEDET_SHM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { EDGEDET_SHM_VERSION = 1, EDGEDET_SHM_HEADER_SIZE = 128, EDGEDET_SHM_TRIES = 1000 };

/* One object: pixels of the frame; track_id is -1 where nothing tracks. */
struct edgedet_record {
    float left, top, right, bottom;
    float score;
    int32_t class_id;
    int64_t track_id;
};

/* What belongs to one frame; times are nanoseconds of CLOCK_MONOTONIC. */
struct edgedet_result {
    uint64_t results;      /* written so far; 0: none yet */
    int64_t written_ns;
    int64_t timestamp_ns;  /* when the camera took the picture; in a recording the position */
    uint64_t frame;
    uint32_t dropped;      /* frames lost or skipped before this one */
    uint32_t width, height;
    uint32_t count;        /* records */
    uint32_t found;        /* objects found, more than count where there was no room */
};

struct edgedet_shm {
    char magic[8];
    uint32_t version, header_size, record_size, capacity;
    uint64_t lock;         /* odd while a result is being written */
    uint64_t writer;       /* process id; 0 once it has ended: then open the memory again */
    struct edgedet_result result;
};

/* Whether the memory is what this file describes. */
static inline int edgedet_shm_fits(const volatile struct edgedet_shm *shm, size_t size) {
    char magic[8];
    if (size < EDGEDET_SHM_HEADER_SIZE) return 0;
    memcpy(magic, (const void *)shm->magic, sizeof magic);
    return memcmp(magic, "EDGEDET", 8) == 0 && shm->version == EDGEDET_SHM_VERSION &&
           shm->header_size == EDGEDET_SHM_HEADER_SIZE && shm->record_size == sizeof(struct edgedet_record) &&
           size >= EDGEDET_SHM_HEADER_SIZE + (size_t)shm->capacity * sizeof(struct edgedet_record);
}

/* Copy the newest result and at most `most` of its records, best first. 1: done; 0: none yet; -1: the writer is in the
 * middle of one and does not come to its end (it died, or has no processor): try again later. */
static inline int edgedet_shm_read(const volatile struct edgedet_shm *shm, struct edgedet_result *result,
                                   struct edgedet_record *records, uint32_t most) {
    const char *first = (const char *)shm + EDGEDET_SHM_HEADER_SIZE;
    int left;
    for (left = EDGEDET_SHM_TRIES; left > 0; left--) {
        uint64_t before = __atomic_load_n(&shm->lock, __ATOMIC_ACQUIRE);
        uint32_t count;
        if (before % 2) continue;
        memcpy(result, (const void *)&shm->result, sizeof *result);
        count = result->count < shm->capacity ? result->count : shm->capacity;
        memcpy(records, first, (count < most ? count : most) * sizeof *records);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&shm->lock, __ATOMIC_RELAXED) == before) return result->results > 0;
    }
    return -1;
}

#endif
