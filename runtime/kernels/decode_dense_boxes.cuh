// Decode of dense_boxes: decoded boxes and activated scores of all locations in one tensor.
//
// Maths: runtime/heads/dense_boxes.py; only + - *, so boxes and scores are the bits of the twin.
//
// Memory pattern: channels first, (C, A): a thread a location, neighbouring threads on neighbouring locations, so that
// a warp reads whole lines of one class plane after the other, eight planes under way at once; the four box planes are
// read for survivors only. 64 threads a block spread 8400 locations over 132 blocks. Anchors first, (A, C), without an
// objectness: lanes side by side on the classes of a row. With one: a thread a row reads the objectness and stops there
// for most rows; the classes of the few others are read eight neighbours, one memory sector, at a time.
//
// Why no transposed tile in shared memory for rows: no value is read twice, so a tile would only add a copy.
#pragma once

#include "scores.cuh"

namespace edgedet {

struct DenseBoxes {
  ScoreRule rule;
  i32 locations;
  i32 channels;       // of a location: 4, the objectness, classes, mask coefficients
  i32 channel_step;   // elements from a channel of a location to its next
  i32 location_step;  // elements from a location to the next
  i32 objectness;     // 1: channel 4 is one
  i32 centered;       // 1: boxes are cx cy w h, 0: corners
  i32 by_class;       // 1: the twin lists candidates class by class
  float scale_x;      // from the box's unit to pixels
  float scale_y;
};
static_assert(sizeof(DenseBoxes) == 64, "the launcher writes these bytes");

template <typename T> EDGEDET_HD Box dense_box(const DenseBoxes& head, const Values<T>& values) {
  const float a = values(0), b = values(1), c = values(2), d = values(3);
  return scaled(head.centered != 0 ? box_around(a, b, c, d) : Box{a, b, c, d}, head.scale_x, head.scale_y);
}

template <class Group, typename T>
EDGEDET_DEVICE void decode_dense_boxes(const Group& group, const DenseBoxes& head, const T* output, const i32* wanted,
                                       const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const i64 picture = static_cast<i64>(head.channels) * head.locations * place.picture;
  const Values<T> values = {output + picture + static_cast<i64>(place.location) * head.location_step,
                            head.channel_step};
  const auto emit = [&](const Passing& found) {
    const u32 rank = head.by_class != 0 ? rank_by_class(head.rule, head.locations, place.location, found.class_id)
                                        : rank_by_location(head.rule, place.location, found.class_id);
    append(list, place.picture, {dense_box(head, values), found.value, found.class_id, place.location, rank});
  };
  if (head.objectness == 0) {
    choose(group, head.rule, wanted, head.rule.confidence, [&](i32 class_id) { return values(4 + class_id); }, emit);
    return;
  }
  const float objectness = values(4);
  if (!(objectness >= head.rule.confidence)) return;  // a class score is at most 1
  const auto product = [&](i32 class_id) { return values(5 + class_id) * objectness; };
  choose(group, head.rule, wanted, head.rule.confidence, product, emit);
}

}  // namespace edgedet
