// Semantic maps: the class of each pixel of the source picture, from scores at a network's own resolution.
//
// Maths, that of runtime/heads/bilinear_argmax.py: a pixel mixes the four samples around its middle with the same
// weights for all classes, so where all four have the same best class, so has the pixel. First the best class of each
// sample is found, a sweep of the scores; a pixel then looks at four small numbers, and only along borders mixes all
// classes. Of equal classes the first is best, a NaN never. The reference mixes only classes that can win, and of two
// their difference: a pixel may fall to the other class where both score the same but for float32's rounding, nowhere
// else.
//
// Memory pattern: a score is read once, whatever the picture's size, but for those along borders. Neighbouring threads
// take neighbouring pixels, which read the same samples.
#pragma once

#include "host_device.cuh"
#include "interpolation.cuh"

namespace edgedet {

/// How scores or ids lie in an output, in elements; maps.py mirrors it.
struct FieldRule {
  i64 picture_step, class_step, row_step, column_step;
  i32 classes;  // that a pixel may be of
  i32 single;   // 1: one channel of scores for the second of two classes
  i32 height, width;
  float threshold;  // of a single channel: the value that the first class has everywhere
  i32 finite;       // 1: values that are no numbers count as very low or very high ones
};

static_assert(sizeof(FieldRule) == 56, "as maps.py mirrors it");

/// The scores of one picture.
template <typename T>
struct ScoreField {
  const T* values;
  FieldRule rule;

  EDGEDET_HD float at(i32 class_id, i32 row, i32 column) const {
    if (rule.single != 0 && class_id == 0) return rule.threshold;
    const i64 plane = rule.single != 0 ? 0 : class_id;
    const float value = to_float(values[plane * rule.class_step + row * rule.row_step + column * rule.column_step]);
    return rule.finite != 0 ? finite_logit(value) : value;
  }
};

/// Keeps the first of the highest of what it is offered, class 0 where all are NaN.
struct BestClass {
  float score = -float_of(0x7f800000u);
  i32 class_id = 0;

  EDGEDET_HD void offer(i32 other, float value) {
    if (value > score) {
      score = value;
      class_id = other;
    }
  }
};

template <typename T>
EDGEDET_HD i32 best_class(const ScoreField<T>& field, i32 row, i32 column) {
  BestClass best;
  for (i32 id = 0; id < field.rule.classes; ++id) best.offer(id, field.at(id, row, column));
  return best.class_id;
}

/// first + (second - first) * share: exact where both are equal.
EDGEDET_HD float between(float first, float second, float share) { return first + (second - first) * share; }

/// The score of a class at a pixel.
template <typename T>
EDGEDET_HD float score_at(const ScoreField<T>& field, i32 class_id, const AxisPlace& row, const AxisPlace& column) {
  const i32 below = next_of(row), right = next_of(column);
  const float top =
      between(field.at(class_id, row.first, column.first), field.at(class_id, row.first, right), column.share);
  const float bottom = between(field.at(class_id, below, column.first), field.at(class_id, below, right), column.share);
  return between(top, bottom, row.share);
}

/// The class of a pixel; best: (height, width) best class of each sample.
template <typename T>
EDGEDET_HD i32 class_at(const ScoreField<T>& field, const u16* best, const AxisPlace& row, const AxisPlace& column) {
  const i32 width = field.rule.width, below = next_of(row), right = next_of(column);
  const i32 corner = best[row.first * width + column.first];
  if (corner == best[row.first * width + right] && corner == best[below * width + column.first] &&
      corner == best[below * width + right])
    return corner;
  BestClass winner;
  for (i32 id = 0; id < field.rule.classes; ++id) winner.offer(id, score_at(field, id, row, column));
  return winner.class_id;
}

/// A class id as the network gave it: what is no whole number of a class is told as the lowest or highest number.
EDGEDET_HD i64 class_of(i64 id) { return id; }
EDGEDET_HD i64 class_of(i32 id) { return id; }
EDGEDET_HD i64 class_of(u8 id) { return id; }
EDGEDET_HD i64 class_of(float id) {
  if (is_nan(id)) return -2147483647;
  const i64 whole = static_cast<i64>(clamped(id, -2147483520.0f, 2147483520.0f));
  return id < 0.0f && whole == 0 ? -1 : whole;
}
EDGEDET_HD i64 class_of(Half id) { return class_of(to_float(id)); }

}  // namespace edgedet
