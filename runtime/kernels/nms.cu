// From a candidate list to final detections, for a whole batch and without a word to the host.
//
// Few (up to 1024 candidates in a picture: nearly every picture at a threshold that people look at): one block sorts,
// suppresses and writes the detections, all in shared memory; the other kernels leave at once, and are not launched at
// all where the list is no longer than that. Many, in five launches:
//   sort       tiles of 1024 side by side (bitonic, strides below a warp by shuffles)
//   merge      each candidate finds its place among all by a binary search in every other tile. Neighbours in a sorted
//              tile search along nearly the same path, so the reads are broadcasts from the first-level cache; there
//              are N * N / 1024 * 10 of their steps, not the N * N of counting or the dozen launches of a radix sort
//   suppress   the best 1024, by one block a picture
//   thin out   all others against those that are kept so far, over the whole GPU: dense crowds leave few behind
//   rest       what is left, by one block a picture, 1024 at a time, until it is exact; mostly nothing is to be done
//
// Greedy suppression of a chunk of 1024: what remains of it is packed together. Then, 32 at a time: all 32 x 32 pairs
// become bit masks at once, the kept ones are the fixed point of "kept is whom nobody kept suppresses" (unique, as each
// depends on better ones alone; Cluster-NMS, arXiv 2005.03572), and they thin out the candidates behind them.
//
// Why no N x N bit matrix in global memory: that is 12.5 MB a picture at 10,000 candidates and 112 MB at 30,000, and
// half of N * N overlaps to compute, of which the greedy loop reads the rows of kept boxes only. Here no candidate is
// held against more than max_detections others and the loop ends when so many are kept: at 10,000 and 300 seventeen
// times fewer pairs, in O(N) memory. A matrix pays where thousands of detections of one class are wanted of one picture
// on a large GPU.
//
// Answers do not depend on the order of threads or of the list: all choices follow from the sorted order.
#include "detections.cuh"
#include "nms.cuh"

