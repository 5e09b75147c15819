// Panoptic-DeepLab for a batch (panoptic_deeplab.cuh), between maps.cu, which has found each pixel's class, and nms.cu,
// which chooses among the centers that the first kernel here finds.
//
// Each pixel of a thing is held against all centers, which lie in shared memory: there are at most a few hundred, and
// most pictures have a few dozen. Pixels are counted by warps: neighbours mostly belong to the same object, so that a
// warp adds once or twice to the counters of the picture, not 32 times.
#include "panoptic_deeplab.cuh"

namespace edgedet {

/// Adds 1 to counters[at] for each lane whose `at` is not negative; all lanes of a warp take part.
EDGEDET_DEVICE void count_by_warp(i32* counters, i32 at) {
  const i32 lane = static_cast<i32>(threadIdx.x % 32);
  u32 left = __ballot_sync(0xffffffffu, at >= 0 ? 1 : 0);
  while (left != 0) {
    const i32 leader = __ffs(static_cast<i32>(left)) - 1;
    const i32 shared = __shfl_sync(0xffffffffu, at, leader);
    const u32 same = __ballot_sync(0xffffffffu, at == shared ? 1 : 0);
    if (lane == leader) atomicAdd(&counters[shared], __popc(same));
    left &= ~same;
  }
}

template <typename T>
EDGEDET_DEVICE void find_peaks(const T* heatmaps, const DeeplabRule& rule, const CandidateList& list) {
  const i32 cells = rule.center_height * rule.center_width, picture = static_cast<i32>(blockIdx.y);
  const i32 cell = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
  if (cell >= cells) return;
  const i32 row = cell / rule.center_width, column = cell % rule.center_width;
  const T* heatmap = heatmaps + static_cast<i64>(picture) * cells;
  const float score = center_score(heatmap, rule, row, column);
  if (score >= rule.threshold && is_peak(heatmap, rule, row, column, score))
    append(list, picture, {square_around(row, column, rule.window), score, 0, cell, static_cast<u32>(cell)});
}

template <typename T>
EDGEDET_DEVICE void own_pixels(const T* offsets, const DeeplabRule& rule, const DetectionList& centers,
                               const CenterPlacement* placements, const u8* flags, const u16* classes,
                               const AxisRule* rules, const AxisPlace* places, i32 length, const PartList& list,
                               u16* owners, i64 capacity) {
  __shared__ Center center[kMostParts];
  const i32 picture = static_cast<i32>(blockIdx.y), count = centers.count[picture];
  const CenterPlacement at = placements[picture];
  for (i32 k = static_cast<i32>(threadIdx.x); k < count; k += static_cast<i32>(blockDim.x))
    center[k] = center_of(centers.location[picture * centers.limit + k], rule, at);
  __syncthreads();
  const i32 width = rules[2 * picture + 1].pixels, lane = static_cast<i32>(threadIdx.x % 32);
  const i64 pixels = least(static_cast<i64>(rules[2 * picture].pixels) * width, capacity);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const T* own_offsets = offsets + static_cast<i64>(picture) * 2 * rule.offset_height * rule.offset_width;
  i32* votes = list.votes + static_cast<i64>(picture) * (rule.max_centers + 1) * rule.classes;
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 first = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x - lane; first < pixels; first += step) {
    const i64 pixel = first + lane;
    i32 vote = -1;
    if (pixel < pixels) {
      const i32 class_id = classes[picture * capacity + pixel];
      const bool thing = (flags[class_id] & kThing) != 0;
      u16 owner = thing ? kNoPart : static_cast<u16>(rule.max_centers + class_id);
      if (!thing) vote = rule.max_centers * rule.classes + class_id;
      if (thing && count > 0) {
        const i32 y = static_cast<i32>(pixel / width), x = static_cast<i32>(pixel % width);
        const Center target = pointed_at(own_offsets, rule, at, y, x, rows[y], columns[x]);
        i32 nearest = 0;
        float best = 0.0f;
        for (i32 k = 0; k < count; ++k) {
          const float down = target.y - center[k].y, across = target.x - center[k].x;
          const float away = down * down + across * across;
          if (k == 0 || away < best) {
            best = away;
            nearest = k;
          }
        }
        owner = static_cast<u16>(nearest);
        vote = nearest * rule.classes + class_id;
      }
      owners[picture * capacity + pixel] = owner;
    }
    count_by_warp(votes, vote);
  }
}

