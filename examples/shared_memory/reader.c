/* Firmware's side: print every new result, until the writer ends.
 *
 *     cc -O2 -Wall -Wextra -o reader reader.c && ./reader camera0
 *     edgedet run model.onnx --source 0 --shm camera0        (in another terminal)
 */
#define _POSIX_C_SOURCE 200809L
#include "edgedet_shm.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 300 };

static const struct edgedet_shm *map(const char *name, size_t *size) {
    char path[256];
    struct stat status;
    int fd;
    void *memory;
    snprintf(path, sizeof path, "/%s", name);
    fd = shm_open(path, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_size < EDGEDET_SHM_HEADER_SIZE) return NULL;
    *size = (size_t)status.st_size;
    memory = mmap(NULL, *size, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return memory == MAP_FAILED ? NULL : memory;
}

int main(int argc, char **argv) {
    static struct edgedet_record records[MOST];
    struct edgedet_result result;
    uint64_t seen = 0;
    size_t size = 0;
    const struct edgedet_shm *shm = argc == 2 ? map(argv[1], &size) : NULL;
    if (shm == NULL || !edgedet_shm_fits(shm, size)) {
        fprintf(stderr, "usage: %s NAME, of a running: edgedet run MODEL --shm NAME\n", argv[0]);
        return 1;
    }
    for (;;) {
        uint64_t writer = __atomic_load_n(&shm->writer, __ATOMIC_ACQUIRE);
        if (edgedet_shm_read(shm, &result, records, MOST) > 0 && result.results != seen) {
            uint32_t i, count = result.count < MOST ? result.count : MOST;
            seen = result.results;
            printf("frame %" PRIu64 ", %" PRIu32 " objects\n", result.frame, result.found);
            for (i = 0; i < count; i++)
                printf("  class %" PRId32 " score %.3f box %.1f %.1f %.1f %.1f track %" PRId64 "\n", records[i].class_id,
                       (double)records[i].score, (double)records[i].left, (double)records[i].top,
                       (double)records[i].right, (double)records[i].bottom, records[i].track_id);
            fflush(stdout);
        }
        if (writer == 0) return 0;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}
