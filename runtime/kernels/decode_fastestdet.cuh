// Decode of fastestdet: one feature map of objectness, box and class probabilities.
//
// Maths: runtime/heads/fastestdet.py. powf, tanhf and expf agree with NumPy's within a few ulps: scores within 2e-6 of
// their size, boxes within 2e-6 of the input's.
//
// Memory pattern: channels first: a thread a cell, neighbouring threads on neighbouring cells. Most cells are ruled out
// by the plane of objectnesses alone; the others raise every class to its power, since the twin compares products.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct FastestDet {
  ScoreRule rule;
  i32 locations;
  i32 columns;
  float least_objectness;
  float objectness_power;
  float class_power;
  float cell_width;  // pixels
  float cell_height;
  float width;  // of the network's input
  float height;
};
static_assert(sizeof(FastestDet) == 64, "the launcher writes these bytes");

template <typename T> EDGEDET_HD Box fastestdet_box(const FastestDet& head, const Values<T>& values, i32 cell) {
  const i32 row = cell / head.columns, column = cell % head.columns;
  return box_around((static_cast<float>(column) + tanhf(values(1))) * head.cell_width,
                    (static_cast<float>(row) + tanhf(values(2))) * head.cell_height, sigmoid(values(3)) * head.width,
                    sigmoid(values(4)) * head.height);
}

template <typename T>
EDGEDET_DEVICE void decode_fastestdet(const FastestDet& head, const T* output, const i32* wanted,
                                      const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 picture = static_cast<i64>(5 + head.rule.classes) * head.locations * place.picture;
  const Values<T> values = {output + picture + place.location, head.locations};
  const float objectness = values(0);
  if (!(objectness >= head.least_objectness)) return;  // a class probability is at most 1
  const float factor = powf(objectness, head.objectness_power);
  const auto score = [&](i32 class_id) { return powf(values(5 + class_id), head.class_power) * factor; };
  choose(Alone{}, head.rule, wanted, head.rule.confidence, score, [&](const Passing& found) {
    append(list, place.picture,
           {fastestdet_box(head, values, place.location), found.value, found.class_id, place.location,
            rank_by_class(head.rule, head.locations, place.location, found.class_id)});
  });
}

}  // namespace edgedet
