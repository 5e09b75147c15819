// Instances from queries that answer with a class and a mask (runtime/heads/query_instances.py).
//
// Maths: every pair of query and class whose softmax reaches the confidence is an answer, the best of them as many as
// there are queries. An answer's mask is where its mixed logits are above 0, its box the smallest that holds the mask,
// and its score the softmax times the mean sigmoid of the mask's logits. The mean is summed in whole numbers of 2^-32,
// so that it does not depend on the order in which threads add to it. nms.cu sorts the answers, and the final scores
// once more.
#pragma once

#include "masks_paint.cuh"
#include "panoptic.cuh"
#include "scores.cuh"

namespace edgedet {

/// The shapes of the outputs, and what an answer must reach; query_instances.py mirrors it.
struct InstanceRule {
  float confidence;
  i32 queries, columns;  // of the class logits; the last column is no object
  i32 height, width;     // of a map
};

static_assert(sizeof(InstanceRule) == 20, "as query_instances.py mirrors it");

/// What is summed up over the masks of a batch; all (pictures, queries).
struct InstanceSums {
  u64* sum;  // of sigmoids, in 2^-32
  i32* count;
  i32 *left, *top, *right, *bottom;  // pixels of the picture, the last ones included
};

EDGEDET_HD InstanceSums instance_sums(u64* words, i32 pictures, i32 queries) {
  const u64 step = static_cast<u64>(pictures) * static_cast<u64>(queries);
  i32* rest = reinterpret_cast<i32*>(words + step);
  return {words, rest, rest + step, rest + 2 * step, rest + 3 * step, rest + 4 * step};
}

/// The first place that reaches sample `cell`.
EDGEDET_HD i32 first_reaching(const AxisPlace* places, i32 count, i32 cell) {
  i32 low = 0, high = count;
  while (low < high) {
    const i32 middle = (low + high) / 2;
    if (next_of(places[middle]) >= cell)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

/// The first place that lies wholly behind sample `cell`.
EDGEDET_HD i32 first_behind(const AxisPlace* places, i32 count, i32 cell) {
  i32 low = 0, high = count;
  while (low < high) {
    const i32 middle = (low + high) / 2;
    if (places[middle].first > cell)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

}  // namespace edgedet
