// Instance masks of a batch: combine (prototypes only) and paint, after masks_plan.cu has given each its place.
//
// Samples come from the first-level cache: prototypes are combined once a sample beforehand, not once a pixel.
#include "masks_paint.cuh"

namespace edgedet {

template <typename T>
EDGEDET_DEVICE void combine(const DetectionList& found, const MaskWindow* windows, const MaskList& masks,
                            const T* output, const T* prototypes, const CoefficientRule& rule, float* cells,
                            i32 cell_capacity) {
  const u64 picture = blockIdx.y, row = picture * static_cast<u64>(found.limit);
  const i32 total = least(masks.needed[2 * picture + 1], cell_capacity), count = found.count[picture];
  const i32 step = static_cast<i32>(gridDim.x * blockDim.x);
  const i64 plane = static_cast<i64>(rule.height) * static_cast<i64>(rule.width);
  const T* maps = prototypes + static_cast<i64>(picture) * plane * rule.count;
  for (i32 cell = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x); cell < total; cell += step) {
    const i32 k = window_at<&MaskWindow::first_cell>(windows + row, count, cell);
    if (masks.records[row + static_cast<u64>(k)].first_word < 0) continue;
    const MaskWindow window = windows[row + static_cast<u64>(k)];
    const i32 at = cell - window.first_cell;
    const i32 y = window.top + at / window.width, x = window.left + at % window.width;
    const T* coefficients = output + static_cast<i64>(picture) * rule.picture_step + rule.first +
                            found.location[row + static_cast<u64>(k)] * rule.location_step;
    cells[picture * static_cast<u64>(cell_capacity) + static_cast<u64>(cell)] =
        combined(coefficients, rule.step, maps + static_cast<i64>(y) * rule.width + x, plane, rule.count);
  }
}

template <typename T>
EDGEDET_DEVICE void paint_maps(const DetectionList& found, const MaskList& masks, const MaskWindow* windows,
                               const AxisPlace* places, i32 length, const T* maps, i32 queries, i32 height, i32 width) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const i64 plane = static_cast<i64>(height) * static_cast<i64>(width);
  paint_words(masks, windows, found.count, [&](i32 k, const MaskRecord& mask, const MaskWindow&, i32 word) {
    const i64 query = found.location[static_cast<u64>(picture) * static_cast<u64>(found.limit) + static_cast<u64>(k)];
    const MapField<T> field{maps + (static_cast<i64>(picture) * queries + query) * plane, width};
    return mask_word(field, rows + mask.top, columns + mask.left, mask, word);
  });
}

template <typename T>
EDGEDET_DEVICE void paint_squares(const DetectionList& found, const MaskList& masks, const MaskWindow* windows,
                                  const AxisPlace* places, i32 length, const T* squares, i32 locations, i32 side) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  paint_words(masks, windows, found.count, [&](i32 k, const MaskRecord& mask, const MaskWindow&, i32 word) {
    const i32 object = picture * found.limit + k;
    const i64 square = static_cast<i64>(picture) * locations + found.location[object];
    const SquareField<T> field{squares + square * side * side, side};
    return mask_word(field, rows_of(places, object, length), columns_of(places, object, length), mask, word);
  });
}

}  // namespace edgedet

/// Combines prototypes inside the masks' windows. Grid: any number of blocks, pictures.
///
/// output: holds the coefficients as `rule` says. prototypes: (pictures, count, height, width). cells: scratch.
extern "C" __global__ void edgedet_masks_combine_f32(edgedet::u32* detections, edgedet::i32 pictures,
                                                     edgedet::i32 limit, edgedet::u32* masks, edgedet::i32 capacity,
                                                     const edgedet::MaskWindow* windows, const float* output,
                                                     const float* prototypes, edgedet::CoefficientRule rule,
                                                     float* cells, edgedet::i32 cell_capacity) {
  using namespace edgedet;
  combine(detection_list(detections, pictures, limit), windows, mask_list(masks, pictures, limit, capacity), output,
          prototypes, rule, cells, cell_capacity);
}