namespace edgedet {

constexpr i32 kTile = 1024;  // candidates that one block sorts, and threads of that block
constexpr i32 kLanes = 32;

/// The working memory of a tile's sort.
struct SortTile {
  u64 key[kTile];
  i32 source[kTile];
};

/// A box that is read with one load.
struct alignas(16) WideBox {
  Box box;
};

/// Candidates of a chunk that no kept one suppresses, packed together, best first.
struct Chunk {
  WideBox wide[kTile];
  i32 class_id[kTile];
  i32 source[kTile];
  i32 warp_count[kLanes];
  u32 rivals[kLanes];  // of each of 32 candidates: the better ones among them that overlap it
  u32 alive[2];        // of the 32 in turn, and of the next 32
};

/// Sorts one element a thread, ascending by key, over the first `length` threads (a power of 2, at least a warp).
EDGEDET_DEVICE void sort_tile(SortTile& tile, u64& key, i32& source, i32 length) {
  const i32 at = static_cast<i32>(threadIdx.x);
  for (i32 run = 2; run <= length; run *= 2) {
    for (i32 stride = run / 2; stride > 0; stride /= 2) {
      u64 other;
      i32 other_source;
      if (stride < kLanes) {
        other = __shfl_xor_sync(0xffffffffu, key, stride);
        other_source = __shfl_xor_sync(0xffffffffu, source, stride);
      } else {
        __syncthreads();
        tile.key[at] = key;
        tile.source[at] = source;
        __syncthreads();
        other = tile.key[at ^ stride];
        other_source = tile.source[at ^ stride];
      }
      const bool wants_smaller = ((at & stride) == 0) == ((at & run) == 0);
      if (wants_smaller ? other < key : key < other) {
        key = other;
        source = other_source;
      }
    }
  }
}

EDGEDET_DEVICE void load_and_sort(const CandidateList& list, i32 picture, i32 start, i32 count, float largest,
                                  SortTile& tile, u64& key, i32& source) {
  source = start + static_cast<i32>(threadIdx.x);
  key = source < count ? key_of(list, place_of(list, picture, source), largest) : kNoCandidate;
  i32 length = kLanes;
  while (length < least(count - start, kTile)) length *= 2;
  sort_tile(tile, key, source, length);
}

/// The kept candidates of one picture, best first.
struct KeptList {
  WideBox* wide;
  i32* class_id;
  i32* index;
  i32 count;
};

/// Whether one of the kept ones suppresses a candidate; those before `from` are known not to.
EDGEDET_DEVICE bool is_suppressed(const KeptList& kept, i32 from, const Box& box, i32 class_id, float iou) {
  for (i32 k = from; k < kept.count; ++k) {
    if (kept.class_id[k] == class_id && overlaps(kept.wide[k].box, box, iou)) return true;
  }
  return false;
}

EDGEDET_DEVICE void keep(const KeptList& kept, i32 at, const Box& box, i32 class_id, i32 source) {
  kept.wide[at].box = box;
  kept.class_id[at] = class_id;
  kept.index[at] = source;
}

/// Packs the threads' candidates that are alive into the chunk, in order, and returns how many there are.
EDGEDET_DEVICE i32 pack(Chunk& chunk, bool alive, const Box& box, i32 class_id, i32 source) {
  const u32 lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
  const u32 word = __ballot_sync(0xffffffffu, alive ? 1 : 0);
  if (lane == 0) chunk.warp_count[warp] = __popc(word);
  __syncthreads();
  i32 before = 0, total = 0;
  for (u32 other = 0; other < kLanes; ++other) {
    before += other < warp ? chunk.warp_count[other] : 0;
    total += chunk.warp_count[other];
  }
  if (alive) {
    const i32 at = before + __popc(word & ((1u << lane) - 1u));
    chunk.wide[at].box = box;
    chunk.class_id[at] = class_id;
    chunk.source[at] = source;
  }
  __syncthreads();
  return total;
}

/// Which of 32 candidates are kept, given who is still alive and who overlaps whom; the same in every warp.
EDGEDET_DEVICE u32 survivors(u32 rivals, u32 alive) {
  const u32 lane = threadIdx.x % kLanes;
  const bool candidate = (alive >> lane & 1u) != 0;
  u32 kept = alive;
  for (;;) {
    const u32 next = __ballot_sync(0xffffffffu, candidate && (rivals & kept) == 0 ? 1 : 0);
    if (next == kept) return kept;
    kept = next;
  }
}

/// Appends the greedy choice among the chunk's candidates to the kept list.
EDGEDET_DEVICE void suppress_chunk(Chunk& chunk, i32 total, KeptList& kept, const NmsRule& rule) {
  const i32 at = static_cast<i32>(threadIdx.x), lane = at % kLanes, warp = at / kLanes;
  const Box box = at < total ? chunk.wide[at].box : Box{0.0f, 0.0f, 0.0f, 0.0f};
  const i32 class_id = at < total ? chunk.class_id[at] : 0;
  bool alive = at < total;
  if (warp == 0) {
    const u32 word = __ballot_sync(0xffffffffu, alive ? 1 : 0);
    if (lane == 0) chunk.alive[0] = word;
  }
  __syncthreads();
  for (i32 group = 0; group * kLanes < total && kept.count < rule.max_detections; ++group) {
    const u32 running = chunk.alive[group & 1];
    const i32 first = group * kLanes;
    // Warp w holds candidate w of the group against those before it.
    const u32 both = 1u << warp | 1u << lane;
    const bool rival = lane < warp && (running & both) == both &&
                       chunk.class_id[first + lane] == chunk.class_id[first + warp] &&
                       overlaps(chunk.wide[first + lane].box, chunk.wide[first + warp].box, rule.iou);
    const u32 rivals = __ballot_sync(0xffffffffu, rival ? 1 : 0);
    if (lane == 0) chunk.rivals[warp] = rivals;
    __syncthreads();
    const u32 winners = first_bits(survivors(chunk.rivals[lane], running), rule.max_detections - kept.count);
    if (warp == group && (winners >> lane & 1u) != 0)
      keep(kept, kept.count + __popc(winners & ((1u << lane) - 1u)), box, class_id, chunk.source[at]);
    if (warp > group)
      for (u32 left = winners; left != 0 && alive; left &= left - 1) {
        const i32 winner = first + __ffs(static_cast<i32>(left)) - 1;
        alive = !(chunk.class_id[winner] == class_id && overlaps(chunk.wide[winner].box, box, rule.iou));
      }
    if (warp == group + 1) {
      const u32 word = __ballot_sync(0xffffffffu, alive ? 1 : 0);
      if (lane == 0) chunk.alive[(group + 1) & 1] = word;
    }
    kept.count += __popc(winners);
    __syncthreads();
  }
}

/// The class that decides whether candidates can suppress each other.
EDGEDET_DEVICE i32 rival_class(const CandidateList& list, u64 place, const NmsRule& rule) {
  return rule.class_agnostic != 0 ? 0 : list.class_id[place];
}

/// Chooses among a chunk of candidates, one a thread (-1: none), in their order.
EDGEDET_DEVICE void choose(const CandidateList& list, i32 picture, i32 source, i32 from, const NmsRule& rule,
                           Chunk& chunk, KeptList& kept) {
  const u64 place = place_of(list, picture, greatest(source, 0));
  const Box box = box_of(list, place);
  const i32 class_id = rival_class(list, place, rule), thread = static_cast<i32>(threadIdx.x);
  const bool wanted = source >= 0 && !(rule.suppress != 0 && is_suppressed(kept, from, box, class_id, rule.iou));
  const i32 total = pack(chunk, wanted, box, class_id, source);
  if (rule.suppress != 0) {
    suppress_chunk(chunk, total, kept, rule);
  } else {
    const i32 taken = least(total, rule.max_detections - kept.count);
    if (thread < taken) keep(kept, kept.count + thread, chunk.wide[thread].box, 0, chunk.source[thread]);
    kept.count += taken;
  }
  __syncthreads();
}

/// Writes what is kept of a picture as detections in source pixels, and nothing into the places behind.
EDGEDET_DEVICE void write_detections(const CandidateList& list, i32 picture, const KeptList& kept,
                                     const DetectionList& result, const SourcePlacement& placement) {
  const u64 row = static_cast<u64>(picture) * static_cast<u64>(result.limit);
  for (i32 k = static_cast<i32>(threadIdx.x); k < result.limit; k += kTile) {
    const u64 to = row + static_cast<u64>(k);
    if (k < kept.count) {
      const u64 place = place_of(list, picture, kept.index[k]);
      write_detection(result, to, to_source(box_of(list, place), placement), list.score[place], list.class_id[place],
                      list.location[place]);
    } else {
      kept.index[k] = -1;
      write_detection(result, to, {0.0f, 0.0f, 0.0f, 0.0f}, 0.0f, 0, -1);
    }
  }
  if (threadIdx.x == 0) {
    result.count[picture] = kept.count;
    result.found[picture] = list.count[picture];
  }
}

}  // namespace edgedet

