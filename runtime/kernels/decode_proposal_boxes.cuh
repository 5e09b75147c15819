// Decode of proposal_boxes: scores of regions that were proposed to the network, and offsets to them.
//
// Maths: runtime/heads/proposal_boxes.py. Regions that are not moved, and centres, are the bits of the twin; sides
// (expf) agree within 2e-6 of their length, scores as scores.cuh says.
//
// Memory pattern: rows of class scores are read whole, lanes side by side on the classes; of a region's offsets only
// the four of the class that was found.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct ProposalBoxes {
  ScoreRule rule;
  i32 locations;        // regions
  i32 offset_columns;   // of a region; 0 where the network does not move regions
  i32 class_specific;   // 1: each class has four offsets of its own
  i32 with_background;  // 1: and so has the background, in its place
  float variance[4];    // of x, y, w, h
  float largest_growth;
};
static_assert(sizeof(ProposalBoxes) == 64, "the launcher writes these bytes");

/// Moves a region (x1 y1 x2 y2).
template <typename T>
EDGEDET_HD Box moved_region(const ProposalBoxes& head, const Box& region, const Values<T>& offsets) {
  const float width = region.x2 - region.x1, height = region.y2 - region.y1;
  const float grow_x = offsets(2) * head.variance[2], grow_y = offsets(3) * head.variance[3];
  return box_around((region.x1 + width * 0.5f) + offsets(0) * head.variance[0] * width,
                    (region.y1 + height * 0.5f) + offsets(1) * head.variance[1] * height,
                    width * expf(grow_x > head.largest_growth ? head.largest_growth : grow_x),
                    height * expf(grow_y > head.largest_growth ? head.largest_growth : grow_y));
}

template <class Group, typename T>
EDGEDET_DEVICE void decode_proposal_boxes(const Group& group, const ProposalBoxes& head, const T* scores,
                                          const T* offsets, const float* regions, const i32* wanted,
                                          const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 row = place.location;
  const i32 columns = head.rule.classes + (head.rule.background >= 0 ? 1 : 0);
  choose_raw(group, head.rule, wanted, Values<T>{scores + row * columns, 1}, [&](const Passing& found) {
    Box box = {regions[4 * row], regions[4 * row + 1], regions[4 * row + 2], regions[4 * row + 3]};
    if (head.offset_columns != 0) {
      const i32 own = head.with_background != 0 ? column_of(head.rule, found.class_id) : found.class_id;
      const T* first = offsets + row * head.offset_columns + (head.class_specific != 0 ? 4 * own : 0);
      box = moved_region(head, box, Values<T>{first, 1});
    }
    append(list, place.picture,
           {box, found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
