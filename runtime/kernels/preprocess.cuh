// From a camera's pixels to the network's input, one element at a time.
//
// Maths. Every pixel that is looked at is first turned into 8-bit BGR (runtime/pixel_formats.py: 20-bit fixed point, the
// chroma of its own group), then resized, then normalised (runtime/preprocess.py): the order of the CPU path, whose answers
// are met to the bit. Resizing is that of OpenCV 4.9 to 5.0 on 8-bit pixels:
//   bilinear   weights of 11 bits; along x exact in 32 bits; along y each row's sum loses 4 bits, each product 16, and two
//              are rounded off: ((w0 * (s0 >> 4) >> 16) + (w1 * (s1 >> 4) >> 16) + 2) >> 2. Beyond the picture its last
//              pixel goes on; along x its weight is then one, along y the two weights stay.
//   areas      where both ratios are whole: the sum of the pixels times the float32 1 / n, rounded to even; else float32
//              sums, along x first, with the share of the first and the last pixel that the area covers.
// Where a pixel lies is computed in float64 as OpenCV does, for float32 would move some weights by a step.
#pragma once

#include "host_device.cuh"

namespace edgedet {

/// The order of runtime/kernels/preprocess.py's FORMATS.
enum PixelFormat : i32 { kNoPicture, kBgr, kRgb, kGrey, kYuyv, kUyvy, kNv12, kI420 };

enum Resampling : i32 { kBilinear, kWholeAreas, kAreas };

/// One picture of the batch; lies in device memory, so that a captured graph reads new values at each replay.
struct Picture {
  const u8* planes[3];
  double scale_x, scale_y;  // source pixels a pixel of the input, as cv2.resize computes it: 1 / (to / from)
  i32 pitches[3];           // bytes from row to row of each plane
  i32 format;               // PixelFormat; kNoPicture leaves its share of the tensor as it is
  i32 luma_offset, luma, u_to_blue, u_to_green, v_to_green, v_to_red;
  i32 crop_left, crop_top, crop_width, crop_height;  // part of the source that is shown
  i32 left, top, width, height;                      // where in the network's input; what is around it is padded
  i32 resampling;                                    // Resampling
  i32 across, down;                                  // kWholeAreas: source pixels a pixel of the input
  i32 reserved;
};
static_assert(sizeof(Picture) == 128, "PICTURE in preprocess.py has the same layout");

/// What all pictures of a batch share; passed by value. The steps say where an element lies, whatever the layout.
struct Target {
  i64 picture_step, channel_step;  // elements from one picture, channel, row, pixel to the next
  i32 row_step, pixel_step;
  i32 width, height;
  i32 order[3];  // channel of a BGR pixel that each channel of the tensor shows
  float scale[3], offset[3], pad[3];
};
static_assert(sizeof(Target) == 80, "Target in preprocess.py has the same layout");

struct Bgr {
  i32 value[3];
};

/// Rounds to the nearest whole number, to the even one where two are as near; |value| < 2^22.
EDGEDET_HD i32 nearest_even(float value) {
  const float magic = 12582912.0f;  // 1.5 * 2^23: what lies behind the point does not fit beside it
  return static_cast<i32>((value + magic) - magic);
}

EDGEDET_HD i32 floor_of(double value) {
  const i32 whole = static_cast<i32>(value);
  return static_cast<double>(whole) > value ? whole - 1 : whole;
}

EDGEDET_HD i32 ceil_of(double value) {
  const i32 whole = static_cast<i32>(value);
  return static_cast<double>(whole) < value ? whole + 1 : whole;
}

// Reading the source

EDGEDET_HD const u8* row_of(const Picture& picture, i32 plane, i32 y) {
  return picture.planes[plane] + static_cast<i64>(y) * picture.pitches[plane];
}

EDGEDET_HD Bgr from_yuv(const Picture& picture, i32 y, i32 u, i32 v) {
  const i32 luma = greatest(y - picture.luma_offset, 0) * picture.luma + (1 << 19);
  u -= 128;
  v -= 128;
  return {{clamped((luma + u * picture.u_to_blue) >> 20, 0, 255),
           clamped((luma + u * picture.u_to_green + v * picture.v_to_green) >> 20, 0, 255),
           clamped((luma + v * picture.v_to_red) >> 20, 0, 255)}};
}

/// Reads the pixel (x, y) of the source, which must be inside of it. A format that is known when this is compiled leaves
/// nothing of the switch.
EDGEDET_HD Bgr pixel_at(const Picture& picture, i32 format, i32 x, i32 y) {
  const u8* row = row_of(picture, 0, y);
  const i64 column = x, group = x >> 1;
  switch (format) {
    case kBgr: {
      const u8* pixel = row + 3 * column;
      return {{pixel[0], pixel[1], pixel[2]}};
    }
    case kRgb: {
      const u8* pixel = row + 3 * column;
      return {{pixel[2], pixel[1], pixel[0]}};
    }
    case kGrey: return {{row[x], row[x], row[x]}};
    case kYuyv: {
      const u8* shared = row + 4 * group;
      return from_yuv(picture, row[2 * column], shared[1], shared[3]);
    }
    case kUyvy: {
      const u8* shared = row + 4 * group;
      return from_yuv(picture, row[2 * column + 1], shared[0], shared[2]);
    }
    case kNv12: {
      const u8* shared = row_of(picture, 1, y >> 1) + 2 * group;
      return from_yuv(picture, row[x], shared[0], shared[1]);
    }
    default:
      return from_yuv(picture, row[x], row_of(picture, 1, y >> 1)[group], row_of(picture, 2, y >> 1)[group]);
  }
}

// Bilinear

/// The two pixels along an axis that make one of the input, and their weights in 1/2048.
struct LinearTap {
  i32 first, second, first_weight, second_weight;
};

/// Finds them; edge_is_whole: whether the outermost pixel then has all the weight.
EDGEDET_HD LinearTap linear_tap(i32 to, double scale, i32 length, bool edge_is_whole) {
  const float at = static_cast<float>((static_cast<double>(to) + 0.5) * scale - 0.5);
  const i32 whole = floor_of(static_cast<double>(at));
  float share = at - static_cast<float>(whole);
  if (edge_is_whole && (whole < 0 || whole >= length - 1)) share = 0.0f;
  return {clamped(whole, 0, length - 1), clamped(whole + 1, 0, length - 1), nearest_even((1.0f - share) * 2048.0f),
          nearest_even(share * 2048.0f)};
}

EDGEDET_HD i32 blend(i32 top, i32 bottom, const LinearTap& y) {
  return ((((top >> 4) * y.first_weight) >> 16) + (((bottom >> 4) * y.second_weight) >> 16) + 2) >> 2;
}

template <i32 format> EDGEDET_HD Bgr bilinear_of(const Picture& picture, const LinearTap& x, const LinearTap& y) {
  const i32 left = picture.crop_left + x.first, right = picture.crop_left + x.second;
  const i32 top = picture.crop_top + y.first, bottom = picture.crop_top + y.second;
  const Bgr a = pixel_at(picture, format, left, top), b = pixel_at(picture, format, right, top);
  const Bgr c = pixel_at(picture, format, left, bottom), d = pixel_at(picture, format, right, bottom);
  Bgr result;
  for (i32 k = 0; k < 3; ++k)
    result.value[k] = blend(a.value[k] * x.first_weight + b.value[k] * x.second_weight,
                            c.value[k] * x.first_weight + d.value[k] * x.second_weight, y);
  return result;
}

EDGEDET_HD Bgr bilinear(const Picture& picture, const LinearTap& x, const LinearTap& y) {
  switch (picture.format) {
    case kBgr: return bilinear_of<kBgr>(picture, x, y);
    case kRgb: return bilinear_of<kRgb>(picture, x, y);
    case kGrey: return bilinear_of<kGrey>(picture, x, y);
    case kYuyv: return bilinear_of<kYuyv>(picture, x, y);
    case kUyvy: return bilinear_of<kUyvy>(picture, x, y);
    case kNv12: return bilinear_of<kNv12>(picture, x, y);
    default: return bilinear_of<kI420>(picture, x, y);
  }
}

// Areas

/// The pixels along an axis whose area makes one of the input.
struct AreaTap {
  i32 first, count;
  float first_weight, weight, last_weight;
};

EDGEDET_HD float weight_of(const AreaTap& tap, i32 index) {
  if (index == 0) return tap.first_weight;
  return index == tap.count - 1 ? tap.last_weight : tap.weight;
}

EDGEDET_HD AreaTap area_tap(i32 to, double scale, i32 length) {
  const double start = static_cast<double>(to) * scale, end = start + scale;
  const double size = least(scale, static_cast<double>(length) - start);
  const i32 last = least(floor_of(end), length - 1);  // the pixel that the area's end lies in
  const i32 inner = least(ceil_of(start), last);      // the first one that it covers whole
  const double before = static_cast<double>(inner) - start, after = end - static_cast<double>(last);
  const bool leads = before > 1e-3, trails = after > 1e-3;
  const float whole = static_cast<float>(1.0 / size);
  const float head = static_cast<float>(before / size);
  const float tail = static_cast<float>(least(least(after, 1.0), size) / size);
  const i32 count = (last - inner) + (leads ? 1 : 0) + (trails ? 1 : 0);
  float first_weight = last > inner ? whole : tail;
  if (leads) first_weight = head;
  return {leads ? inner - 1 : inner, count, first_weight, whole, trails ? tail : whole};
}

EDGEDET_HD Bgr average(const Picture& picture, const AreaTap& x, const AreaTap& y) {
  float total[3] = {};
  for (i32 row = 0; row < y.count; ++row) {
    float sum[3] = {};
    for (i32 column = 0; column < x.count; ++column) {
      const Bgr pixel = pixel_at(picture, picture.format, picture.crop_left + x.first + column,
                                 picture.crop_top + y.first + row);
      const float weight = weight_of(x, column);
      for (i32 k = 0; k < 3; ++k) sum[k] += static_cast<float>(pixel.value[k]) * weight;
    }
    const float weight = weight_of(y, row);
    for (i32 k = 0; k < 3; ++k) total[k] += weight * sum[k];
  }
  return {{clamped(nearest_even(total[0]), 0, 255), clamped(nearest_even(total[1]), 0, 255),
           clamped(nearest_even(total[2]), 0, 255)}};
}

/// The average of the pixels of a whole number of rows and columns.
EDGEDET_HD Bgr average_whole(const Picture& picture, i32 x, i32 y) {
  i32 sum[3] = {};
  for (i32 row = 0; row < picture.down; ++row) {
    for (i32 column = 0; column < picture.across; ++column) {
      const Bgr pixel = pixel_at(picture, picture.format, picture.crop_left + x * picture.across + column,
                                 picture.crop_top + y * picture.down + row);
      for (i32 k = 0; k < 3; ++k) sum[k] += pixel.value[k];
    }
  }
  const float share = 1.0f / static_cast<float>(picture.across * picture.down);
  Bgr result;
  for (i32 k = 0; k < 3; ++k) result.value[k] = nearest_even(static_cast<float>(sum[k]) * share);
  return result;
}

// Writing the tensor

EDGEDET_HD void store(float value, float* at) { *at = value; }
EDGEDET_HD void store(float value, Half* at) { *at = to_half(value); }
EDGEDET_HD void store(float value, u8* at) { *at = static_cast<u8>(clamped(nearest_even(value), 0, 255)); }
EDGEDET_HD void store(float value, i8* at) { *at = static_cast<i8>(clamped(nearest_even(value), -128, 127)); }

/// The tensor's value of a channel of a pixel of the picture.
EDGEDET_HD float normalised(const Target& target, const Bgr& pixel, i32 channel) {
  const i32 source = target.order[channel];
  const i32 value = source == 0 ? pixel.value[0] : (source == 1 ? pixel.value[1] : pixel.value[2]);
  return static_cast<float>(value) * target.scale[channel] + target.offset[channel];
}

}  // namespace edgedet
