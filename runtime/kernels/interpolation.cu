// Fills the tables of interpolation.cuh: one thread a row or column.
#include "interpolation.cuh"

/// Grid: tables, blocks over the length of a table. rules: (tables,). places: (tables, length).
///
/// An axis without pixels gets places at the first sample: a batch may have fewer pictures than it has room for, and what
/// a network answers for the rest is then read from there. A negative number of pixels means that nobody will read.
extern "C" __global__ void edgedet_axis_places(const edgedet::AxisRule* rules, edgedet::AxisPlace* places,
                                               edgedet::i32 length) {
  using namespace edgedet;
  const i32 pixel = static_cast<i32>(blockIdx.y * blockDim.x + threadIdx.x);
  const AxisRule& rule = rules[blockIdx.x];
  if (pixel >= length) return;
  AxisPlace& place = places[static_cast<u64>(blockIdx.x) * static_cast<u64>(length) + static_cast<u64>(pixel)];
  if (pixel < rule.pixels)
    place = axis_place(rule, pixel);
  else if (rule.pixels == 0)
    place = {0, 0.0f};
}