template <typename T>
EDGEDET_DEVICE void sum_probabilities(const T* semantic, const DeeplabRule& rule, const AxisRule* rules,
                                      const AxisPlace* nearest, i32 length, const PartList& list, const u16* owners,
                                      i64 capacity) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  const i32 height = rules[2 * picture].pixels, width = rules[2 * picture + 1].pixels;
  const AxisPlace *rows = rows_of(nearest, picture, length), *columns = columns_of(nearest, picture, length);
  const i32 down = sample_step(rows, height), across = sample_step(columns, width);
  const i32 sampled_rows = (height + down - 1) / down, sampled_columns = (width + across - 1) / across;
  if (sampled_columns < 1) return;  // of a picture without pixels
  const i64 plane = static_cast<i64>(rule.class_height) * rule.class_width;
  const T* logits = semantic + picture * rule.classes * plane;
  const i64 total = static_cast<i64>(sampled_rows) * sampled_columns, step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 sample = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; sample < total; sample += step) {
    const i32 y = static_cast<i32>(sample / sampled_columns) * down,
              x = static_cast<i32>(sample % sampled_columns) * across;
    const u16 owner = owners[picture * capacity + static_cast<i64>(y) * width + x];
    if (owner == kNoPart) continue;
    const i64 part = static_cast<i64>(picture) * list.parts + owner;
    const i64 cell = static_cast<i64>(rows[y].first) * rule.class_width + columns[x].first;
    atomicAdd(&list.sum[part], probability_of(logits + cell, plane, rule.classes, list.class_id[part]));
    atomicAdd(&list.samples[part], 1);
  }
}

}  // namespace edgedet

/// Lists the centers of the heatmaps (pictures, 1, height, width). Grid: blocks over the cells, pictures.
extern "C" __global__ void edgedet_deeplab_peaks_f32(const float* heatmaps, edgedet::DeeplabRule rule,
                                                     edgedet::u32* words, edgedet::i32 pictures,
                                                     edgedet::i32 capacity) {
  edgedet::find_peaks(heatmaps, rule, edgedet::candidate_list(words, pictures, capacity));
}

extern "C" __global__ void edgedet_deeplab_peaks_f16(const edgedet::Half* heatmaps, edgedet::DeeplabRule rule,
                                                     edgedet::u32* words, edgedet::i32 pictures,
                                                     edgedet::i32 capacity) {
  edgedet::find_peaks(heatmaps, rule, edgedet::candidate_list(words, pictures, capacity));
}

/// Empties the counters. Grid: blocks over the votes of a picture, pictures.
extern "C" __global__ void edgedet_deeplab_reset(edgedet::DeeplabRule rule, edgedet::u64* parts,
                                                 edgedet::i32 pictures) {
  using namespace edgedet;
  const PartList list = part_list(parts, pictures, rule);
  const i32 picture = static_cast<i32>(blockIdx.y), at = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
  const i32 votes = (rule.max_centers + 1) * rule.classes;
  if (at < votes) list.votes[static_cast<i64>(picture) * votes + at] = 0;
  if (at < list.parts) {
    list.sum[static_cast<i64>(picture) * list.parts + at] = 0;
    list.samples[static_cast<i64>(picture) * list.parts + at] = 0;
  }
}

/// Gives each pixel to its part. Grid: any number of blocks, pictures; whole warps.
///
/// offsets: (pictures, 2, height, width). centers: detections whose locations are cells of the heatmap. classes,
/// owners: (pictures, capacity). places: of rows and columns among the offsets.
extern "C" __global__ void edgedet_deeplab_own_f32(const float* offsets, edgedet::DeeplabRule rule,
                                                   edgedet::u32* centers, edgedet::i32 pictures,
                                                   const edgedet::CenterPlacement* placements, const edgedet::u8* flags,
                                                   const edgedet::u16* classes, const edgedet::AxisRule* rules,
                                                   const edgedet::AxisPlace* places, edgedet::i32 length,
                                                   edgedet::u64* parts, edgedet::u16* owners, edgedet::i64 capacity) {
  using namespace edgedet;
  own_pixels(offsets, rule, detection_list(centers, pictures, rule.max_centers), placements, flags, classes, rules,
             places, length, part_list(parts, pictures, rule), owners, capacity);
}

extern "C" __global__ void edgedet_deeplab_own_f16(const edgedet::Half* offsets, edgedet::DeeplabRule rule,
                                                   edgedet::u32* centers, edgedet::i32 pictures,
                                                   const edgedet::CenterPlacement* placements, const edgedet::u8* flags,
                                                   const edgedet::u16* classes, const edgedet::AxisRule* rules,
                                                   const edgedet::AxisPlace* places, edgedet::i32 length,
                                                   edgedet::u64* parts, edgedet::u16* owners, edgedet::i64 capacity) {
  using namespace edgedet;
  own_pixels(offsets, rule, detection_list(centers, pictures, rule.max_centers), placements, flags, classes, rules,
             places, length, part_list(parts, pictures, rule), owners, capacity);
}

/// Finds class and area of each part from the votes. Grid: pictures; 1024 threads.
extern "C" __global__ void edgedet_deeplab_classes(edgedet::DeeplabRule rule, edgedet::u64* parts,
                                                   edgedet::i32 pictures) {
  using namespace edgedet;
  const PartList list = part_list(parts, pictures, rule);
  const i32 picture = static_cast<i32>(blockIdx.x), part = static_cast<i32>(threadIdx.x);
  if (part >= list.parts) return;
  const i32* votes = list.votes + static_cast<i64>(picture) * (rule.max_centers + 1) * rule.classes;
  i32 class_id = part - rule.max_centers, area = 0;
  if (part < rule.max_centers) {
    i32 most = -1;
    for (i32 k = 0; k < rule.classes; ++k) {
      const i32 own = votes[part * rule.classes + k];
      area += own;
      if (own > most) {
        most = own;
        class_id = k;
      }
    }
  } else {
    area = votes[rule.max_centers * rule.classes + class_id];
  }
  list.class_id[static_cast<i64>(picture) * list.parts + part] = class_id;
  list.area[static_cast<i64>(picture) * list.parts + part] = area;
}

