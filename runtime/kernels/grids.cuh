// Grid points of feature maps, as runtime/heads/grids.py has them; computed where they are needed, since a table of
// them would be as large as what is read beside it.
#pragma once

#include "host_device.cuh"

namespace edgedet {

enum : i32 { kMostLevels = 8 };

struct GridLevel {
  i32 first;  // location of its first cell among those of all levels
  i32 columns;
  float stride;
};
static_assert(sizeof(GridLevel) == 12, "the launcher writes these bytes");

struct GridPoint {
  float x, y;  // pixels of the network's input
};

/// The last of some levels (anything with `first`) that begins at or before a location.
template <class Level> EDGEDET_HD i32 level_of(const Level* levels, i32 count, i32 location) {
  i32 level = 0;
  while (level + 1 < count && location >= levels[level + 1].first) ++level;
  return level;
}

/// The point of a cell; `offset` 0 is its corner, 0.5 its middle.
EDGEDET_HD GridPoint grid_point(i32 cell, i32 columns, float stride, float offset) {
  const i32 row = cell / columns, column = cell % columns;
  return {(static_cast<float>(column) + offset) * stride, (static_cast<float>(row) + offset) * stride};
}

}  // namespace edgedet
