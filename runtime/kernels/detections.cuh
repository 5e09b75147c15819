// The final detections of a batch: what one small copy brings to the host.
//
// Layout: one allocation of 32-bit words: boxes (B, K, 4), scores (B, K), class ids (B, K), locations (B, K), counts
// (B), candidates found (B). The last says how many passed the threshold before NMS, so that the host sees a candidate
// list that overflowed without asking the device again.
//
// Maths: source = (input - offset) * scale, clipped to 0..limit, in float32, as Placement.to_source does it.
#pragma once

#include "candidates.cuh"

namespace edgedet {

/// From pixels of the network's input to pixels of the source picture.
struct SourcePlacement {
  float scale_x, scale_y, offset_x, offset_y, limit_x, limit_y;
};

static_assert(sizeof(SourcePlacement) == 24, "six floats, as the host uploads them");

struct DetectionList {
  float* xyxy;    // (pictures, limit, 4) pixels of the source picture
  float* score;   // (pictures, limit)
  i32* class_id;  // (pictures, limit)
  i32* location;  // (pictures, limit)
  i32* count;     // (pictures,)
  i32* found;     // (pictures,) candidates above the threshold
  i32 pictures;
  i32 limit;
};

/// Finds the arrays in the one allocation.
EDGEDET_HD DetectionList detection_list(u32* words, i32 pictures, i32 limit) {
  const u64 places = static_cast<u64>(pictures) * static_cast<u64>(limit);
  i32* counts = reinterpret_cast<i32*>(words + 7 * places);
  return {reinterpret_cast<float*>(words),
          reinterpret_cast<float*>(words + 4 * places),
          reinterpret_cast<i32*>(words + 5 * places),
          reinterpret_cast<i32*>(words + 6 * places),
          counts,
          counts + pictures,
          pictures,
          limit};
}

EDGEDET_HD Box unclipped_to_source(const Box& box, const SourcePlacement& at) {
  return {(box.x1 - at.offset_x) * at.scale_x, (box.y1 - at.offset_y) * at.scale_y, (box.x2 - at.offset_x) * at.scale_x,
          (box.y2 - at.offset_y) * at.scale_y};
}

EDGEDET_HD Box to_source(const Box& box, const SourcePlacement& at) {
  const Box whole = unclipped_to_source(box, at);
  return {clamped(whole.x1, 0.0f, at.limit_x), clamped(whole.y1, 0.0f, at.limit_y), clamped(whole.x2, 0.0f, at.limit_x),
          clamped(whole.y2, 0.0f, at.limit_y)};
}

EDGEDET_HD void write_detection(const DetectionList& list, u64 place, const Box& box, float score, i32 class_id,
                                i32 location) {
  float* xyxy = list.xyxy + 4 * place;
  xyxy[0] = box.x1;
  xyxy[1] = box.y1;
  xyxy[2] = box.x2;
  xyxy[3] = box.y2;
  list.score[place] = score;
  list.class_id[place] = class_id;
  list.location[place] = location;
}

}  // namespace edgedet