extern "C" __global__ void edgedet_masks_combine_f16(edgedet::u32* detections, edgedet::i32 pictures,
                                                     edgedet::i32 limit, edgedet::u32* masks, edgedet::i32 capacity,
                                                     const edgedet::MaskWindow* windows, const edgedet::Half* output,
                                                     const edgedet::Half* prototypes, edgedet::CoefficientRule rule,
                                                     float* cells, edgedet::i32 cell_capacity) {
  using namespace edgedet;
  combine(detection_list(detections, pictures, limit), windows, mask_list(masks, pictures, limit, capacity), output,
          prototypes, rule, cells, cell_capacity);
}

/// Paints masks from combined prototypes. Grid: any number of blocks, pictures.
extern "C" __global__ void edgedet_masks_paint_cells(edgedet::u32* detections, edgedet::i32 pictures,
                                                     edgedet::i32 limit, edgedet::u32* masks, edgedet::i32 capacity,
                                                     const edgedet::MaskWindow* windows,
                                                     const edgedet::AxisPlace* places, edgedet::i32 length,
                                                     const float* cells, edgedet::i32 cell_capacity) {
  using namespace edgedet;
  const DetectionList found = detection_list(detections, pictures, limit);
  const i32 picture = static_cast<i32>(blockIdx.y);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const float* own = cells + static_cast<u64>(picture) * static_cast<u64>(cell_capacity);
  paint_words(mask_list(masks, pictures, limit, capacity), windows, found.count,
              [&](i32, const MaskRecord& mask, const MaskWindow& window, i32 word) {
                const CellField field{own + window.first_cell, window.left, window.top, window.width};
                return mask_word(field, rows + mask.top, columns + mask.left, mask, word);
              });
}

/// Paints masks from the maps (pictures, queries, height, width) of the queries that the detections came from.
extern "C" __global__ void edgedet_masks_paint_maps_f32(edgedet::u32* detections, edgedet::i32 pictures,
                                                        edgedet::i32 limit, edgedet::u32* masks, edgedet::i32 capacity,
                                                        const edgedet::MaskWindow* windows,
                                                        const edgedet::AxisPlace* places, edgedet::i32 length,
                                                        const float* maps, edgedet::i32 queries, edgedet::i32 height,
                                                        edgedet::i32 width) {
  using namespace edgedet;
  paint_maps(detection_list(detections, pictures, limit), mask_list(masks, pictures, limit, capacity), windows, places,
             length, maps, queries, height, width);
}

extern "C" __global__ void edgedet_masks_paint_maps_f16(edgedet::u32* detections, edgedet::i32 pictures,
                                                        edgedet::i32 limit, edgedet::u32* masks, edgedet::i32 capacity,
                                                        const edgedet::MaskWindow* windows,
                                                        const edgedet::AxisPlace* places, edgedet::i32 length,
                                                        const edgedet::Half* maps, edgedet::i32 queries,
                                                        edgedet::i32 height, edgedet::i32 width) {
  using namespace edgedet;
  paint_maps(detection_list(detections, pictures, limit), mask_list(masks, pictures, limit, capacity), windows, places,
             length, maps, queries, height, width);
}

/// Paints masks from the squares (pictures, locations, side, side) of the objects; places: (pictures, limit, 2,
/// length).
extern "C" __global__ void edgedet_masks_paint_squares_f32(edgedet::u32* detections, edgedet::i32 pictures,
                                                           edgedet::i32 limit, edgedet::u32* masks,
                                                           edgedet::i32 capacity, const edgedet::MaskWindow* windows,
                                                           const edgedet::AxisPlace* places, edgedet::i32 length,
                                                           const float* squares, edgedet::i32 locations,
                                                           edgedet::i32 side) {
  using namespace edgedet;
  paint_squares(detection_list(detections, pictures, limit), mask_list(masks, pictures, limit, capacity), windows,
                places, length, squares, locations, side);
}

extern "C" __global__ void edgedet_masks_paint_squares_f16(edgedet::u32* detections, edgedet::i32 pictures,
                                                           edgedet::i32 limit, edgedet::u32* masks,
                                                           edgedet::i32 capacity, const edgedet::MaskWindow* windows,
                                                           const edgedet::AxisPlace* places, edgedet::i32 length,
                                                           const edgedet::Half* squares, edgedet::i32 locations,
                                                           edgedet::i32 side) {
  using namespace edgedet;
  paint_squares(detection_list(detections, pictures, limit), mask_list(masks, pictures, limit, capacity), windows,
                places, length, squares, locations, side);
}
