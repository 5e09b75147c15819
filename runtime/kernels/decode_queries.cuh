// Decode of queries: class logits and a box of each query of a transformer.
//
// Maths: runtime/heads/queries.py. Boxes are the bits of the twin, scores agree as scores.cuh says.
//
// Memory pattern: rows of logits are read whole, lanes side by side on the classes. 300 queries are 300 warps and read
// once; there is nothing to gain from a tile.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct Queries {
  ScoreRule rule;
  i32 locations;
  i32 centered;   // 1: boxes are cx cy w h, 0: corners
  float scale_x;  // from the box's unit to pixels
  float scale_y;
};
static_assert(sizeof(Queries) == 44, "the launcher writes these bytes");

template <class Group, typename T>
EDGEDET_DEVICE void decode_queries(const Group& group, const Queries& head, const T* logits, const T* boxes,
                                   const i32* wanted, const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 row = static_cast<i64>(place.picture) * head.locations + place.location;
  const i32 columns = head.rule.classes + (head.rule.background >= 0 ? 1 : 0);
  choose_raw(group, head.rule, wanted, Values<T>{logits + row * columns, 1}, [&](const Passing& found) {
    const Values<T> values = {boxes + 4 * row, 1};
    const float a = values(0), b = values(1), c = values(2), d = values(3);
    const Box box = head.centered != 0 ? box_around(a, b, c, d) : Box{a, b, c, d};
    append(list, place.picture,
           {scaled(box, head.scale_x, head.scale_y), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
