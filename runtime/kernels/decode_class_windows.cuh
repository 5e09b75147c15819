// Decode of class_windows: a map of class scores, each place of which stands for a window of the input.
//
// Maths: runtime/heads/class_windows.py. Boxes are whole numbers, scores agree as scores.cuh says.
//
// Memory pattern: channels first: a thread a window, neighbouring threads on neighbouring windows. Channels last: lanes
// side by side on the classes of a window. A softmax reads its values three times (largest, sum, choice), from cache
// after the first.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct ClassWindows {
  ScoreRule rule;
  i32 locations;
  i32 columns;
  i32 channel_step;   // elements from a class of a window to its next
  i32 location_step;  // elements from a window to the next
  i32 first_x;        // all in pixels
  i32 first_y;
  i32 stride_x;
  i32 stride_y;
  i32 width;
  i32 height;
};
static_assert(sizeof(ClassWindows) == 68, "the launcher writes these bytes");

EDGEDET_HD Box class_window(const ClassWindows& head, i32 window) {
  const i32 left = head.first_x + window % head.columns * head.stride_x;
  const i32 top = head.first_y + window / head.columns * head.stride_y;
  return {static_cast<float>(left), static_cast<float>(top), static_cast<float>(left + head.width),
          static_cast<float>(top + head.height)};
}

template <class Group, typename T>
EDGEDET_DEVICE void decode_class_windows(const Group& group, const ClassWindows& head, const T* output,
                                         const i32* wanted, const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i32 columns = head.rule.classes + (head.rule.background >= 0 ? 1 : 0);
  const i64 picture = static_cast<i64>(columns) * head.locations * place.picture;
  const Values<T> values = {output + picture + static_cast<i64>(place.location) * head.location_step,
                            head.channel_step};
  choose_activated(group, head.rule, wanted, values, 1.0f, [&](const Passing& found) {
    append(list, place.picture,
           {class_window(head, place.location), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
