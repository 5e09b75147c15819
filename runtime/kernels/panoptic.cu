// Panoptic maps of a batch (panoptic.cuh): answer, share out and judge (once or twice), relabel.
//
// Answer: one block a picture, a thread a query; those that take part are packed together in their order. Sharing out
// reads each mask that takes part at each pixel: neighbouring threads take neighbouring pixels and read the same
// samples, and a warp counts its pixels by ballots into shared memory, so that global counters are touched once a
// block. Judging is one block a picture: the table of segments is made in the order of the queries, a thing each, stuff
// by class. Where small segments are dropped before the pixels are shared out (DETR's rule), a second round gives
// theirs to the others, which can only gain by it: none becomes small, so two rounds are always enough. A picture that
// is settled after the first leaves the second at once.
#include "panoptic.cuh"

namespace edgedet {

template <typename T>
EDGEDET_DEVICE void answer_queries(const T* logits, const QueryRule& rule, const QueryList& list) {
  __shared__ i32 warp_count[kMostQueries / 32];
  const i32 picture = static_cast<i32>(blockIdx.x), query = static_cast<i32>(threadIdx.x);
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Answer answer = {0, nan_value()};
  if (query < rule.queries)
    answer = best_answer(logits + (static_cast<i64>(picture) * rule.queries + query) * rule.columns, rule.columns);
  const bool takes_part = query < rule.queries && answer.class_id != rule.columns - 1 && answer.score >= rule.score;
  const u32 word = __ballot_sync(0xffffffffu, takes_part ? 1 : 0);
  if (lane == 0) warp_count[warp] = __popc(word);
  __syncthreads();
  i32 before = 0, total = 0;
  for (u32 other = 0; other < kMostQueries / 32; ++other) {
    before += other < warp ? warp_count[other] : 0;
    total += warp_count[other];
  }
  const i32 row = picture * rule.queries;
  if (takes_part) {
    const i32 at = row + before + __popc(word & ((1u << lane) - 1u));
    list.query[at] = query;
    list.class_id[at] = answer.class_id;
    list.score[at] = answer.score;
    list.running[at] = 1;
  }
  if (query < rule.queries) list.won[row + query] = list.claimed[row + query] = list.owned[row + query] = 0;
  if (query == 0) {
    list.count[picture] = total;
    list.settled[picture] = total == 0 ? 1 : 0;
  }
}

/// The pixel that a warp's first thread takes in turn, for all of them to go on or end together.
struct WarpPixels {
  i64 first, step;
};

EDGEDET_DEVICE WarpPixels warp_pixels() {
  const i64 thread = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x;
  return {thread - threadIdx.x % 32, static_cast<i64>(gridDim.x) * blockDim.x};
}

template <typename T>
EDGEDET_DEVICE void share_out(const T* masks, const QueryRule& rule, const QueryList& list, const AxisRule* rules,
                              const AxisPlace* places, i32 length, u16* owners, i64 capacity) {
  __shared__ i32 won[kMostQueries], claimed[kMostQueries], owned[kMostQueries];
  const i32 picture = static_cast<i32>(blockIdx.y), count = list.count[picture];
  if (list.settled[picture] != 0) return;
  for (i32 k = static_cast<i32>(threadIdx.x); k < count; k += static_cast<i32>(blockDim.x))
    won[k] = claimed[k] = owned[k] = 0;
  __syncthreads();
  const i32 width = rules[2 * picture + 1].pixels, lane = static_cast<i32>(threadIdx.x % 32);
  const i64 pixels = least(static_cast<i64>(rules[2 * picture].pixels) * width, capacity);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const i64 plane = static_cast<i64>(rule.height) * rule.width;
  const T* own_masks = masks + picture * rule.queries * plane;
  const WarpPixels warp = warp_pixels();
  for (i64 first = warp.first; first < pixels; first += warp.step) {
    const i64 pixel = least(first + lane, pixels - 1);
    const bool real = first + lane < pixels;
    const AxisPlace row = rows[pixel / width], column = columns[pixel % width];
    i32 winner = -1;
    float best = 0.0f, reached = 0.0f;
    for (i32 k = 0; k < count; ++k) {
      const i32 at = picture * rule.queries + k;
      if (list.running[at] == 0) continue;
      const MapField<T> field{own_masks + list.query[at] * plane, rule.width};
      const float logit = logit_at(field, row, column);
      const u32 reaching = __ballot_sync(0xffffffffu, real && logit >= rule.mask ? 1 : 0);
      if (lane == 0 && reaching != 0) atomicAdd(&claimed[k], __popc(reaching));
      const float rank = rule.weighted != 0 ? list.score[at] * sigmoid(logit) : logit;
      if (winner < 0 || rank > best) {
        winner = k;
        best = rank;
        reached = logit;
      }
    }
    // A picture that is not settled has a query that is running, so that each of its pixels has a winner.
    if (!real || winner < 0) continue;
    const bool is_owned = rule.weighted == 0 || !(reached < rule.mask);
    atomicAdd(&won[winner], 1);
    if (is_owned) atomicAdd(&owned[winner], 1);
    owners[picture * capacity + pixel] = is_owned ? static_cast<u16>(winner) : kNoQuery;
  }
  __syncthreads();
  for (i32 k = static_cast<i32>(threadIdx.x); k < count; k += static_cast<i32>(blockDim.x)) {
    const i32 at = picture * rule.queries + k;
    if (won[k] != 0) atomicAdd(&list.won[at], won[k]);
    if (claimed[k] != 0) atomicAdd(&list.claimed[at], claimed[k]);
    if (owned[k] != 0) atomicAdd(&list.owned[at], owned[k]);
  }
}

}  // namespace edgedet

