// Semantic maps of a batch (maps.cuh): a sweep that leaves the class of each sample, then one that enlarges it.
//
// Two kernels and not one, so that a pixel need not compare all classes at its four samples: a picture of 1080p has a
// hundred times the pixels of a 128x128 field. Networks that end in ArgMax skip the first sweep's comparison and the
// second's mixing, and share the rest.
#include "maps.cuh"

namespace edgedet {

/// The shape of a batch of maps in source pixels; capacity: pixels that each picture has room for.
struct MapShape {
  const AxisRule* rules;    // (pictures, 2), rows and columns
  const AxisPlace* places;  // (pictures, 2, length)
  i32 length;
  i64 capacity;
};

/// Calls `label(row, column)` for each pixel of a picture and keeps what it answers. Grid: blocks, pictures.
template <typename Id, typename Label>
EDGEDET_DEVICE void label_pixels(const MapShape& shape, Id* map, const Label& label) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  const i32 height = shape.rules[2 * picture].pixels, width = shape.rules[2 * picture + 1].pixels;
  const AxisPlace *rows = rows_of(shape.places, picture, shape.length),
                  *columns = columns_of(shape.places, picture, shape.length);
  const i64 pixels = least(static_cast<i64>(height) * width, shape.capacity);
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 pixel = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; pixel < pixels; pixel += step)
    map[picture * shape.capacity + pixel] = static_cast<Id>(label(rows[pixel / width], columns[pixel % width]));
}

template <typename T>
EDGEDET_DEVICE void find_best(const T* scores, const FieldRule& rule, u16* best) {
  const i64 picture = blockIdx.y, samples = static_cast<i64>(rule.height) * rule.width;
  const i64 sample = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (sample >= samples) return;
  const ScoreField<T> field{scores + picture * rule.picture_step, rule};
  best[picture * samples + sample] =
      static_cast<u16>(best_class(field, static_cast<i32>(sample / rule.width), static_cast<i32>(sample % rule.width)));
}

template <typename T, typename Id>
EDGEDET_DEVICE void label_classes(const T* scores, const FieldRule& rule, const u16* best, const MapShape& shape,
                                  Id* map) {
  const i64 picture = blockIdx.y;
  const ScoreField<T> field{scores + picture * rule.picture_step, rule};
  const u16* own = best + picture * rule.height * rule.width;
  label_pixels(shape, map,
               [&](const AxisPlace& row, const AxisPlace& column) { return class_at(field, own, row, column); });
}

template <typename T>
EDGEDET_DEVICE void read_ids(const T* ids, const FieldRule& rule, u16* best, i32* wrong) {
  const i64 picture = blockIdx.y, samples = static_cast<i64>(rule.height) * rule.width;
  const i64 sample = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (sample >= samples) return;
  const i64 id = class_of(ids[picture * rule.picture_step + sample]);
  if (id < 0 || id >= rule.classes) {
    const i64 told = clamped(id, static_cast<i64>(-2147483647), static_cast<i64>(2147483647));
    atomicMin(&wrong[2 * picture], static_cast<i32>(told));
    atomicMax(&wrong[2 * picture + 1], static_cast<i32>(told));
  }
  best[picture * samples + sample] = static_cast<u16>(id);
}

}  // namespace edgedet

/// The best class of each sample. Grid: blocks over the samples, pictures. best: (pictures, height, width).
extern "C" __global__ void edgedet_maps_best_f32(const float* scores, edgedet::FieldRule rule, edgedet::u16* best) {
  edgedet::find_best(scores, rule, best);
}

extern "C" __global__ void edgedet_maps_best_f16(const edgedet::Half* scores, edgedet::FieldRule rule,
                                                 edgedet::u16* best) {
  edgedet::find_best(scores, rule, best);
}

/// The class of each pixel. Grid: blocks, pictures. map: (pictures, capacity).
extern "C" __global__ void edgedet_maps_label_f32_u8(const float* scores, edgedet::FieldRule rule,
                                                     const edgedet::u16* best, const edgedet::AxisRule* rules,
                                                     const edgedet::AxisPlace* places, edgedet::i32 length,
                                                     edgedet::u8* map, edgedet::i64 capacity) {
  edgedet::label_classes(scores, rule, best, {rules, places, length, capacity}, map);
}

