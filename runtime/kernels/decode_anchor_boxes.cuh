// Decode of anchor_boxes: offsets to anchor boxes (or boxes that are decoded already), and class scores.
//
// Maths: runtime/heads/anchor_boxes.py. Decoded boxes and the centres of the others are the bits of the twin, sides
// (expf) agree within 2e-6 of their length, scores as scores.cuh says.
//
// Memory pattern: rows of class scores (91 of them, up to 120,000 rows: nearly all bytes) are read whole, lanes side by
// side on the classes; four offsets and four anchor values by the lane that found the candidate.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct AnchorBoxes {
  ScoreRule rule;
  i32 locations;
  i32 swapped;   // 1: offsets come y x h w
  i32 centered;  // decoded boxes: 1: cx cy w h, 0: corners
  float variance[4];  // of x, y, w, h
  float scale_x;      // of decoded boxes, from their unit to pixels
  float scale_y;
};
static_assert(sizeof(AnchorBoxes) == 64, "the launcher writes these bytes");

/// `anchor` is cx cy w h in pixels, or null where boxes come decoded.
template <typename T>
EDGEDET_HD Box anchor_box(const AnchorBoxes& head, const Values<T>& values, const float* anchor) {
  if (anchor == nullptr) {
    const float a = values(0), b = values(1), c = values(2), d = values(3);
    return scaled(head.centered != 0 ? box_around(a, b, c, d) : Box{a, b, c, d}, head.scale_x, head.scale_y);
  }
  const i32 x = head.swapped != 0 ? 1 : 0;
  const float move_x = values(x) * head.variance[0], move_y = values(1 - x) * head.variance[1];
  const float grow_x = values(2 + x) * head.variance[2], grow_y = values(3 - x) * head.variance[3];
  return box_around(anchor[0] + move_x * anchor[2], anchor[1] + move_y * anchor[3], anchor[2] * expf(grow_x),
                    anchor[3] * expf(grow_y));
}

template <class Group, typename T>
EDGEDET_DEVICE void decode_anchor_boxes(const Group& group, const AnchorBoxes& head, const T* boxes, const T* scores,
                                        const float* anchors, const i32* wanted, const CandidateList& list,
                                        Place place) {
  if (place.location >= head.locations) return;
  const i64 row = static_cast<i64>(place.picture) * head.locations + place.location;
  const i32 columns = head.rule.classes + (head.rule.background >= 0 ? 1 : 0);
  choose_raw(group, head.rule, wanted, Values<T>{scores + row * columns, 1}, [&](const Passing& found) {
    const float* anchor = anchors == nullptr ? nullptr : anchors + 4 * static_cast<i64>(place.location);
    append(list, place.picture,
           {anchor_box(head, Values<T>{boxes + 4 * row, 1}, anchor), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
