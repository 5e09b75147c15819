// Which pairs of location and class pass: what all decode kernels share, as runtime/heads/scores.py does it.
//
// Maths: a raw value is held against the threshold before anything is computed from it. Where scores are sigmoids the
// threshold is the inverse sigmoid of the confidence, a hair lower, and the score itself decides in the end; where they
// are softmaxes with a background, a logit that lies too far below the background's own is ruled out by a subtraction.
// Comparisons that a NaN takes part in are false, so it never passes and keeps no other class from passing; of equal
// values the lowest class is the best. expf is within 2 ulps of NumPy's exp, and sums of softmaxes are taken in another
// order: scores agree within 2e-6 of their size, and are the same bits where no exponential is taken.
//
// Memory pattern: two ways over the classes of a location. `Alone`, a thread a location, for tensors whose neighbouring
// locations lie side by side (channels first: a warp reads 32 neighbours of one class plane), and for rows with an
// objectness, which rules out all but a few of them after one value. `Lanes`, up to a warp a location, for rows of
// class scores that have to be read whole: the lanes read neighbouring classes. Lanes that answer for one location
// always take the same way through the code, so warp functions name these lanes only and rows of few classes share a
// warp.
//
// Why the wanted classes are a list and not a mask: of the planes of 80 classes only the wanted ones are then read.
#pragma once

#include "candidates.cuh"

namespace edgedet {

enum Activation : i32 { kActivated = 0, kSigmoid = 1, kSoftmax = 2 };

struct ScoreRule {
  float confidence;  // least score of a candidate
  float logit;       // no logit below this has a sigmoid that reaches the confidence
  i32 classes;       // class scores of a location, without the background's
  i32 count;         // classes that are looked at
  i32 multi_label;   // 1: every class that passes is a candidate, 0: the best one
  i32 activation;    // what is left to do to class scores
  i32 background;    // column of the background among the class scores, or -1
};
static_assert(sizeof(ScoreRule) == 28, "the launcher writes these bytes");

struct Passing {
  float value;
  i32 class_id;  // -1: none
};

struct Place {
  i32 picture;
  i32 location;
};

EDGEDET_HD float sigmoid(float logit) {
  const float bounded = logit < -87.0f ? -87.0f : logit;  // beyond it expf overflows; NaN stays NaN
  return 1.0f / (1.0f + expf(-bounded));
}

EDGEDET_HD float nan_value() { return float_of(0x7fc00000u); }

/// The box of a centre and a size.
EDGEDET_HD Box box_around(float center_x, float center_y, float width, float height) {
  const float half_width = width * 0.5f, half_height = height * 0.5f;
  return {center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height};
}

EDGEDET_HD Box scaled(const Box& box, float x, float y) { return {box.x1 * x, box.y1 * y, box.x2 * x, box.y2 * y}; }

/// Place in a list that goes from location to location.
EDGEDET_HD u32 rank_by_location(const ScoreRule& rule, i32 location, i32 class_id) {
  return static_cast<u32>(location) * static_cast<u32>(rule.classes) + static_cast<u32>(class_id);
}

/// Place in a list that goes from class to class where a location may answer with several.
EDGEDET_HD u32 rank_by_class(const ScoreRule& rule, i32 locations, i32 location, i32 class_id) {
  const u32 before = rule.multi_label != 0 ? static_cast<u32>(class_id) * static_cast<u32>(locations) : 0u;
  return before + static_cast<u32>(location);
}

/// Values of a location: at[0], at[step], ...
template <typename T> struct Values {
  const T* at;
  i32 step;
  EDGEDET_HD float operator()(i32 index) const { return to_float(at[static_cast<i64>(index) * step]); }
};

/// Whether `first` is the better of two; of equal values the lower class is.
EDGEDET_HD bool better(const Passing& first, const Passing& second) {
  if (first.class_id < 0 || second.class_id < 0) return second.class_id < 0;
  return first.value > second.value || (first.value == second.value && first.class_id < second.class_id);
}

/// One thread answers for a location.
struct Alone {
  EDGEDET_HD i32 first() const { return 0; }
  EDGEDET_HD i32 step() const { return 1; }
  EDGEDET_HD bool leads() const { return true; }
  EDGEDET_HD bool any(bool mine) const { return mine; }
  EDGEDET_HD float largest(float mine) const { return mine; }
  EDGEDET_HD float sum(float mine) const { return mine; }
  EDGEDET_HD Passing best(const Passing& mine) const { return mine; }
};

/// The location of this thread where threads answer alone: blocks along x go over locations, along y over pictures.
EDGEDET_DEVICE Place place_of_thread() {
  return {static_cast<i32>(blockIdx.y), static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x)};
}

