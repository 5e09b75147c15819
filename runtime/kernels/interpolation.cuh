// Where the pixels of a picture lie among the samples of a coarser grid, one axis at a time.
//
// Maths: pixel i has its middle at (i + .5) * step + offset in pixels of the network's input, and at
// (middle - before) * scale - after in samples, cut to the samples that may be used; it mixes the sample below with the
// next one. In double precision and in the order of runtime/interpolation.py, so that both sides agree to the bit.
//
// Memory pattern: 8 bytes a row and a column are worked out once a picture and read by all its pixels. A picture has
// thousands of rows and columns and millions of pixels, and most GPUs do double precision at 1/64 of the pace.
#pragma once

#include "host_device.cuh"

namespace edgedet {

/// How one axis of a picture is read from samples (interpolation.py mirrors it).
struct AxisRule {
  double step, offset;          // from pixels of the picture to pixels of the network's input
  double before, scale, after;  // from there to samples
  i32 pixels;                   // of the picture
  i32 lowest, highest;          // samples that may be used
  i32 nearest;                  // 1: the sample that the position lies behind is taken as it is
};

static_assert(sizeof(AxisRule) == 56, "as interpolation.py mirrors it");

struct AxisPlace {
  i32 first;    // sample below
  float share;  // of the next one, 0 where there is none
};

static_assert(sizeof(AxisPlace) == 8, "as interpolation.py mirrors it");

EDGEDET_HD AxisPlace axis_place(const AxisRule& rule, i32 pixel) {
  const double middle = (static_cast<double>(pixel) + 0.5) * rule.step + rule.offset;
  const double position = clamped((middle - rule.before) * rule.scale - rule.after, static_cast<double>(rule.lowest),
                                  static_cast<double>(rule.highest));
  const i32 first = static_cast<i32>(position);
  return {first, rule.nearest != 0 ? 0.0f : static_cast<float>(position - static_cast<double>(first))};
}

/// The next sample, or the same where nothing of the next is mixed in (it may not exist).
EDGEDET_HD i32 next_of(const AxisPlace& place) { return place.share > 0.0f ? place.first + 1 : place.first; }

/// The tables of a batch: (pictures, 2, length) with rows before columns.
EDGEDET_HD const AxisPlace* rows_of(const AxisPlace* places, i32 picture, i32 length) {
  return places + static_cast<u64>(picture) * 2u * static_cast<u64>(length);
}

EDGEDET_HD const AxisPlace* columns_of(const AxisPlace* places, i32 picture, i32 length) {
  return rows_of(places, picture, length) + length;
}

/// NaN as the lowest logit and infinities cut off, as heads/logit_maps.py does: mixtures need finite samples.
EDGEDET_HD float finite_logit(float value) {
  if (is_finite(value)) return value;
  return !is_nan(value) && value > 0.0f ? 1e4f : -1e4f;
}

}  // namespace edgedet
