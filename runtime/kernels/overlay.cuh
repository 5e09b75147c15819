// Boxes and mask tint on a picture in device memory, as runtime/overlay.py draws them, to the bit.
//
// Maths. A box is cv2.rectangle's: four bars `radius` pixels to each side of the box's outermost pixels, with a round
// corner at each end; how far a corner reaches in each of its rows is measured from OpenCV when the picture's line width
// is known. A tinted pixel is looked up: what cv2.addWeighted makes of a colour and a pixel depends on whether the CPU
// fuses its product and sum, so a table of all 65,536 pairs is made by OpenCV itself.
//
// The best detection is on top: a pixel belongs to the first one that covers it, and to that one only. No two threads
// write a pixel that is not the same in both, so that the answer does not depend on their order.
#pragma once

#include "detections.cuh"
#include "masks.cuh"

namespace edgedet {

constexpr i32 kLargestRadius = 35;

/// A picture that is drawn on; lies in device memory, so that a captured graph reads new values at each replay.
struct Canvas {
  u8* pixels;  // three bytes each; null: nothing is drawn
  i32 pitch, width, height;
  i32 red_first;
  i32 radius;                     // of lines: pixels on each side of the middle one
  u8 reach[kLargestRadius + 1];   // pixels to each side of a corner's middle, so many rows from it
};
static_assert(sizeof(Canvas) == 64, "CANVAS in overlay.py has the same layout");

/// First and last column and row of a box.
struct PixelBox {
  i32 left, top, right, bottom;
};

struct Colour {
  u8 blue, green, red;
};

EDGEDET_HD Box box_at(const DetectionList& list, u64 place) {
  const float* xyxy = list.xyxy + 4 * place;
  return {xyxy[0], xyxy[1], xyxy[2], xyxy[3]};
}

EDGEDET_HD bool is_drawn(const Box& box) {
  return is_finite(box.x1) && is_finite(box.y1) && is_finite(box.x2) && is_finite(box.y2);
}

/// Rounds an edge within 0..2^22 to the nearest whole number, to the even one where two are as near.
EDGEDET_HD i32 rounded_edge(float edge, i32 limit) {
  const float magic = 8388608.0f;
  return static_cast<i32>((clamped(edge, 0.0f, static_cast<float>(limit)) + magic) - magic);
}

/// The pixels of a finite box inside a picture; box edges lie between pixels.
EDGEDET_HD PixelBox drawn_pixels(const Box& box, const Canvas& canvas) {
  const i32 left = least(rounded_edge(box.x1, canvas.width), canvas.width - 1);
  const i32 top = least(rounded_edge(box.y1, canvas.height), canvas.height - 1);
  return {left, top, greatest(rounded_edge(box.x2, canvas.width) - 1, left),
          greatest(rounded_edge(box.y2, canvas.height) - 1, top)};
}

EDGEDET_HD i32 distance(i32 a, i32 b) { return a < b ? b - a : a - b; }

EDGEDET_HD bool in_corner(const Canvas& canvas, i32 across, i32 down) {
  return down <= canvas.radius && across <= canvas.reach[down];
}

/// Whether the outline of a box covers a pixel.
EDGEDET_HD bool outlines(const Canvas& canvas, const PixelBox& box, i32 x, i32 y) {
  const i32 left = distance(x, box.left), right = distance(x, box.right);
  const i32 top = distance(y, box.top), bottom = distance(y, box.bottom);
  if (x >= box.left && x <= box.right && least(top, bottom) <= canvas.radius) return true;
  if (y >= box.top && y <= box.bottom && least(left, right) <= canvas.radius) return true;
  return in_corner(canvas, least(left, right), least(top, bottom));
}

/// The pixels that an outline may cover: a rectangle of `width` x `height`, less a hollow one in the middle.
struct Frame {
  i32 left, top, width, height;
  i32 band;  // rows and columns on each side of the hollow
  i32 hollow_width, hollow_height;
};

EDGEDET_HD Frame frame_of(const PixelBox& box, i32 radius) {
  const i32 band = 2 * radius + 1;
  const i32 width = box.right - box.left + band, height = box.bottom - box.top + band;
  const bool hollow = width > 2 * band && height > 2 * band;
  return {box.left - radius, box.top - radius, width, height, band, hollow ? width - 2 * band : 0,
          hollow ? height - 2 * band : 0};
}

EDGEDET_HD i32 pixels_of(const Frame& frame) {
  return frame.width * frame.height - frame.hollow_width * frame.hollow_height;
}

struct Pixel {
  i32 x, y;
};

/// The index-th pixel of a frame: the rows above the hollow and those below it, then what is beside it.
EDGEDET_HD Pixel pixel_of(const Frame& frame, i32 index) {
  const i32 full = frame.height - frame.hollow_height;
  if (index < full * frame.width) {
    const i32 row = index / frame.width;
    const i32 skipped = frame.hollow_height > 0 && row >= frame.band ? frame.hollow_height : 0;
    return {frame.left + index % frame.width, frame.top + row + skipped};
  }
  const i32 beside = index - full * frame.width;
  const i32 column = beside % (2 * frame.band);
  return {frame.left + column + (column < frame.band ? 0 : frame.hollow_width),
          frame.top + frame.band + beside / (2 * frame.band)};
}

/// Whether the index-th pixel of a mask is set.
EDGEDET_HD bool is_set(const u32* bits, const MaskRecord& mask, i64 index) {
  return (bits[mask.first_word + index / 32] >> (static_cast<u32>(index % 32) ^ 7u) & 1u) != 0;
}

EDGEDET_HD bool fits(const MaskRecord& mask, const Canvas& canvas) {
  return mask.width > 0 && mask.height > 0 && mask.first_word >= 0 && mask.left >= 0 && mask.top >= 0 &&
         mask.left <= canvas.width - mask.width && mask.top <= canvas.height - mask.height;
}

/// Whether a mask that fits covers a pixel of the picture.
EDGEDET_HD bool covers(const u32* bits, const MaskRecord& mask, i32 x, i32 y) {
  const i32 column = x - mask.left, row = y - mask.top;
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return is_set(bits, mask, static_cast<i64>(row) * mask.width + column);
}

/// The colour of a class by the table, which has one for each class that the network knows.
EDGEDET_HD Colour colour_of(const u8* colours, i32 classes, i32 class_id) {
  const u8* colour = colours + 3 * static_cast<i64>(clamped(class_id, 0, classes - 1));
  return {colour[0], colour[1], colour[2]};
}

EDGEDET_HD u8* pixel_in(const Canvas& canvas, i32 x, i32 y) {
  return canvas.pixels + static_cast<i64>(y) * canvas.pitch + 3 * static_cast<i64>(x);
}

EDGEDET_HD void paint(const Canvas& canvas, i32 x, i32 y, const Colour& colour) {
  u8* at = pixel_in(canvas, x, y);
  at[0] = canvas.red_first ? colour.red : colour.blue;
  at[1] = colour.green;
  at[2] = canvas.red_first ? colour.blue : colour.red;
}

/// tints: (256, 256) by colour and pixel.
EDGEDET_HD void tint(const Canvas& canvas, i32 x, i32 y, const Colour& colour, const u8* tints) {
  const u8* at = pixel_in(canvas, x, y);
  const i32 blue = canvas.red_first ? 2 : 0;
  paint(canvas, x, y,
        {tints[256 * colour.blue + at[blue]], tints[256 * colour.green + at[1]], tints[256 * colour.red + at[2 - blue]]});
}

}  // namespace edgedet
