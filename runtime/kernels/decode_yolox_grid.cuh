// Decode of yolox_grid: rows of offsets to grid cells, objectness and class scores, all levels in one tensor.
//
// Maths: runtime/heads/yolox_grid.py. Centres, and scores that the network activated, are the bits of the twin; sides
// (expf) agree within 2e-6 of their length.
//
// Memory pattern: a thread a row reads its objectness, one memory sector, and stops there for all but a few rows. Those
// read their classes eight neighbours, one sector, at a time: a warp that took them on together would work on one row
// after the other and wait just as long.
#pragma once

#include "grids.cuh"
#include "scores.cuh"

namespace edgedet {

struct YoloxGrid {
  ScoreRule rule;
  i32 locations;
  i32 levels;
  float least_objectness;  // in the unit of the tensor
  GridLevel level[kMostLevels];
};
static_assert(sizeof(YoloxGrid) == 136, "the launcher writes these bytes");

template <typename T> EDGEDET_HD Box yolox_box(const YoloxGrid& head, const Values<T>& values, i32 location) {
  const GridLevel& level = head.level[level_of(head.level, head.levels, location)];
  const GridPoint corner = grid_point(location - level.first, level.columns, level.stride, 0.0f);
  return box_around(values(0) * level.stride + corner.x, values(1) * level.stride + corner.y,
                    expf(values(2)) * level.stride, expf(values(3)) * level.stride);
}

template <typename T>
EDGEDET_DEVICE void decode_yolox_grid(const YoloxGrid& head, const T* output, const i32* wanted,
                                      const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 row = static_cast<i64>(place.picture) * head.locations + place.location;
  const Values<T> values = {output + row * (5 + head.rule.classes), 1};
  const float objectness = values(4);
  if (!(objectness >= head.least_objectness)) return;  // a class score is at most 1
  const Values<T> classes = {values.at + 5, 1};
  const float factor = head.rule.activation == kSigmoid ? sigmoid(objectness) : objectness;
  choose_activated(Alone{}, head.rule, wanted, classes, factor, [&](const Passing& found) {
    append(list, place.picture,
           {yolox_box(head, values, place.location), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
