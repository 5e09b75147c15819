// Decode of grid_cells: the n x n grid of the first YOLO, one object a cell.
//
// Maths: runtime/heads/grid_cells.py. Where nothing is left to be activated boxes and scores are the bits of the twin;
// sigmoids and exponentials agree within 2e-6 of the cell and of the side.
//
// Memory pattern: a thread a cell; most are ruled out by p_c. A 19 x 19 grid is 361 threads: nothing here is worth a
// tile.
#pragma once

#include "scores.cuh"

namespace edgedet {

enum SizeActivation : i32 { kSizeAsIs = 0, kSizeExp = 1, kSizeSquare = 2 };

struct GridCells {
  ScoreRule rule;
  i32 locations;
  i32 columns;
  i32 channel_step;   // elements from a channel of a cell to its next
  i32 location_step;  // elements from a cell to the next
  i32 height_first;   // 1: the height comes before the width
  i32 size_activation;
  i32 center_sigmoid;      // 1: centres are raw
  i32 objectness_sigmoid;  // 1: p_c is raw
  float least_objectness;  // in the unit of the tensor
  float cell_width;        // pixels
  float cell_height;
  float unit_width;  // pixels of a size of 1
  float unit_height;
};
static_assert(sizeof(GridCells) == 80, "the launcher writes these bytes");

EDGEDET_HD float activated_size(const GridCells& head, float value) {
  if (head.size_activation == kSizeExp) return expf(value);
  return head.size_activation == kSizeSquare ? value * value : value;
}

template <typename T> EDGEDET_HD Box grid_cell_box(const GridCells& head, const Values<T>& values, i32 cell) {
  const i32 row = cell / head.columns, column = cell % head.columns;
  float x = values(1), y = values(2);
  if (head.center_sigmoid != 0) {
    x = sigmoid(x);
    y = sigmoid(y);
  }
  const float width = activated_size(head, values(head.height_first != 0 ? 4 : 3));
  const float height = activated_size(head, values(head.height_first != 0 ? 3 : 4));
  return box_around((static_cast<float>(column) + x) * head.cell_width,
                    (static_cast<float>(row) + y) * head.cell_height, width * head.unit_width,
                    height * head.unit_height);
}

template <typename T>
EDGEDET_DEVICE void decode_grid_cells(const GridCells& head, const T* output, const i32* wanted,
                                      const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 picture = static_cast<i64>(5 + head.rule.classes) * head.locations * place.picture;
  const Values<T> values = {output + picture + static_cast<i64>(place.location) * head.location_step,
                            head.channel_step};
  const float objectness = values(0);
  if (!(objectness >= head.least_objectness)) return;  // a class probability is at most 1
  const float factor = head.objectness_sigmoid != 0 ? sigmoid(objectness) : objectness;
  const Values<T> classes = {values.at + static_cast<i64>(5) * head.channel_step, head.channel_step};
  choose_activated(Alone{}, head.rule, wanted, classes, factor, [&](const Passing& found) {
    append(list, place.picture,
           {grid_cell_box(head, values, place.location), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
