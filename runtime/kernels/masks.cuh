// Instance masks: which pixels belong to a detection, packed as the host keeps them.
//
// Three sources, one painter. A pixel's value is the bilinear mixture of four samples around its middle, and it is set
// where that is above a threshold:
//   prototypes   samples are sum over k of coefficient[k] * prototype[k], above 0 (runtime/prototype_masks.py)
//   squares      samples are those of a small square per object, in a frame of zeros, stretched over the object's grown
//                box, above .5 (runtime/roi_masks.py)
//   maps         samples are a logit map per query over the whole input, above 0 (runtime/heads/logit_masks.py)
// Rows are mixed before columns, as the reference does. Its matrix products may fuse or reorder sums, so values agree
// to float32's rounding, not to the bit: pixels whose value lies within about 1e-6 of the threshold may differ.
//
// Output: for each detection a box of whole pixels and its bits, row by row without gaps, eight pixels a byte, most
// significant bit first: byte for byte what edgedet.masks.Mask holds, so that the host only cuts the bytes apart. Bits
// and not run lengths: they are at most an eighth of a byte a pixel, their place is known before the first is painted,
// and COCO's column-major run lengths are made on the host for those who want a file.
#pragma once

#include "candidates.cuh"
#include "detections.cuh"
#include "interpolation.cuh"

namespace edgedet {

/// Where a mask lies in the picture, and in the words of its picture; as the host reads it.
struct MaskRecord {
  i32 left, top, width, height;
  i32 first_word;  // -1 where there was no room
};

/// Where a mask's words and samples begin among those of its picture, and which samples they are.
struct MaskWindow {
  i32 first_word, first_cell;
  i32 left, top, width, height;
};

static_assert(sizeof(MaskRecord) == 20 && sizeof(MaskWindow) == 24, "as masks.py mirrors them");

/// One allocation: words and samples that were needed (B, 2), records (B, K), bits (B, capacity).
struct MaskList {
  i32* needed;
  MaskRecord* records;
  u32* bits;
  i32 pictures, limit, capacity;
};

EDGEDET_HD MaskList mask_list(u32* words, i32 pictures, i32 limit, i32 capacity) {
  const u64 places = static_cast<u64>(pictures) * static_cast<u64>(limit);
  u32* records = words + 2 * static_cast<u64>(pictures);
  return {reinterpret_cast<i32*>(words),
          reinterpret_cast<MaskRecord*>(records),
          records + 5 * places,
          pictures,
          limit,
          capacity};
}

/// First pixel whose middle is not before an edge.
EDGEDET_HD i32 pixel_from(float edge) {
  const double middle = static_cast<double>(edge) - 0.5;
  const i32 whole = static_cast<i32>(middle);
  return static_cast<double>(whole) < middle ? whole + 1 : whole;
}

/// The pixels whose middles lie in a box that is clipped to the picture.
EDGEDET_HD MaskRecord pixels_of(const Box& box) {
  const i32 left = pixel_from(box.x1), top = pixel_from(box.y1);
  const i32 right = greatest(pixel_from(box.x2), left), bottom = greatest(pixel_from(box.y2), top);
  const bool empty = right == left || bottom == top;
  return {left, top, empty ? 0 : right - left, empty ? 0 : bottom - top, 0};
}

EDGEDET_HD i32 words_of(const MaskRecord& mask) {
  const i64 pixels = static_cast<i64>(mask.width) * static_cast<i64>(mask.height);
  return static_cast<i32>((pixels + 31) / 32);
}

/// The samples that a mask's pixels mix.
EDGEDET_HD MaskWindow window_of(const MaskRecord& mask, const AxisPlace* rows, const AxisPlace* columns) {
  if (mask.width == 0) return {0, 0, 0, 0, 0, 0};
  const i32 top = rows[mask.top].first, left = columns[mask.left].first;
  return {0,
          0,
          left,
          top,
          next_of(columns[mask.left + mask.width - 1]) + 1 - left,
          next_of(rows[mask.top + mask.height - 1]) + 1 - top};
}

/// How the values of a batch's mask coefficients lie in an output.
struct CoefficientRule {
  i64 picture_step, first, step, location_step;  // in elements
  i32 count;                                     // prototypes
  i32 height, width;                             // of a prototype
  i32 unused;
};

static_assert(sizeof(CoefficientRule) == 48, "as masks.py mirrors it");

/// One sample of the combination of prototypes.
template <typename T>
EDGEDET_HD float combined(const T* coefficients, i64 step, const T* prototypes, i64 plane, i32 count) {
  float sum = 0.0f;
  for (i32 k = 0; k < count; ++k) sum += to_float(prototypes[k * plane]) * to_float(coefficients[k * step]);
  return sum;
}

/// Samples that were worked out for one mask's window.
struct CellField {
  const float* cells;
  i32 left, top, width;
  static constexpr float threshold = 0.0f;

