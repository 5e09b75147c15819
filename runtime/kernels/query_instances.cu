// Instances from queries, for a batch (query_instances.cuh): answer, then nms.cu, reach, then masks_plan.cu, paint,
// finish, then nms.cu again.
//
// Only pixels that a positive sample reaches are painted: a block finds the extent of an answer's positive samples,
// which is a sweep of its map and far cheaper than one of the picture.
#include "query_instances.cuh"

namespace edgedet {

template <typename T>
EDGEDET_DEVICE void answer_pairs(const T* logits, const InstanceRule& rule, const u8* flags,
                                 const CandidateList& list) {
  const i32 picture = static_cast<i32>(blockIdx.y), query = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
  if (query >= rule.queries) return;
  const T* row = logits + (static_cast<i64>(picture) * rule.queries + query) * rule.columns;
  float largest = to_float(row[0]), sum = 0.0f;
  for (i32 k = 0; k < rule.columns; ++k) {
    const float logit = to_float(row[k]);
    if (is_nan(logit)) return;
    largest = greatest(largest, logit);
  }
  if (!is_finite(largest)) return;
  for (i32 k = 0; k < rule.columns; ++k) sum += expf(to_float(row[k]) - largest);
  const i32 classes = rule.columns - 1;
  for (i32 k = 0; k < classes; ++k) {
    const float score = expf(to_float(row[k]) - largest) / sum;
    if (score >= rule.confidence && (flags[k] & kWanted) != 0)
      append(list, picture, {{0.0f, 0.0f, 0.0f, 0.0f}, score, k, query, static_cast<u32>(query * classes + k)});
  }
}

template <typename T>
EDGEDET_DEVICE void find_reach(const T* maps, const InstanceRule& rule, const DetectionList& answers,
                               const AxisRule* rules, const AxisPlace* places, i32 length, const InstanceSums& sums) {
  __shared__ i32 extent[4];  // least column and row, and the negatives of the largest
  const i32 picture = static_cast<i32>(blockIdx.y), k = static_cast<i32>(blockIdx.x);
  if (k >= answers.count[picture]) return;
  if (threadIdx.x < 4) extent[threadIdx.x] = 2147483647;
  __syncthreads();
  const i32 at = picture * answers.limit + k, cells = rule.height * rule.width;
  const T* map = maps + (static_cast<i64>(picture) * rule.queries + answers.location[at]) * cells;
  i32 left = 2147483647, top = left, right = left, bottom = left;
  for (i32 cell = static_cast<i32>(threadIdx.x); cell < cells; cell += static_cast<i32>(blockDim.x)) {
    if (!(finite_logit(to_float(map[cell])) > 0.0f)) continue;
    left = least(left, cell % rule.width);
    top = least(top, cell / rule.width);
    right = least(right, -(cell % rule.width));
    bottom = least(bottom, -(cell / rule.width));
  }
  if (left != 2147483647) {
    atomicMin(&extent[0], left);
    atomicMin(&extent[1], top);
    atomicMin(&extent[2], right);
    atomicMin(&extent[3], bottom);
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const i32 height = rules[2 * picture].pixels, width = rules[2 * picture + 1].pixels;
  float* box = answers.xyxy + 4 * static_cast<i64>(at);
  const bool found = extent[0] != 2147483647;
  box[0] = found ? static_cast<float>(first_reaching(columns, width, extent[0])) : 0.0f;
  box[1] = found ? static_cast<float>(first_reaching(rows, height, extent[1])) : 0.0f;
  box[2] = found ? static_cast<float>(first_behind(columns, width, -extent[2])) : 0.0f;
  box[3] = found ? static_cast<float>(first_behind(rows, height, -extent[3])) : 0.0f;
  sums.sum[at] = 0;
  sums.count[at] = 0;
  sums.left[at] = sums.top[at] = 2147483647;
  sums.right[at] = sums.bottom[at] = -1;
}

/// What one thread saw of a mask.
struct Seen {
  u64 sum = 0;
  i32 count = 0, left = 2147483647, top = 2147483647, right = -1, bottom = -1;
};

template <typename T>
EDGEDET_DEVICE void paint_and_sum(const T* maps, const InstanceRule& rule, const DetectionList& answers,
                                  const MaskList& masks, const MaskWindow* windows, const AxisPlace* places, i32 length,
                                  const InstanceSums& sums) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  const AxisPlace *rows = rows_of(places, picture, length), *columns = columns_of(places, picture, length);
  const i64 plane = static_cast<i64>(rule.height) * rule.width;
  paint_words(masks, windows, answers.count, [&](i32 k, const MaskRecord& mask, const MaskWindow&, i32 word) {
    const i32 at = picture * answers.limit + k;
    const MapField<T> field{maps + (static_cast<i64>(picture) * rule.queries + answers.location[at]) * plane,
                            rule.width};
    Seen seen;
    const u32 bits = mask_word(field, rows + mask.top, columns + mask.left, mask, word, [&](i32 y, i32 x, float logit) {
      seen.sum += static_cast<u64>(static_cast<double>(sigmoid(logit)) * 4294967296.0);
      seen.count += 1;
      seen.left = least(seen.left, mask.left + x);
      seen.top = least(seen.top, mask.top + y);
      seen.right = greatest(seen.right, mask.left + x);
      seen.bottom = greatest(seen.bottom, mask.top + y);
    });
    if (bits != 0) {
      atomicAdd(&sums.sum[at], seen.sum);
      atomicAdd(&sums.count[at], seen.count);
      atomicMin(&sums.left[at], seen.left);
      atomicMin(&sums.top[at], seen.top);
      atomicMax(&sums.right[at], seen.right);
      atomicMax(&sums.bottom[at], seen.bottom);
    }
    return bits;
  });
}

}  // namespace edgedet

