// Several threads of a warp that answer for one location together (see scores.cuh).
//
// Memory pattern: of a row of class scores the lanes read neighbours, so that a warp reads whole lines. As many lanes
// as there are classes, up to 32: where there are few, a warp reads several rows, which lie behind each other.
//
// They exchange values by warp functions that name these lanes only: the lanes of one location always take the same way
// through the code, those of two locations need not. (From sm_70 on; older GPUs run a warp in step.)
#pragma once

#include "scores.cuh"

namespace edgedet {

/// Several threads of a warp, side by side, answer for a location: a power of two of them.
struct Lanes {
  i32 lane;   // of this thread among them
  i32 count;  // how many
  u32 mask;   // which of the warp they are

  EDGEDET_DEVICE i32 first() const { return lane; }
  EDGEDET_DEVICE i32 step() const { return count; }
  EDGEDET_DEVICE bool leads() const { return lane == 0; }
  EDGEDET_DEVICE bool any(bool mine) const { return (__ballot_sync(mask, mine ? 1 : 0) & mask) != 0u; }

  EDGEDET_DEVICE float largest(float mine) const {
    for (i32 apart = count / 2; apart > 0; apart /= 2) mine = greatest(mine, __shfl_xor_sync(mask, mine, apart));
    return mine;
  }

  EDGEDET_DEVICE float sum(float mine) const {
    for (i32 apart = count / 2; apart > 0; apart /= 2) mine += __shfl_xor_sync(mask, mine, apart);
    return mine;
  }

  EDGEDET_DEVICE Passing best(Passing mine) const {
    for (i32 apart = count / 2; apart > 0; apart /= 2) {
      const Passing other = {__shfl_xor_sync(mask, mine.value, apart), __shfl_xor_sync(mask, mine.class_id, apart)};
      if (better(other, mine)) mine = other;
    }
    return mine;
  }
};

EDGEDET_DEVICE Place place_of_lanes(i32 count) {
  const u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
  return {static_cast<i32>(blockIdx.y), static_cast<i32>(thread / static_cast<u32>(count))};
}

EDGEDET_DEVICE Lanes lanes_of_thread(i32 count) {
  const u32 lane = threadIdx.x % static_cast<u32>(count), start = threadIdx.x % 32u - lane;
  const u32 low = count == 32 ? 0xffffffffu : (1u << static_cast<u32>(count)) - 1u;
  return {static_cast<i32>(lane), count, low << start};
}

}  // namespace edgedet