  EDGEDET_HD float at(i32 row, i32 column) const { return cells[(row - top) * width + column - left]; }
};

/// An object's square in a frame of zeros one cell wide.
template <typename T>
struct SquareField {
  const T* square;
  i32 side;
  static constexpr float threshold = 0.5f;

  EDGEDET_HD float at(i32 row, i32 column) const {
    const bool inside = row > 0 && row <= side && column > 0 && column <= side;
    return inside ? to_float(square[(row - 1) * side + column - 1]) : 0.0f;
  }
};

/// A query's map.
template <typename T>
struct MapField {
  const T* map;
  i32 width;
  static constexpr float threshold = 0.0f;

  EDGEDET_HD float at(i32 row, i32 column) const { return finite_logit(to_float(map[row * width + column])); }
};

EDGEDET_HD float mixed(float first, float second, float share) { return first * (1.0f - share) + second * share; }

template <typename Field>
EDGEDET_HD float mixed_rows(const Field& field, const AxisPlace& row, i32 column) {
  return mixed(field.at(row.first, column), field.at(next_of(row), column), row.share);
}

/// 32 pixels of a mask, from the `word`-th 32 on. Neighbours share samples, which are kept from one to the next.
///
/// rows, columns: places of the mask's own rows and columns. visit: is called with row and column in the mask, and
/// value, of each pixel that is set.
template <typename Field, typename Visit>
EDGEDET_HD u32 mask_word(const Field& field, const AxisPlace* rows, const AxisPlace* columns, const MaskRecord& mask,
                         i32 word, Visit&& visit) {
  const i64 pixels = static_cast<i64>(mask.width) * static_cast<i64>(mask.height);
  const i64 first = static_cast<i64>(word) * 32;
  const i32 count = static_cast<i32>(least(pixels - first, static_cast<i64>(32)));
  i32 row = static_cast<i32>(first / mask.width), column = static_cast<i32>(first % mask.width);
  AxisPlace down = rows[row];
  i32 left = -1, right = -1;
  float left_value = 0.0f, right_value = 0.0f;
  u32 bits = 0;
  for (i32 i = 0; i < count; ++i) {
    const AxisPlace across = columns[column];
    const i32 next = next_of(across);
    if (across.first != left) {
      left_value = across.first == right ? right_value : mixed_rows(field, down, across.first);
      left = across.first;
    }
    if (next != right) {
      right_value = next == left ? left_value : mixed_rows(field, down, next);
      right = next;
    }
    const float value = mixed(left_value, right_value, across.share);
    if (value > Field::threshold) {
      bits |= 1u << (i ^ 7);
      visit(row, column, value);
    }
    if (++column == mask.width && i + 1 < count) {
      column = 0;
      down = rows[++row];
      left = right = -1;
    }
  }
  return bits;
}

template <typename Field>
EDGEDET_HD u32 mask_word(const Field& field, const AxisPlace* rows, const AxisPlace* columns, const MaskRecord& mask,
                         i32 word) {
  return mask_word(field, rows, columns, mask, word, [](i32, i32, float) {});
}

/// The box over which a square is pasted, as whole pixels: grown by the frame, cut to the picture.
struct SquarePlace {
  MaskRecord mask;
  AxisRule rows, columns;
};

EDGEDET_HD i32 cut(float value) {
  return is_nan(value) ? 0 : static_cast<i32>(clamped(value, -1073741824.0f, 1073741824.0f));
}

EDGEDET_HD AxisRule square_axis(float low, float high, float growth, i32 limit, i32 samples, i32& start, i32& length) {
  const float half = (high - low) * 0.5f * growth, centre = (high + low) * 0.5f;
  const i64 first = cut(centre - half), last = cut(centre + half);
  const i64 stop = least(last + 1, static_cast<i64>(limit));
  const i64 begin = greatest(first, static_cast<i64>(0));
  start = static_cast<i32>(begin);
  length = static_cast<i32>(greatest(stop - begin, static_cast<i64>(0)));
  const double extent = static_cast<double>(greatest(last - first + 1, static_cast<i64>(1)));
  return {
      1.0, static_cast<double>(begin - first), 0.0, static_cast<double>(samples) / extent, 0.5, length, 0, samples - 1,
      0};
}

/// side: of the square; box: in pixels of the picture, not clipped.
EDGEDET_HD SquarePlace place_square(const Box& box, i32 side, float growth, i32 width, i32 height) {
  SquarePlace place{};
  MaskRecord& mask = place.mask;
  place.columns = square_axis(box.x1, box.x2, growth, width, side + 2, mask.left, mask.width);
  place.rows = square_axis(box.y1, box.y2, growth, height, side + 2, mask.top, mask.height);
  if (mask.width == 0 || mask.height == 0) mask = {0, 0, 0, 0, 0};
  return place;
}

}  // namespace edgedet
