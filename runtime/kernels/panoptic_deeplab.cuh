// Panoptic-DeepLab: objects from a class and an offset to its object's center for each pixel.
//
// Maths, that of runtime/heads/panoptic_deeplab.py. A center is a cell of the heatmap that is the largest within a
// window and reaches a threshold. Of centers within a window's reach of each other the best one stays: that is
// non-maximum suppression of squares around them, `reach` + .5 wide, at an IoU of 0, since whole cells are at most
// `reach` apart just where such squares overlap. So nms.cu chooses the centers. A pixel of a thing belongs to the
// center nearest to where its offset points, and an object is of the class of most of its pixels.
//
// A part (an object, or the stuff of a class) scores the mean probability of its class over some of its pixels. The sum
// is taken in whole numbers of 2^-32, so that it does not depend on the order in which threads add to it.
#pragma once

#include "candidates.cuh"
#include "detections.cuh"
#include "interpolation.cuh"
#include "masks.cuh"
#include "panoptic.cuh"
#include "scores.cuh"

namespace edgedet {

constexpr i32 kMostParts = 1024;
constexpr u16 kNoPart = 0xffff;

/// How the outputs are read; panoptic_deeplab.py mirrors it.
struct DeeplabRule {
  float threshold;     // that a center must reach
  float offset_scale;  // input pixels that an offset of 1 stands for
  float confidence;    // that a segment must reach
  i32 sigmoid;         // 1: of the heatmap's values
  i32 window;          // cells, odd
  i32 max_centers;
  i32 stuff_area;  // pixels of the network's input that stuff must have
  i32 classes;
  i32 class_height, class_width;    // of the semantic logits
  i32 center_height, center_width;  // of the heatmap
  i32 offset_height, offset_width;  // of the offsets
};

static_assert(sizeof(DeeplabRule) == 56, "as panoptic_deeplab.py mirrors it");

/// From pixels of the network's input to those of the source; in double precision, as centers are placed.
struct CenterPlacement {
  double top, left, scale_y, scale_x;
  double cell_height, cell_width;  // of the heatmap in input pixels
};

static_assert(sizeof(CenterPlacement) == 48, "as panoptic_deeplab.py mirrors it");

template <typename T>
EDGEDET_HD float center_score(const T* heatmap, const DeeplabRule& rule, i32 row, i32 column) {
  const float value = to_float(heatmap[row * rule.center_width + column]);
  if (is_nan(value)) return -float_of(0x7f800000u);
  return rule.sigmoid != 0 ? sigmoid(value) : value;
}

/// Whether a cell is the largest around, or as large.
template <typename T>
EDGEDET_HD bool is_peak(const T* heatmap, const DeeplabRule& rule, i32 row, i32 column, float score) {
  const i32 reach = rule.window / 2;
  const i32 bottom = least(row + reach, rule.center_height - 1), right = least(column + reach, rule.center_width - 1);
  for (i32 y = greatest(row - reach, 0); y <= bottom; ++y)
    for (i32 x = greatest(column - reach, 0); x <= right; ++x)
      if (center_score(heatmap, rule, y, x) > score) return false;
  return true;
}

/// The square that stands for a center in non-maximum suppression, in cells.
EDGEDET_HD Box square_around(i32 row, i32 column, i32 window) {
  const i32 reach = window / 2;
  const float half = (static_cast<float>(reach) + 0.5f) * 0.5f;
  const float y = static_cast<float>(row), x = static_cast<float>(column);
  return {x - half, y - half, x + half, y + half};
}

struct Center {
  float y, x;  // in source pixels
};

EDGEDET_HD Center center_of(i32 cell, const DeeplabRule& rule, const CenterPlacement& at) {
  const i32 cells_above = cell / rule.center_width;
  const double row = static_cast<double>(cells_above) + 0.5;
  const double column = static_cast<double>(cell % rule.center_width) + 0.5;
  return {static_cast<float>((row * at.cell_height - at.top) * at.scale_y),
          static_cast<float>((column * at.cell_width - at.left) * at.scale_x)};
}

/// Where a pixel's offset points, in source pixels. offsets: down, then right, each (height, width).
template <typename T>
EDGEDET_HD Center pointed_at(const T* offsets, const DeeplabRule& rule, const CenterPlacement& at, i32 y, i32 x,
                             const AxisPlace& row, const AxisPlace& column) {
  const i64 plane = static_cast<i64>(rule.offset_height) * rule.offset_width;
  const MapField<T> down{offsets, rule.offset_width}, right{offsets + plane, rule.offset_width};
  const float dy = logit_at(down, row, column) * rule.offset_scale * static_cast<float>(at.scale_y);
  const float dx = logit_at(right, row, column) * rule.offset_scale * static_cast<float>(at.scale_x);
  return {static_cast<float>((static_cast<double>(y) + 0.5) + static_cast<double>(dy)),
          static_cast<float>((static_cast<double>(x) + 0.5) + static_cast<double>(dx))};
}

/// The probability of a class at a cell, in 2^-32. logits: (classes, height, width) at that cell.
template <typename T>
EDGEDET_HD u64 probability_of(const T* logits, i64 plane, i32 classes, i32 class_id) {
  float largest = finite_logit(to_float(logits[0])), sum = 0.0f;
  for (i32 k = 1; k < classes; ++k) largest = greatest(largest, finite_logit(to_float(logits[k * plane])));
  for (i32 k = 0; k < classes; ++k) sum += expf(finite_logit(to_float(logits[k * plane])) - largest);
  const float share = expf(finite_logit(to_float(logits[class_id * plane])) - largest) / sum;
  return static_cast<u64>(static_cast<double>(share) * 4294967296.0);
}

/// Every how many pixels one is looked at for a mean: two across a cell; nearest: (pixels,) places in cells.
EDGEDET_HD i32 sample_step(const AxisPlace* nearest, i32 pixels) {
  if (pixels == 0) return 1;
  const i32 cells = nearest[pixels - 1].first - nearest[0].first + 1;
  return greatest(pixels / greatest(2 * cells, 1), 1);
}

/// What is known of the parts of a batch: objects first, then the stuff of each class; (pictures, parts) each.
struct PartList {
  u64* sum;       // of probabilities, in 2^-32
  i32* samples;   // pixels that the sum is over
  i32* class_id;  //
  i32* area;      // pixels
  i32* number;    // of the segment, 0 for none
  i32* votes;     // (pictures, max_centers + 1, classes) pixels; the last row is stuff
  i32 parts;
};

EDGEDET_HD PartList part_list(u64* words, i32 pictures, const DeeplabRule& rule) {
  const i32 parts = rule.max_centers + rule.classes;
  const u64 step = static_cast<u64>(pictures) * static_cast<u64>(parts);
  i32* rest = reinterpret_cast<i32*>(words + step);
  return {words, rest, rest + step, rest + 2 * step, rest + 3 * step, rest + 4 * step, parts};
}

}  // namespace edgedet