/// Sums up the probability of each part's class over some of its pixels. Grid: any number of blocks, pictures.
///
/// semantic: (pictures, classes, height, width). nearest: the cell of each row and column.
extern "C" __global__ void edgedet_deeplab_score_f32(const float* semantic, edgedet::DeeplabRule rule,
                                                     edgedet::u64* parts, edgedet::i32 pictures,
                                                     const edgedet::AxisRule* rules, const edgedet::AxisPlace* nearest,
                                                     edgedet::i32 length, const edgedet::u16* owners,
                                                     edgedet::i64 capacity) {
  using namespace edgedet;
  sum_probabilities(semantic, rule, rules, nearest, length, part_list(parts, pictures, rule), owners, capacity);
}

extern "C" __global__ void edgedet_deeplab_score_f16(const edgedet::Half* semantic, edgedet::DeeplabRule rule,
                                                     edgedet::u64* parts, edgedet::i32 pictures,
                                                     const edgedet::AxisRule* rules, const edgedet::AxisPlace* nearest,
                                                     edgedet::i32 length, const edgedet::u16* owners,
                                                     edgedet::i64 capacity) {
  using namespace edgedet;
  sum_probabilities(semantic, rule, rules, nearest, length, part_list(parts, pictures, rule), owners, capacity);
}

/// Numbers the parts that are to be segments, in their order. Grid: pictures; 1024 threads.
///
/// table: how many segments (pictures,), then (pictures, parts) of SegmentRecord.
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_deeplab_judge(edgedet::DeeplabRule rule, edgedet::u32* centers, edgedet::u64* parts, edgedet::i32 pictures,
                          const edgedet::CenterPlacement* placements, const edgedet::u8* flags, edgedet::i32* table) {
  using namespace edgedet;
  __shared__ i32 warp_count[kMostParts / 32];
  const PartList list = part_list(parts, pictures, rule);
  const DetectionList found = detection_list(centers, pictures, rule.max_centers);
  const i32 picture = static_cast<i32>(blockIdx.x), part = static_cast<i32>(threadIdx.x);
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const i64 at = static_cast<i64>(picture) * list.parts + part;
  const bool real = part < list.parts, object = part < rule.max_centers;
  bool kept = false;
  float score = 0.0f;
  if (real && list.area[at] > 0) {
    const double sum = static_cast<double>(list.sum[at]) / 4294967296.0;
    score = static_cast<float>(sum / static_cast<double>(greatest(list.samples[at], 1)));
    if (object) score *= clamped(found.score[picture * rule.max_centers + part], 0.0f, 1.0f);
    const CenterPlacement& to = placements[picture];
    const double least_area = static_cast<double>(rule.stuff_area) * (to.scale_y * to.scale_x);
    const bool small = !object && static_cast<double>(list.area[at]) < least_area;
    kept = !small && score >= rule.confidence && (flags[list.class_id[at]] & kWanted) != 0;
  }
  const u32 word = __ballot_sync(0xffffffffu, kept ? 1 : 0);
  if (lane == 0) warp_count[warp] = __popc(word);
  __syncthreads();
  i32 before = 0, total = 0;
  for (u32 other = 0; other < kMostParts / 32; ++other) {
    before += other < warp ? warp_count[other] : 0;
    total += warp_count[other];
  }
  const i32 place = before + __popc(word & ((1u << lane) - 1u));
  if (real) list.number[at] = kept ? place + 1 : 0;
  if (kept) {
    SegmentRecord* segments =
        reinterpret_cast<SegmentRecord*>(table + pictures) + static_cast<i64>(picture) * list.parts;
    const i32 class_id = list.class_id[at];
    segments[place] = {class_id, (flags[class_id] & kThing) != 0 ? 1 : 0, score, list.area[at]};
  }
  if (part == 0) table[picture] = total;
}

/// Writes the segment of each pixel. Grid: any number of blocks, pictures. map: (pictures, capacity).
extern "C" __global__ void edgedet_deeplab_relabel(edgedet::DeeplabRule rule, edgedet::u64* parts,
                                                   edgedet::i32 pictures, const edgedet::AxisRule* rules,
                                                   const edgedet::u16* owners, edgedet::i32* map,
                                                   edgedet::i64 capacity) {
  using namespace edgedet;
  const PartList list = part_list(parts, pictures, rule);
  const i32 picture = static_cast<i32>(blockIdx.y);
  const i64 area = static_cast<i64>(rules[2 * picture].pixels) * rules[2 * picture + 1].pixels;
  const i64 pixels = least(area, capacity), step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 pixel = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; pixel < pixels; pixel += step) {
    const u16 owner = owners[picture * capacity + pixel];
    map[picture * capacity + pixel] =
        owner == kNoPart ? 0 : list.number[static_cast<i64>(picture) * list.parts + owner];
  }
}