/// Calls `emit(Passing)` for the best class whose value reaches the threshold, or for all of them.
/// `value(class_id)` gives the value of a class; `wanted` lists the classes that are looked at, null for all.
/// The first sweep branches on nothing, so that eight loads are under way at once; few locations get a second one.
template <class Group, class Value, class Emit>
EDGEDET_DEVICE void choose(const Group& group, const ScoreRule& rule, const i32* wanted, float threshold,
                           const Value& value, const Emit& emit) {
  Passing best = {0.0f, -1};
#pragma unroll 8
  for (i32 index = group.first(); index < rule.count; index += group.step()) {
    const i32 class_id = wanted != nullptr ? wanted[index] : index;
    const float found = value(class_id);
    if (found >= threshold && (best.class_id < 0 || found > best.value)) best = {found, class_id};
  }
  if (!group.any(best.class_id >= 0)) return;
  if (rule.multi_label == 0) {
    best = group.best(best);
    if (group.leads()) emit(best);
    return;
  }
  for (i32 index = group.first(); index < rule.count; index += group.step()) {
    const i32 class_id = wanted != nullptr ? wanted[index] : index;
    const float found = value(class_id);
    if (found >= threshold) emit(Passing{found, class_id});
  }
}

/// Column of a class among the class scores, of which the background's is one.
EDGEDET_HD i32 column_of(const ScoreRule& rule, i32 class_id) {
  return class_id + (rule.background >= 0 && class_id >= rule.background ? 1 : 0);
}

/// What turns logits into a softmax; as the NumPy twin, it is NaN for all where one of them is NaN or +inf.
struct Softmax {
  float largest;
  float sum;
  EDGEDET_HD float operator()(float logit) const { return expf(logit - largest) / sum; }
};

template <class Group, typename T>
EDGEDET_DEVICE Softmax softmax_of(const Group& group, i32 columns, const Values<T>& values) {
  float largest = float_of(0xff800000u);
#pragma unroll 8
  for (i32 column = group.first(); column < columns; column += group.step())
    largest = greatest(largest, values(column));
  largest = group.largest(largest);
  float sum = 0.0f;
  for (i32 column = group.first(); column < columns; column += group.step()) sum += expf(values(column) - largest);
  return {largest, group.sum(sum)};
}

/// Whether any class stands high enough above the background that its softmax can reach the confidence.
template <class Group, typename T>
EDGEDET_DEVICE bool above_background(const Group& group, const ScoreRule& rule, const Values<T>& values) {
  const float background = values(rule.background);
  bool found = false;
#pragma unroll 8
  for (i32 column = group.first(); column <= rule.classes; column += group.step())
    if (column != rule.background && values(column) - background >= rule.logit) found = true;
  return group.any(found);
}

/// Chooses among raw class scores; `emit(Passing)` gets final scores. Sigmoids are taken of what was chosen only.
template <class Group, typename T, class Emit>
EDGEDET_DEVICE void choose_raw(const Group& group, const ScoreRule& rule, const i32* wanted, const Values<T>& values,
                               const Emit& emit) {
  const i32 columns = rule.classes + (rule.background >= 0 ? 1 : 0);
  if (rule.activation == kSoftmax) {
    if (rule.background >= 0 && !above_background(group, rule, values)) return;
    const Softmax softmax = softmax_of(group, columns, values);
    const auto score = [&](i32 class_id) { return softmax(values(column_of(rule, class_id))); };
    choose(group, rule, wanted, rule.confidence, score, emit);
    return;
  }
  const bool sigmoids = rule.activation == kSigmoid;
  const auto raw = [&](i32 class_id) { return values(column_of(rule, class_id)); };
  choose(group, rule, wanted, sigmoids ? rule.logit : rule.confidence, raw, [&](const Passing& found) {
    const float score = sigmoids ? sigmoid(found.value) : found.value;
    if (score >= rule.confidence) emit(Passing{score, found.class_id});
  });
}

/// Chooses among activated class scores times a factor; where that is at most 1, a logit may rule out what it makes.
template <class Group, typename T, class Emit>
EDGEDET_DEVICE void choose_activated(const Group& group, const ScoreRule& rule, const i32* wanted,
                                     const Values<T>& values, float factor, const Emit& emit) {
  if (rule.activation == kSoftmax) {
    const Softmax softmax = softmax_of(group, rule.classes + (rule.background >= 0 ? 1 : 0), values);
    const auto score = [&](i32 class_id) { return softmax(values(column_of(rule, class_id))) * factor; };
    choose(group, rule, wanted, rule.confidence, score, emit);
    return;
  }
  const bool sigmoids = rule.activation == kSigmoid;
  // Lower still by far more than the rounding of any sigmoid.
  const float least_logit = factor <= 1.0f ? rule.logit - 1e-4f : float_of(0xff800000u);
  const auto score = [&](i32 class_id) {
    const float value = values(column_of(rule, class_id));
    if (!sigmoids) return value * factor;
    return value >= least_logit ? sigmoid(value) * factor : nan_value();
  };
  choose(group, rule, wanted, rule.confidence, score, emit);
}

}  // namespace edgedet