/// Finds the queries that take part. Grid: pictures; 1024 threads. logits: (pictures, queries, columns).
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_panoptic_answer_f32(const float* logits, edgedet::QueryRule rule, edgedet::i32* words,
                                edgedet::i32 pictures) {
  edgedet::answer_queries(logits, rule, edgedet::query_list(words, pictures, rule.queries));
}

extern "C" __global__ void __launch_bounds__(1024)
    edgedet_panoptic_answer_f16(const edgedet::Half* logits, edgedet::QueryRule rule, edgedet::i32* words,
                                edgedet::i32 pictures) {
  edgedet::answer_queries(logits, rule, edgedet::query_list(words, pictures, rule.queries));
}

/// Gives each pixel of pictures that are not settled to a query. Grid: any number of blocks, pictures; whole warps.
///
/// masks: (pictures, queries, height, width). rules, places: rows and columns of the pictures. owners: (pictures,
/// capacity), which of the queries that take part.
extern "C" __global__ void edgedet_panoptic_share_f32(const float* masks, edgedet::QueryRule rule, edgedet::i32* words,
                                                      edgedet::i32 pictures, const edgedet::AxisRule* rules,
                                                      const edgedet::AxisPlace* places, edgedet::i32 length,
                                                      edgedet::u16* owners, edgedet::i64 capacity) {
  using namespace edgedet;
  share_out(masks, rule, query_list(words, pictures, rule.queries), rules, places, length, owners, capacity);
}

extern "C" __global__ void edgedet_panoptic_share_f16(const edgedet::Half* masks, edgedet::QueryRule rule,
                                                      edgedet::i32* words, edgedet::i32 pictures,
                                                      const edgedet::AxisRule* rules, const edgedet::AxisPlace* places,
                                                      edgedet::i32 length, edgedet::u16* owners,
                                                      edgedet::i64 capacity) {
  using namespace edgedet;
  share_out(masks, rule, query_list(words, pictures, rule.queries), rules, places, length, owners, capacity);
}

