/* Stands in for NVIDIA's libnvbufsurface: the structs as nvbufsurface.h describes them, laid out by a C compiler, and
 * functions that "map" what a test has put into memory. It proves offsets and calls, nothing about a Jetson. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PLANES = 4, PADDING = 4, SURFACE_ARRAY = 4 };

struct plane_params {
  uint32_t num_planes, width[PLANES], height[PLANES], pitch[PLANES], offset[PLANES], psize[PLANES], bytes[PLANES];
  void *reserved[PADDING * PLANES];
};
struct mapped {
  void *addr[PLANES];
  void *egl;
  void *reserved[PADDING];
};
struct params {
  uint32_t width, height, pitch;
  int color_format, layout;
  uint64_t buffer_desc;
  uint32_t data_size;
  void *data_ptr;
  struct plane_params planes;
  struct mapped mapped;
  void *reserved[PADDING];
};
struct surface {
  uint32_t gpu_id, batch_size, num_filled;
  bool is_contiguous;
  int mem_type;
  struct params *list;
  void *reserved[PADDING];
};

const size_t sizes[] = {
    sizeof(struct plane_params), sizeof(struct mapped), sizeof(struct params), sizeof(struct surface),
    offsetof(struct params, buffer_desc), offsetof(struct params, planes), offsetof(struct params, mapped),
    offsetof(struct plane_params, pitch), offsetof(struct surface, mem_type), offsetof(struct surface, list)};

int calls[3];
int fail_map;

/* NV12 of any size: U and V follow the rows of Y, in rows of the same pitch. */
struct surface *make(uint32_t width, uint32_t height, uint32_t pitch, int fd) {
  struct surface *made = calloc(1, sizeof *made);
  struct params *one = made->list = calloc(1, sizeof *one);
  made->batch_size = made->num_filled = 1;
  made->mem_type = SURFACE_ARRAY;
  one->width = width, one->height = height, one->pitch = pitch, one->buffer_desc = (uint64_t)fd;
  one->data_size = pitch * (height + (height + 1) / 2);
  one->data_ptr = malloc(one->data_size);
  for (uint32_t at = 0; at < one->data_size; at++) ((uint8_t *)one->data_ptr)[at] = (uint8_t)(at * 7);
  one->planes.num_planes = 2;
  for (int plane = 0; plane < 2; plane++) one->planes.pitch[plane] = pitch;
  one->planes.offset[1] = pitch * height;
  return made;
}

void set(struct surface *surface, const char *field, int value) {
  if (!strcmp(field, "batch_size")) surface->batch_size = (uint32_t)value;
  if (!strcmp(field, "mem_type")) surface->mem_type = value;
  if (!strcmp(field, "width")) surface->list->width = (uint32_t)value;
  if (!strcmp(field, "layout")) surface->list->layout = value;
  if (!strcmp(field, "num_planes")) surface->list->planes.num_planes = (uint32_t)value;
  if (!strcmp(field, "pitch")) surface->list->planes.pitch[1] = (uint32_t)value;
}

int NvBufSurfaceMap(struct surface *surface, int index, int plane, int flags) {
  calls[0]++;
  if (index != 0 || plane != -1 || flags != 0 || fail_map) return -1;
  struct params *one = surface->list;
  for (uint32_t at = 0; at < one->planes.num_planes; at++)
    one->mapped.addr[at] = (uint8_t *)one->data_ptr + one->planes.offset[at];
  return 0;
}

int NvBufSurfaceSyncForCpu(struct surface *surface, int index, int plane) {
  calls[1]++;
  return surface && index == 0 && plane == -1 ? 0 : -1;
}

int NvBufSurfaceUnMap(struct surface *surface, int index, int plane) {
  calls[2]++;
  memset(surface->list->mapped.addr, 0, sizeof surface->list->mapped.addr);
  return index == 0 && plane == -1 ? 0 : -1;
}
