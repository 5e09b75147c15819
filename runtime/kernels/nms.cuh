// Non-maximum suppression: the order of candidates, and whether one of them suppresses another.
//
// Maths, exactly that of runtime/nms.py and runtime/boxes.py: candidates sorted by score downwards, equal scores by
// rank upwards; the best one is kept, all others of its class whose IoU with it is strictly above the threshold are
// dropped, and so on with the best of the rest. The IoU is computed and compared in float32, every product, sum and
// quotient rounded on its own, so the same pairs overlap "too much" here and there.
#pragma once

#include "candidates.cuh"

namespace edgedet {

/// What is asked of NMS; the same for all pictures of a batch.
struct NmsRule {
  i32 suppress;        // 0: the network has done so itself, only order and limits are wanted
  i32 class_agnostic;  // 1: boxes of different classes suppress each other
  i32 max_candidates;  // only so many best ones are looked at
  i32 max_detections;  // only so many are kept
  float iou;           // 0..1
  float largest;       // candidates with a coordinate beyond this, or that is no number, are dropped
};

static_assert(sizeof(NmsRule) == 24, "as nms.py mirrors it");

/// A key that sorts after those of all candidates.
constexpr u64 kNoCandidate = ~static_cast<u64>(0);

EDGEDET_HD bool within(float coordinate, float largest) {
  return (coordinate < 0.0f ? -coordinate : coordinate) <= largest;
}

EDGEDET_HD bool usable(const Box& box, float score, float largest) {
  return !is_nan(score) && within(box.x1, largest) && within(box.y1, largest) && within(box.x2, largest) &&
         within(box.y2, largest);
}

/// A number whose ascending order is that of scores descending, then ranks ascending; the score is not NaN.
EDGEDET_HD u64 order_key(float score, u32 rank) {
  const u32 bits = bits_of(score == 0.0f ? 0.0f : score);  // -0 and 0 are equal
  const u32 ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<u64>(~ascending) << 32 | rank;
}

EDGEDET_HD u64 key_of(const CandidateList& list, u64 place, float largest) {
  const float score = list.score[place];
  return usable(box_of(list, place), score, largest) ? order_key(score, list.rank[place]) : kNoCandidate;
}

EDGEDET_HD float area_of(const Box& box) { return greatest(box.x2 - box.x1, 0.0f) * greatest(box.y2 - box.y1, 0.0f); }

/// Whether the IoU of two finite boxes is above a threshold in 0..1.
EDGEDET_HD bool overlaps(const Box& a, const Box& b, float threshold) {
  const float width = greatest(least(a.x2, b.x2) - greatest(a.x1, b.x1), 0.0f);
  const float height = greatest(least(a.y2, b.y2) - greatest(a.y1, b.y1), 0.0f);
  const float overlap = width * height;
  if (overlap <= 0.0f) return false;  // most pairs; spares the division, and 0 is above no threshold
  const float joined = (area_of(a) + area_of(b)) - overlap;
  return overlap / greatest(joined, 1.17549435e-38f) > threshold;
}

/// How many of a tile's sorted keys come before this one; of equal keys those of an earlier tile do.
EDGEDET_HD i32 sorted_before(const u64* tile, i32 length, u64 key, bool tile_is_earlier) {
  i32 low = 0, high = length;
  while (low < high) {
    const i32 middle = (low + high) / 2;
    const bool before = tile[middle] < key || (tile_is_earlier && tile[middle] == key);
    low = before ? middle + 1 : low;
    high = before ? high : middle;
  }
  return low;
}

/// Of the set bits those that come first, at most so many.
EDGEDET_HD u32 first_bits(u32 word, i32 limit) {
  u32 taken = 0;
  for (; word != 0 && limit > 0; --limit) {
    const u32 lowest = word & (0u - word);
    taken |= lowest;
    word ^= lowest;
  }
  return taken;
}

}  // namespace edgedet