/// Sorts tiles of candidates where a picture has more than one. Grid: tiles, pictures.
///
/// keys, sources: (pictures, tiles * 1024).
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_nms_sort_tiles(edgedet::u32* candidates, edgedet::i32 pictures, edgedet::i32 capacity, edgedet::u64* keys,
                           edgedet::i32* sources, edgedet::NmsRule rule) {
  using namespace edgedet;
  __shared__ SortTile tile;
  const CandidateList list = candidate_list(candidates, pictures, capacity);
  const i32 picture = static_cast<i32>(blockIdx.y), start = static_cast<i32>(blockIdx.x) * kTile;
  const i32 count = stored(list, picture);
  if (count <= kTile || start >= count) return;
  u64 key;
  i32 source;
  load_and_sort(list, picture, start, count, rule.largest, tile, key, source);
  const u64 at = (static_cast<u64>(blockIdx.y) * gridDim.x + blockIdx.x) * kTile + threadIdx.x;
  keys[at] = key;
  sources[at] = source;
}

/// Gives each candidate of sorted tiles its place among all of its picture. Grid: tiles, pictures.
///
/// order: (pictures, tiles * 1024) indices of candidates, best first, then -1 for those that are not usable.
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_nms_merge_tiles(edgedet::u32* candidates, edgedet::i32 pictures, edgedet::i32 capacity,
                            const edgedet::u64* keys, const edgedet::i32* sources, edgedet::i32* order) {
  using namespace edgedet;
  const CandidateList list = candidate_list(candidates, pictures, capacity);
  const i32 count = stored(list, static_cast<i32>(blockIdx.y));
  const i32 own = static_cast<i32>(blockIdx.x), at = own * kTile + static_cast<i32>(threadIdx.x);
  if (count <= kTile || at >= count) return;
  const u64 base = static_cast<u64>(blockIdx.y) * gridDim.x * kTile;
  const u64 key = keys[base + static_cast<u64>(at)];
  i32 place = static_cast<i32>(threadIdx.x);
  for (i32 other = 0; other * kTile < count; ++other)
    if (other != own) place += sorted_before(keys + base + static_cast<u64>(other) * kTile, kTile, key, other < own);
  if (place < count)
    order[base + static_cast<u64>(place)] = key == kNoCandidate ? -1 : sources[base + static_cast<u64>(at)];
}

