// How the words of planned masks are shared out among threads.
//
// A warp's threads take neighbouring words of 32 pixels each and find their mask by a binary search in the plan. Work
// is so spread evenly whatever the sizes of the boxes. One thread walks along 32 pixels because neighbours share their
// samples: at four pixels a sample, it reads 1 sample a pixel instead of 4.
#pragma once

#include "masks.cuh"

namespace edgedet {

/// The last of `count` windows whose first word (or sample) is not behind `at`.
template <i32 MaskWindow::* First>
EDGEDET_HD i32 window_at(const MaskWindow* windows, i32 count, i32 at) {
  i32 low = 0, high = count;
  while (high - low > 1) {
    const i32 middle = (low + high) / 2;
    if (windows[middle].*First <= at)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/// Calls `paint(k, record, window, word)` for each word of a picture's masks and keeps what it answers.
template <typename Paint>
EDGEDET_DEVICE void paint_words(const MaskList& masks, const MaskWindow* windows, const i32* counts,
                                const Paint& paint) {
  const i32 picture = static_cast<i32>(blockIdx.y);
  const u64 row = static_cast<u64>(picture) * static_cast<u64>(masks.limit);
  const i32 words = least(masks.needed[2 * picture], masks.capacity), count = counts[picture];
  const i32 step = static_cast<i32>(gridDim.x * blockDim.x);
  for (i32 word = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x); word < words; word += step) {
    const i32 k = window_at<&MaskWindow::first_word>(windows + row, count, word);
    const MaskRecord record = masks.records[row + static_cast<u64>(k)];
    if (record.first_word < 0) continue;
    masks.bits[static_cast<u64>(picture) * static_cast<u64>(masks.capacity) + static_cast<u64>(word)] =
        paint(k, record, windows[row + static_cast<u64>(k)], word - record.first_word);
  }
}

}  // namespace edgedet
