// Panoptic maps from queries: a class and a mask for each, merged into one segment a pixel.
//
// Maths, that of runtime/heads/query_masks.py. A query takes part where its best class is an object and its softmax
// reaches a threshold. A pixel mixes the four mask logits around its middle, and goes
//   weighted  to the query with the largest score * sigmoid(logit), or to none where that logit is below a threshold;
//             a query that wins too small a share of the pixels at which it reaches the threshold is dropped
//   softmax   to the query with the largest logit; queries of too few pixels are dropped, and the pixels shared out
//   anew
// Of equal queries the first wins. Queries of one stuff class become one segment. expf is within 2 ulps of NumPy's and
// the reference mixes in matrix products, so pixels may change hands where two queries differ by no more than rounding.
#pragma once

#include "interpolation.cuh"
#include "masks.cuh"
#include "scores.cuh"

namespace edgedet {

constexpr i32 kMostQueries = 1024;
constexpr i32 kMostClasses = 1024;
constexpr u16 kNoQuery = 0xffff;

/// What is asked of the queries; panoptic.py mirrors it.
struct QueryRule {
  double overlap;        // share of its mask that a query must win (weighted)
  float score;           // that a query must reach
  float mask;            // logit from which a pixel is part of a mask (weighted)
  i32 smallest;          // segments of so many pixels or fewer are dropped
  i32 weighted;          // 0: softmax
  i32 queries, columns;  // of the class logits; the last column is no object
  i32 height, width;     // of a mask
};

static_assert(sizeof(QueryRule) == 40, "as panoptic.py mirrors it");

/// What a query answers.
struct Answer {
  i32 class_id;
  float score;  // NaN where it has none
};

/// The best of the softmax over a row of logits; none has a score where one is NaN or the largest is infinite.
template <typename T>
EDGEDET_HD Answer best_answer(const T* logits, i32 columns) {
  Answer best = {0, nan_value()};
  float largest = to_float(logits[0]);
  for (i32 k = 0; k < columns; ++k) {
    const float logit = to_float(logits[k]);
    if (is_nan(logit)) return best;
    largest = greatest(largest, logit);
  }
  if (!is_finite(largest)) return best;
  float sum = 0.0f;
  for (i32 k = 0; k < columns; ++k) sum += expf(to_float(logits[k]) - largest);
  best.score = -1.0f;
  for (i32 k = 0; k < columns; ++k) {
    const float score = expf(to_float(logits[k]) - largest) / sum;
    if (score > best.score) best = {k, score};
  }
  return best;
}

/// A mask's logit at a pixel; columns are mixed first, as the reference does here.
template <typename T>
EDGEDET_HD float logit_at(const MapField<T>& field, const AxisPlace& row, const AxisPlace& column) {
  const i32 below = next_of(row), right = next_of(column);
  const float top = mixed(field.at(row.first, column.first), field.at(row.first, right), column.share);
  const float bottom = mixed(field.at(below, column.first), field.at(below, right), column.share);
  return mixed(top, bottom, row.share);
}

/// A segment of the answer.
struct SegmentRecord {
  i32 class_id, is_thing;
  float score;
  i32 area;
};

static_assert(sizeof(SegmentRecord) == 16, "as panoptic.py reads it");

/// What is known of a class.
enum ClassFlag : u8 { kThing = 1, kWanted = 2 };

/// The queries of a batch that take part, and what became of them. All (pictures, queries) but state.
struct QueryList {
  i32* query;
  i32* class_id;
  float* score;
  i32* running;  // 0: dropped
  i32* won;      // pixels at which it is the winner
  i32* claimed;  // pixels at which it reaches the threshold
  i32* owned;    // pixels that are its own
  i32* number;   // of its segment, 0 for none
  i32* count;    // (pictures,) how many take part
  i32* settled;  // (pictures,) 1: nothing will be shared out anew
};

EDGEDET_HD QueryList query_list(i32* words, i32 pictures, i32 queries) {
  const u64 step = static_cast<u64>(pictures) * static_cast<u64>(queries);
  i32* counts = words + 8 * step;
  return {words,
          words + step,
          reinterpret_cast<float*>(words + 2 * step),
          words + 3 * step,
          words + 4 * step,
          words + 5 * step,
          words + 6 * step,
          words + 7 * step,
          counts,
          counts + pictures};
}

}  // namespace edgedet