extern "C" __global__ void edgedet_maps_label_f16_u8(const edgedet::Half* scores, edgedet::FieldRule rule,
                                                     const edgedet::u16* best, const edgedet::AxisRule* rules,
                                                     const edgedet::AxisPlace* places, edgedet::i32 length,
                                                     edgedet::u8* map, edgedet::i64 capacity) {
  edgedet::label_classes(scores, rule, best, {rules, places, length, capacity}, map);
}

extern "C" __global__ void edgedet_maps_label_f32_u16(const float* scores, edgedet::FieldRule rule,
                                                      const edgedet::u16* best, const edgedet::AxisRule* rules,
                                                      const edgedet::AxisPlace* places, edgedet::i32 length,
                                                      edgedet::u16* map, edgedet::i64 capacity) {
  edgedet::label_classes(scores, rule, best, {rules, places, length, capacity}, map);
}

extern "C" __global__ void edgedet_maps_label_f16_u16(const edgedet::Half* scores, edgedet::FieldRule rule,
                                                      const edgedet::u16* best, const edgedet::AxisRule* rules,
                                                      const edgedet::AxisPlace* places, edgedet::i32 length,
                                                      edgedet::u16* map, edgedet::i64 capacity) {
  edgedet::label_classes(scores, rule, best, {rules, places, length, capacity}, map);
}

/// Forgets wrong ids. Grid: blocks over the pictures. wrong: (pictures, 2) lowest and highest id that is no class.
extern "C" __global__ void edgedet_maps_reset_ids(edgedet::i32* wrong, edgedet::i32 pictures) {
  const edgedet::i32 picture = static_cast<edgedet::i32>(blockIdx.x * blockDim.x + threadIdx.x);
  if (picture >= pictures) return;
  wrong[2 * picture] = 2147483647;
  wrong[2 * picture + 1] = -2147483647;
}

/// Reads the ids of a network that ends in ArgMax. Grid: blocks over the samples, pictures.
extern "C" __global__ void edgedet_maps_ids_i64(const edgedet::i64* ids, edgedet::FieldRule rule, edgedet::u16* best,
                                                edgedet::i32* wrong) {
  edgedet::read_ids(ids, rule, best, wrong);
}

extern "C" __global__ void edgedet_maps_ids_i32(const edgedet::i32* ids, edgedet::FieldRule rule, edgedet::u16* best,
                                                edgedet::i32* wrong) {
  edgedet::read_ids(ids, rule, best, wrong);
}

extern "C" __global__ void edgedet_maps_ids_u8(const edgedet::u8* ids, edgedet::FieldRule rule, edgedet::u16* best,
                                               edgedet::i32* wrong) {
  edgedet::read_ids(ids, rule, best, wrong);
}

extern "C" __global__ void edgedet_maps_ids_f32(const float* ids, edgedet::FieldRule rule, edgedet::u16* best,
                                                edgedet::i32* wrong) {
  edgedet::read_ids(ids, rule, best, wrong);
}

extern "C" __global__ void edgedet_maps_ids_f16(const edgedet::Half* ids, edgedet::FieldRule rule, edgedet::u16* best,
                                                edgedet::i32* wrong) {
  edgedet::read_ids(ids, rule, best, wrong);
}

/// The id of the sample that each pixel's middle lies in. Grid: blocks, pictures.
extern "C" __global__ void edgedet_maps_nearest_u8(const edgedet::u16* best, edgedet::FieldRule rule,
                                                   const edgedet::AxisRule* rules, const edgedet::AxisPlace* places,
                                                   edgedet::i32 length, edgedet::u8* map, edgedet::i64 capacity) {
  using namespace edgedet;
  const u16* own = best + static_cast<i64>(blockIdx.y) * rule.height * rule.width;
  label_pixels({rules, places, length, capacity}, map, [&](const AxisPlace& row, const AxisPlace& column) {
    return own[row.first * rule.width + column.first];
  });
}

extern "C" __global__ void edgedet_maps_nearest_u16(const edgedet::u16* best, edgedet::FieldRule rule,
                                                    const edgedet::AxisRule* rules, const edgedet::AxisPlace* places,
                                                    edgedet::i32 length, edgedet::u16* map, edgedet::i64 capacity) {
  using namespace edgedet;
  const u16* own = best + static_cast<i64>(blockIdx.y) * rule.height * rule.width;
  label_pixels({rules, places, length, capacity}, map, [&](const AxisPlace& row, const AxisPlace& column) {
    return own[row.first * rule.width + column.first];
  });
}