/// Lists the pairs of query and class that reach the confidence. Grid: blocks over the queries, pictures.
///
/// logits: (pictures, queries, columns). flags: (columns - 1,) ClassFlag. words: candidates, whose locations are
/// queries.
extern "C" __global__ void edgedet_instances_answer_f32(const float* logits, edgedet::InstanceRule rule,
                                                        const edgedet::u8* flags, edgedet::u32* words,
                                                        edgedet::i32 pictures, edgedet::i32 capacity) {
  edgedet::answer_pairs(logits, rule, flags, edgedet::candidate_list(words, pictures, capacity));
}

extern "C" __global__ void edgedet_instances_answer_f16(const edgedet::Half* logits, edgedet::InstanceRule rule,
                                                        const edgedet::u8* flags, edgedet::u32* words,
                                                        edgedet::i32 pictures, edgedet::i32 capacity) {
  edgedet::answer_pairs(logits, rule, flags, edgedet::candidate_list(words, pictures, capacity));
}

/// Gives each answer the box of pixels that its positive samples reach. Grid: queries, pictures.
///
/// maps: (pictures, queries, height, width). answers: detections, whose boxes are written. sums: scratch, emptied.
extern "C" __global__ void edgedet_instances_reach_f32(const float* maps, edgedet::InstanceRule rule,
                                                       edgedet::u32* answers, edgedet::i32 pictures,
                                                       const edgedet::AxisRule* rules, const edgedet::AxisPlace* places,
                                                       edgedet::i32 length, edgedet::u64* sums) {
  using namespace edgedet;
  find_reach(maps, rule, detection_list(answers, pictures, rule.queries), rules, places, length,
             instance_sums(sums, pictures, rule.queries));
}

extern "C" __global__ void edgedet_instances_reach_f16(const edgedet::Half* maps, edgedet::InstanceRule rule,
                                                       edgedet::u32* answers, edgedet::i32 pictures,
                                                       const edgedet::AxisRule* rules, const edgedet::AxisPlace* places,
                                                       edgedet::i32 length, edgedet::u64* sums) {
  using namespace edgedet;
  find_reach(maps, rule, detection_list(answers, pictures, rule.queries), rules, places, length,
             instance_sums(sums, pictures, rule.queries));
}

/// Paints the masks of the answers, and sums up their sigmoids and extents. Grid: any number of blocks, pictures.
extern "C" __global__ void edgedet_instances_paint_f32(const float* maps, edgedet::InstanceRule rule,
                                                       edgedet::u32* answers, edgedet::i32 pictures,
                                                       edgedet::u32* masks, edgedet::i32 capacity,
                                                       const edgedet::MaskWindow* windows,
                                                       const edgedet::AxisPlace* places, edgedet::i32 length,
                                                       edgedet::u64* sums) {
  using namespace edgedet;
  paint_and_sum(maps, rule, detection_list(answers, pictures, rule.queries),
                mask_list(masks, pictures, rule.queries, capacity), windows, places, length,
                instance_sums(sums, pictures, rule.queries));
}

extern "C" __global__ void edgedet_instances_paint_f16(const edgedet::Half* maps, edgedet::InstanceRule rule,
                                                       edgedet::u32* answers, edgedet::i32 pictures,
                                                       edgedet::u32* masks, edgedet::i32 capacity,
                                                       const edgedet::MaskWindow* windows,
                                                       const edgedet::AxisPlace* places, edgedet::i32 length,
                                                       edgedet::u64* sums) {
  using namespace edgedet;
  paint_and_sum(maps, rule, detection_list(answers, pictures, rule.queries),
                mask_list(masks, pictures, rule.queries, capacity), windows, places, length,
                instance_sums(sums, pictures, rule.queries));
}

/// Lists the answers whose final score reaches the confidence. Grid: blocks over the answers, pictures.
///
/// words: candidates, whose locations are places among the answers.
extern "C" __global__ void edgedet_instances_finish(edgedet::InstanceRule rule, edgedet::u32* answers,
                                                    edgedet::i32 pictures, edgedet::u64* sums, edgedet::u32* words,
                                                    edgedet::i32 capacity) {
  using namespace edgedet;
  const DetectionList found = detection_list(answers, pictures, rule.queries);
  const InstanceSums all = instance_sums(sums, pictures, rule.queries);
  const i32 picture = static_cast<i32>(blockIdx.y), k = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x);
  if (k >= found.count[picture]) return;
  const i32 at = picture * rule.queries + k;
  if (all.count[at] == 0) return;
  const double mean = static_cast<double>(all.sum[at]) / 4294967296.0 / static_cast<double>(all.count[at]);
  const float score = found.score[at] * static_cast<float>(mean);
  if (!(score >= rule.confidence)) return;
  const Box box = {static_cast<float>(all.left[at]), static_cast<float>(all.top[at]),
                   static_cast<float>(all.right[at] + 1), static_cast<float>(all.bottom[at] + 1)};
  append(candidate_list(words, pictures, capacity), picture, {box, score, found.class_id[at], k, static_cast<u32>(k)});
}
