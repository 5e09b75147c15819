// Decode of localizer: the class scores of the whole picture and one box.
//
// Maths: runtime/heads/localizer.py. Boxes are the bits of the twin, scores agree as scores.cuh says.
//
// Memory pattern: a warp a picture, its lanes side by side on the class scores.
#pragma once

#include "scores.cuh"

namespace edgedet {

enum BoxOrder : i32 { kCorners = 0, kCenterSize = 1, kCenterHeightWidth = 2 };

struct Localizer {
  ScoreRule rule;
  i32 class_step;       // elements from a picture to the next: of the class scores, of the box, of p_c
  i32 box_step;         //
  i32 objectness_step;  // 0: there is no p_c
  i32 first_class;      // where in its tensor each begins
  i32 first_box;        //
  i32 objectness_sigmoid;
  i32 box_order;
  float scale_x;  // from the box's unit to pixels
  float scale_y;
};
static_assert(sizeof(Localizer) == 64, "the launcher writes these bytes");

template <typename T> EDGEDET_HD Box localizer_box(const Localizer& head, const Values<T>& values) {
  const float a = values(0), b = values(1), c = values(2), d = values(3);
  Box box = {a, b, c, d};
  if (head.box_order == kCenterSize) box = box_around(a, b, c, d);
  if (head.box_order == kCenterHeightWidth) box = box_around(a, b, d, c);
  return scaled(box, head.scale_x, head.scale_y);
}

/// The three tensors may be one.
template <class Group, typename T>
EDGEDET_DEVICE void decode_localizer(const Group& group, const Localizer& head, const T* classes, const T* boxes,
                                     const T* objectness, const i32* wanted, const CandidateList& list, i32 picture) {
  const i64 index = picture;
  float factor = 1.0f;
  if (head.objectness_step != 0) {
    factor = to_float(objectness[index * head.objectness_step]);
    if (head.objectness_sigmoid != 0) factor = sigmoid(factor);
  }
  const Values<T> scores = {classes + index * head.class_step + head.first_class, 1};
  choose_activated(group, head.rule, wanted, scores, factor, [&](const Passing& found) {
    const Values<T> values = {boxes + index * head.box_step + head.first_box, 1};
    append(list, picture,
           {localizer_box(head, values), found.value, found.class_id, 0,
            rank_by_location(head.rule, 0, found.class_id)});
  });
}

}  // namespace edgedet