/// Drops queries, and numbers the segments of the others where the picture is settled. Grid: pictures; 1024 threads.
///
/// flags: (classes,) ClassFlag. table: how many segments (pictures,), then (pictures, queries) of SegmentRecord.
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_panoptic_judge(edgedet::QueryRule rule, edgedet::i32* words, edgedet::i32 pictures,
                           const edgedet::u8* flags, edgedet::i32* table) {
  using namespace edgedet;
  __shared__ i32 class_area[kMostClasses], class_segment[kMostClasses], number[kMostQueries], kept[kMostQueries];
  __shared__ i32 ids[kMostQueries], areas[kMostQueries];
  __shared__ float scores[kMostQueries];
  const QueryList list = query_list(words, pictures, rule.queries);
  const i32 picture = static_cast<i32>(blockIdx.x), k = static_cast<i32>(threadIdx.x);
  const i32 count = list.count[picture], row = picture * rule.queries, at = row + k;
  SegmentRecord* segments = reinterpret_cast<SegmentRecord*>(table + pictures) + row;
  if (list.settled[picture] != 0) {
    if (count == 0 && k == 0) table[picture] = 0;
    return;
  }
  const bool running = k < count && list.running[at] != 0;
  const i32 id = running ? list.class_id[at] : 0, area = running ? list.owned[at] : 0;
  class_area[k] = class_segment[k] = number[k] = 0;
  __syncthreads();
  if (running) atomicAdd(&class_area[id], area);
  __syncthreads();
  bool keep = false;
  if (running && rule.weighted != 0) {
    const double least_won = rule.overlap * static_cast<double>(list.claimed[at]);
    keep = static_cast<double>(list.won[at]) >= least_won && list.claimed[at] > 0 && area > rule.smallest;
  } else if (running) {
    keep = ((flags[id] & kThing) != 0 ? area : class_area[id]) > rule.smallest;
  }
  const i32 dropped = __syncthreads_count(running && !keep ? 1 : 0), left = __syncthreads_count(keep ? 1 : 0);
  if (rule.weighted == 0 && dropped > 0 && left > 0) {
    if (k < count) {
      list.running[at] = keep ? 1 : 0;
      list.won[at] = list.claimed[at] = list.owned[at] = 0;
    }
    return;
  }

  kept[k] = keep && area > 0 && (flags[id] & kWanted) != 0 ? 1 : 0;
  ids[k] = id;
  areas[k] = area;
  scores[k] = running ? list.score[at] : 0.0f;
  __syncthreads();
  if (k == 0) {
    i32 found = 0;
    for (i32 query = 0; query < count; ++query) {
      if (kept[query] == 0) continue;
      const bool thing = (flags[ids[query]] & kThing) != 0;
      const i32 known = thing ? 0 : class_segment[ids[query]];
      if (known != 0) {
        SegmentRecord& segment = segments[known - 1];
        segment.score = greatest(segment.score, scores[query]);
        segment.area += areas[query];
        number[query] = known;
        continue;
      }
      segments[found++] = {ids[query], thing ? 1 : 0, scores[query], areas[query]};
      number[query] = found;
      if (!thing) class_segment[ids[query]] = found;
    }
    table[picture] = found;
    list.settled[picture] = 1;
  }
  __syncthreads();
  if (k < count) list.number[at] = number[k];
}

/// Writes the segment of each pixel. Grid: any number of blocks, pictures. map: (pictures, capacity).
extern "C" __global__ void edgedet_panoptic_relabel(edgedet::QueryRule rule, edgedet::i32* words, edgedet::i32 pictures,
                                                    const edgedet::AxisRule* rules, const edgedet::u16* owners,
                                                    edgedet::i32* map, edgedet::i64 capacity) {
  using namespace edgedet;
  const QueryList list = query_list(words, pictures, rule.queries);
  const i32 picture = static_cast<i32>(blockIdx.y);
  const i64 area = static_cast<i64>(rules[2 * picture].pixels) * rules[2 * picture + 1].pixels;
  const i64 pixels = least(area, capacity), step = static_cast<i64>(gridDim.x) * blockDim.x;
  const bool settled = list.settled[picture] != 0 && list.count[picture] > 0;
  for (i64 pixel = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; pixel < pixels; pixel += step) {
    const u16 owner = settled ? owners[picture * capacity + pixel] : kNoQuery;
    map[picture * capacity + pixel] = owner == kNoQuery ? 0 : list.number[picture * rule.queries + owner];
  }
}
