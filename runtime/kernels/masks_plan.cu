// Where the masks of a batch lie in the picture and in memory (masks.cuh; masks.cu paints them).
//
// One block a picture gives each detection its box of pixels and, by a running sum, its place among the words of the
// picture's bits. The sum over all boxes is not known beforehand, so there is a fixed room; masks that do not fit are
// left out, best ones first in, and what would have been needed is told. A file of its own, because it alone needs
// barriers.
#include "masks.cuh"

namespace edgedet {

constexpr i32 kPlanThreads = 256;
constexpr i32 kMostWords = 1 << 30;

/// Words and samples of a mask.
struct Extent {
  i64 words, cells;
};

/// Running sums over a block, this thread's own extent left out; total is that of the block.
EDGEDET_DEVICE Extent sums_before(const Extent& own, Extent (&warps)[kPlanThreads / 32], Extent& total) {
  const i32 lane = static_cast<i32>(threadIdx.x % 32), warp = static_cast<i32>(threadIdx.x / 32);
  Extent sum = own;
  for (u32 step = 1; step < 32; step *= 2) {
    const Extent other = {__shfl_up_sync(0xffffffffu, sum.words, step), __shfl_up_sync(0xffffffffu, sum.cells, step)};
    if (lane >= static_cast<i32>(step)) sum = {sum.words + other.words, sum.cells + other.cells};
  }
  __syncthreads();
  if (lane == 31) warps[warp] = sum;
  __syncthreads();
  total = {0, 0};
  Extent before = {0, 0};
  for (i32 other = 0; other < kPlanThreads / 32; ++other) {
    if (other == warp) before = total;
    total = {total.words + warps[other].words, total.cells + warps[other].cells};
  }
  return {before.words + sum.words - own.words, before.cells + sum.cells - own.cells};
}

/// Gives the masks of a picture their places: one block; `place(k, record, window)` says what mask k covers.
template <typename Place>
EDGEDET_DEVICE void plan(const MaskList& masks, i32 picture, i32 count, MaskWindow* windows, i32 cell_capacity,
                         const Place& place) {
  __shared__ Extent warps[kPlanThreads / 32];
  Extent done = {0, 0};
  for (i32 start = 0; start < masks.limit; start += kPlanThreads) {
    const i32 k = start + static_cast<i32>(threadIdx.x);
    MaskRecord record = {0, 0, 0, 0, 0};
    MaskWindow window = {0, 0, 0, 0, 0, 0};
    if (k < count) place(k, record, window);
    const Extent own = {words_of(record), static_cast<i64>(window.width) * static_cast<i64>(window.height)};
    Extent total;
    const Extent before = sums_before(own, warps, total);
    const i64 word = done.words + before.words, cell = done.cells + before.cells;
    const bool fits = word + own.words <= masks.capacity && cell + own.cells <= cell_capacity;
    if (k < masks.limit) {
      record.first_word = fits ? static_cast<i32>(word) : -1;
      window.first_word = static_cast<i32>(least(word, static_cast<i64>(kMostWords)));
      window.first_cell = static_cast<i32>(least(cell, static_cast<i64>(kMostWords)));
      const u64 at = static_cast<u64>(picture) * static_cast<u64>(masks.limit) + static_cast<u64>(k);
      masks.records[at] = record;
      windows[at] = window;
    }
    done = {done.words + total.words, done.cells + total.cells};
  }
  if (threadIdx.x == 0) {
    masks.needed[2 * picture] = static_cast<i32>(least(done.words, static_cast<i64>(kMostWords)));
    masks.needed[2 * picture + 1] = static_cast<i32>(least(done.cells, static_cast<i64>(kMostWords)));
  }
}

}  // namespace edgedet

/// Plans masks inside the detections' boxes. Grid: pictures; 256 threads.
///
/// places: (pictures, 2, length) of rows and columns among the samples. windows: (pictures, limit), scratch.
/// cell_capacity: samples a picture that there is room for; 0 where they are not worked out beforehand.
extern "C" __global__ void edgedet_masks_plan(edgedet::u32* detections, edgedet::i32 pictures, edgedet::i32 limit,
                                              const edgedet::AxisPlace* places, edgedet::i32 length,
                                              edgedet::u32* masks, edgedet::i32 capacity, edgedet::MaskWindow* windows,
                                              edgedet::i32 cell_capacity) {
  using namespace edgedet;
  const DetectionList found = detection_list(detections, pictures, limit);
  const i32 picture = static_cast<i32>(blockIdx.x);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  plan(mask_list(masks, pictures, limit, capacity), picture, found.count[picture], windows, cell_capacity,
       [&](i32 k, MaskRecord& record, MaskWindow& window) {
         const float* box =
             found.xyxy + 4 * (static_cast<u64>(picture) * static_cast<u64>(limit) + static_cast<u64>(k));
         record = pixels_of({box[0], box[1], box[2], box[3]});
         if (cell_capacity > 0) window = window_of(record, rows, columns);
       });
}

/// Plans masks that are pasted squares, and says how their rows and columns are read. Grid: pictures; 256 threads.
///
/// rules: (pictures, limit, 2), for edgedet_axis_places; kept_index: (pictures, limit) into the candidates, whose boxes
/// are not clipped.
extern "C" __global__ void edgedet_masks_plan_squares(edgedet::u32* candidates, edgedet::i32 pictures,
                                                      edgedet::i32 candidate_capacity, const edgedet::i32* kept_index,
                                                      const edgedet::SourcePlacement* placements,
                                                      edgedet::u32* detections, edgedet::i32 limit, edgedet::i32 side,
                                                      float growth, edgedet::u32* masks, edgedet::i32 capacity,
                                                      edgedet::MaskWindow* windows, edgedet::AxisRule* rules) {
  using namespace edgedet;
  const CandidateList list = candidate_list(candidates, pictures, candidate_capacity);
  const DetectionList found = detection_list(detections, pictures, limit);
  const i32 picture = static_cast<i32>(blockIdx.x), count = found.count[picture];
  const SourcePlacement& at = placements[picture];
  AxisRule* own = rules + 2 * static_cast<u64>(picture) * static_cast<u64>(limit);
  for (i32 k = count + static_cast<i32>(threadIdx.x); k < limit; k += kPlanThreads)
    own[2 * k].pixels = own[2 * k + 1].pixels = -1;
  plan(mask_list(masks, pictures, limit, capacity), picture, count, windows, 0,
       [&](i32 k, MaskRecord& record, MaskWindow&) {
         const i32 index = kept_index[picture * limit + k];
         const Box box = unclipped_to_source(box_of(list, place_of(list, picture, index)), at);
         const SquarePlace place =
             place_square(box, side, growth, static_cast<i32>(at.limit_x), static_cast<i32>(at.limit_y));
         record = place.mask;
         own[2 * k] = place.rows;
         own[2 * k + 1] = place.columns;
       });
}