/// Chooses among the best 1024 candidates, and writes the detections where there are no more. Grid: pictures.
///
/// order: as edgedet_nms_merge_tiles leaves it, row_length a picture; read where there are more than 1024 candidates.
/// kept_boxes, kept_class: (pictures, max_detections, 4) and (pictures, max_detections), scratch.
/// kept_index: (pictures, max_detections) indices of candidates, best first, then -1. kept_count: (pictures,).
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_nms_suppress(edgedet::u32* candidates, edgedet::i32 pictures, edgedet::i32 capacity,
                         const edgedet::i32* order, edgedet::i32 row_length, edgedet::WideBox* kept_boxes,
                         edgedet::i32* kept_class, edgedet::i32* kept_index, edgedet::i32* kept_count,
                         edgedet::u32* detections, const edgedet::SourcePlacement* placements, edgedet::NmsRule rule) {
  using namespace edgedet;
  __shared__ SortTile tile;
  __shared__ Chunk chunk;
  const CandidateList list = candidate_list(candidates, pictures, capacity);
  const i32 picture = static_cast<i32>(blockIdx.x), thread = static_cast<i32>(threadIdx.x);
  const i32 count = stored(list, picture), limit = least(count, rule.max_candidates);
  const u64 row = static_cast<u64>(picture) * static_cast<u64>(rule.max_detections);
  KeptList kept{kept_boxes + row, kept_class + row, kept_index + row, 0};
  i32 source = -1;
  if (count > kTile) {
    if (thread < limit) source = order[static_cast<u64>(picture) * static_cast<u64>(row_length) + threadIdx.x];
  } else {
    u64 key;
    load_and_sort(list, picture, 0, count, rule.largest, tile, key, source);
    if (key == kNoCandidate || thread >= limit) source = -1;
  }
  if (count > 0) choose(list, picture, source, 0, rule, chunk, kept);
  if (thread == 0) kept_count[picture] = kept.count;
  if (count <= kTile)
    write_detections(list, picture, kept, detection_list(detections, pictures, rule.max_detections),
                     placements[picture]);
}

/// Takes candidates behind the best 1024 out of the order that one of the kept ones suppresses.
///
/// Grid: tiles less one, pictures; as for edgedet_nms_suppress.
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_nms_thin_out(edgedet::u32* candidates, edgedet::i32 pictures, edgedet::i32 capacity, edgedet::i32* order,
                         edgedet::i32 row_length, edgedet::WideBox* kept_boxes, edgedet::i32* kept_class,
                         edgedet::i32* kept_index, const edgedet::i32* kept_count, edgedet::NmsRule rule) {
  using namespace edgedet;
  const CandidateList list = candidate_list(candidates, pictures, capacity);
  const i32 picture = static_cast<i32>(blockIdx.y);
  const i32 count = stored(list, picture), limit = least(count, rule.max_candidates);
  const i32 at = static_cast<i32>((blockIdx.x + 1) * kTile + threadIdx.x);
  const u64 row = static_cast<u64>(picture) * static_cast<u64>(rule.max_detections);
  const KeptList kept{kept_boxes + row, kept_class + row, kept_index + row, kept_count[picture]};
  if (count <= kTile || at >= limit || rule.suppress == 0 || kept.count >= rule.max_detections) return;
  i32& source = order[static_cast<u64>(picture) * static_cast<u64>(row_length) + static_cast<u64>(at)];
  if (source < 0) return;
  const u64 place = place_of(list, picture, source);
  if (is_suppressed(kept, 0, box_of(list, place), rival_class(list, place, rule), rule.iou)) source = -1;
}

/// Chooses among what is left behind the best 1024, and writes the detections. Grid: pictures; as above.
extern "C" __global__ void __launch_bounds__(1024)
    edgedet_nms_suppress_rest(edgedet::u32* candidates, edgedet::i32 pictures, edgedet::i32 capacity,
                              const edgedet::i32* order, edgedet::i32 row_length, edgedet::WideBox* kept_boxes,
                              edgedet::i32* kept_class, edgedet::i32* kept_index, edgedet::i32* kept_count,
                              edgedet::u32* detections, const edgedet::SourcePlacement* placements,
                              edgedet::NmsRule rule) {
  using namespace edgedet;
  __shared__ Chunk chunk;
  const CandidateList list = candidate_list(candidates, pictures, capacity);
  const i32 picture = static_cast<i32>(blockIdx.x), thread = static_cast<i32>(threadIdx.x);
  const i32 count = stored(list, picture), limit = least(count, rule.max_candidates);
  if (count <= kTile) return;
  const u64 row = static_cast<u64>(picture) * static_cast<u64>(rule.max_detections);
  KeptList kept{kept_boxes + row, kept_class + row, kept_index + row, kept_count[picture]};
  const i32 thinned_by = kept.count;
  const i32* own_order = order + static_cast<u64>(picture) * static_cast<u64>(row_length);
  for (i32 start = kTile; start < limit && kept.count < rule.max_detections; start += kTile) {
    const i32 source = start + thread < limit ? own_order[start + thread] : -1;
    choose(list, picture, source, thinned_by, rule, chunk, kept);
  }
  __syncthreads();  // all threads have read the count before it changes
  if (thread == 0) kept_count[picture] = kept.count;
  write_detections(list, picture, kept, detection_list(detections, pictures, rule.max_detections), placements[picture]);
}
