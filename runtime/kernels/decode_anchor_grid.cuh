// Decode of anchor_grid: raw grids with anchors at one or several strides, a tensor a level.
//
// Maths: runtime/heads/anchor_grid.py. Boxes (expf) agree with the twin's within 2e-6 of the coordinate, of the
// anchor's cell and of the side.
//
// Memory pattern: a thread an anchor of a cell, neighbouring threads on neighbouring cells. It reads the raw
// objectness, from NCHW coalesced, and stops there for all but a few; these go on alone over their classes.
//
// Why one launch for all levels and not one a level: the coarse levels have a few hundred cells, which fill no GPU, and
// a launch costs more than finding a thread's level among at most eight. Levels are a table by value: constant memory.
#pragma once

#include "grids.cuh"
#include "scores.cuh"

namespace edgedet {

struct AnchorGridLevel {
  u64 output;   // address of the level's tensor
  i32 first;    // location of its first cell among those of all levels
  i32 cells;    // columns * rows
  i32 columns;
  i32 anchors;
  i32 first_anchor;  // among the anchors of all levels
  i32 channel_step;  // elements from a channel to the next, from an anchor to the next, from a cell to the next
  i32 anchor_step;
  i32 cell_step;
  float stride;
  float scale_xy;
  float shift_xy;  // (scale_xy - 1) / 2
  i32 reserved;
};
static_assert(sizeof(AnchorGridLevel) == 56, "the launcher writes these bytes");

struct AnchorGrid {
  ScoreRule rule;
  i32 locations;
  i32 levels;
  i32 squared;  // 1: sides by (2 * sigmoid) ** 2, 0: by exp
  AnchorGridLevel level[kMostLevels];
};
static_assert(sizeof(AnchorGrid) == 488, "the launcher writes these bytes");

/// `anchor` is its width and height in pixels.
template <typename T>
EDGEDET_HD Box anchor_grid_box(const AnchorGrid& head, const AnchorGridLevel& level, const Values<T>& values, i32 cell,
                               const float* anchor) {
  const float x = sigmoid(values(0)), y = sigmoid(values(1));
  float shift_x, shift_y, growth_x, growth_y;
  if (head.squared != 0) {
    const float root_x = 2.0f * sigmoid(values(2)), root_y = 2.0f * sigmoid(values(3));
    shift_x = 2.0f * x - 0.5f;
    shift_y = 2.0f * y - 0.5f;
    growth_x = root_x * root_x;
    growth_y = root_y * root_y;
  } else {
    shift_x = x * level.scale_xy - level.shift_xy;
    shift_y = y * level.scale_xy - level.shift_xy;
    growth_x = expf(values(2));
    growth_y = expf(values(3));
  }
  const i32 row = cell / level.columns, column = cell % level.columns;
  return box_around((static_cast<float>(column) + shift_x) * level.stride,
                    (static_cast<float>(row) + shift_y) * level.stride, anchor[0] * growth_x, anchor[1] * growth_y);
}

/// T: element type of the tensors.
template <typename T>
EDGEDET_DEVICE void decode_anchor_grid(const AnchorGrid& head, const float* anchors, const i32* wanted,
                                       const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const AnchorGridLevel& level = head.level[level_of(head.level, head.levels, place.location)];
  const i32 inside = place.location - level.first;
  const i32 anchor = inside / level.cells, cell = inside % level.cells;
  const i64 picture = static_cast<i64>(5 + head.rule.classes) * level.anchors * level.cells * place.picture;
  const Values<T> values = {reinterpret_cast<const T*>(level.output) + picture +
                                static_cast<i64>(anchor) * level.anchor_step + static_cast<i64>(cell) * level.cell_step,
                            level.channel_step};
  const float objectness = values(4);
  if (!(objectness >= head.rule.logit)) return;  // a class probability is at most 1
  const Values<T> classes = {values.at + static_cast<i64>(5) * level.channel_step, level.channel_step};
  choose_activated(Alone{}, head.rule, wanted, classes, sigmoid(objectness), [&](const Passing& found) {
    const Box box = anchor_grid_box(head, level, values, cell, anchors + 2 * (level.first_anchor + anchor));
    append(list, place.picture,
           {box, found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
