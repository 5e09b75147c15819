// Decode of end_to_end: boxes that the network has decoded and thinned out; only the selection is left.
//
// Maths: runtime/heads/end_to_end.py; boxes and scores are the bits of the twin. A class id that int32 does not hold is
// dropped (the twin, whose ids have 64 bits, keeps it).
//
// Memory pattern: a thread a row. There are some hundred rows, of which only the scores are read where they are too
// low.
#pragma once

#include "candidates.cuh"
#include "scores.cuh"

namespace edgedet {

enum LabelType : i32 { kFloatLabels = 0, kHalfLabels = 1, kIntLabels = 2, kLongLabels = 3 };

struct EndToEnd {
  float confidence;
  i32 locations;
  i32 box_step;    // elements from a row to the next: of boxes, scores, labels
  i32 score_step;  //
  i32 label_step;  //
  i32 first_score;  // where in its row each stands
  i32 first_label;  //
  i32 label_type;
  i32 class_offset;  // added to every label
  i32 wanted_count;  // class ids in the list of wanted ones, -1 for all
  float scale_x;     // from the box's unit to pixels
  float scale_y;
};
static_assert(sizeof(EndToEnd) == 48, "the launcher writes these bytes");

/// The class of a label, -1 where it has none.
EDGEDET_HD i32 class_of_label(i64 label, i32 offset) {
  if (label < -0x80000000ll || label > 0x100000000ll) return -1;
  const i64 class_id = label + offset;
  return class_id >= 0 && class_id <= 0x7fffffffll ? static_cast<i32>(class_id) : -1;
}

/// Labels that are not whole are cut towards 0; what is not finite or beyond int32 has no class.
EDGEDET_HD i32 class_of_label(float label, i32 offset) {
  if (!(label >= -2147483648.0f && label <= 4294967296.0f)) return -1;
  return class_of_label(static_cast<i64>(label), offset);
}

EDGEDET_HD i32 class_of_row(const EndToEnd& head, const void* labels, i64 at) {
  switch (head.label_type) {
    case kFloatLabels: return class_of_label(static_cast<const float*>(labels)[at], head.class_offset);
    case kHalfLabels: return class_of_label(to_float(static_cast<const Half*>(labels)[at]), head.class_offset);
    case kIntLabels: return class_of_label(static_cast<i64>(static_cast<const i32*>(labels)[at]), head.class_offset);
    default: return class_of_label(static_cast<const i64*>(labels)[at], head.class_offset);
  }
}

EDGEDET_HD bool is_wanted(const EndToEnd& head, const i32* wanted, i32 class_id) {
  if (head.wanted_count < 0) return true;
  for (i32 index = 0; index < head.wanted_count; ++index)
    if (wanted[index] == class_id) return true;
  return false;
}

/// The three tensors may be one.
template <typename T>
EDGEDET_DEVICE void decode_end_to_end(const EndToEnd& head, const T* boxes, const T* scores, const void* labels,
                                      const i32* wanted, const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 row = static_cast<i64>(place.picture) * head.locations + place.location;
  const float score = to_float(scores[row * head.score_step + head.first_score]);
  if (!(score >= head.confidence)) return;
  const i32 class_id = class_of_row(head, labels, row * head.label_step + head.first_label);
  if (class_id < 0 || !is_wanted(head, wanted, class_id)) return;
  const Values<T> values = {boxes + row * head.box_step, 1};
  const Box box = {values(0), values(1), values(2), values(3)};
  append(list, place.picture,
         {scaled(box, head.scale_x, head.scale_y), score, class_id, place.location, static_cast<u32>(place.location)});
}

}  // namespace edgedet
