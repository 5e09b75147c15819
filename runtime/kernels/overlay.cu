// Draws the detections of a batch on their pictures: the tint of the masks, then the outlines of the boxes.
//
// Memory pattern. Blocks are handed out by picture (z) and detection (y), and share a detection's pixels (x); those of
// detections that are not there leave at once. Only pixels that a mask or an outline covers are read and written, which
// are few beside the picture's; neighbouring threads take neighbouring pixels of a row, and the 32 of a warp share the
// word that holds their bits. Why not a thread for each pixel of the picture: it would ask every detection for all of
// them, while here a pixel asks only the detections above its own.
#include "overlay.cuh"

namespace edgedet {

EDGEDET_HD bool mask_is_drawn(const DetectionList& list, const MaskList& masks, const Canvas& canvas, u64 place) {
  return is_drawn(box_at(list, place)) && fits(masks.records[place], canvas);
}

}  // namespace edgedet

extern "C" __global__ void __launch_bounds__(256)
    edgedet_overlay_masks(const edgedet::Canvas* canvases, edgedet::u32* detections, edgedet::i32 pictures,
                          edgedet::i32 limit, edgedet::u32* mask_words, edgedet::i32 capacity,
                          const edgedet::u8* colours, edgedet::i32 classes, const edgedet::u8* tints) {
  using namespace edgedet;
  const i32 picture = static_cast<i32>(blockIdx.z), own = static_cast<i32>(blockIdx.y);
  const DetectionList list = detection_list(detections, pictures, limit);
  const Canvas& canvas = canvases[picture];
  if (canvas.pixels == nullptr || own >= list.count[picture]) return;
  const MaskList masks = mask_list(mask_words, pictures, limit, capacity);
  const u32* bits = masks.bits + static_cast<u64>(picture) * static_cast<u64>(capacity);
  const u64 first = static_cast<u64>(picture) * static_cast<u64>(limit), place = first + static_cast<u64>(own);
  if (!mask_is_drawn(list, masks, canvas, place)) return;
  const MaskRecord mask = masks.records[place];
  const Colour colour = colour_of(colours, classes, list.class_id[place]);
  const i64 pixels = static_cast<i64>(mask.width) * mask.height;
  const i64 step = static_cast<i64>(gridDim.x) * blockDim.x;
  for (i64 index = static_cast<i64>(blockIdx.x) * blockDim.x + threadIdx.x; index < pixels; index += step) {
    if (!is_set(bits, mask, index)) continue;
    const i32 x = mask.left + static_cast<i32>(index % mask.width);
    const i32 y = mask.top + static_cast<i32>(index / mask.width);
    bool on_top = true;
    for (u64 other = first; on_top && other < place; ++other)
      on_top = !(mask_is_drawn(list, masks, canvas, other) && covers(bits, masks.records[other], x, y));
    if (on_top) tint(canvas, x, y, colour, tints);
  }
}

extern "C" __global__ void __launch_bounds__(256)
    edgedet_overlay_boxes(const edgedet::Canvas* canvases, edgedet::u32* detections, edgedet::i32 pictures,
                          edgedet::i32 limit, const edgedet::u8* colours, edgedet::i32 classes) {
  using namespace edgedet;
  const i32 picture = static_cast<i32>(blockIdx.z), own = static_cast<i32>(blockIdx.y);
  const DetectionList list = detection_list(detections, pictures, limit);
  const Canvas& canvas = canvases[picture];
  if (canvas.pixels == nullptr || own >= list.count[picture]) return;
  const u64 first = static_cast<u64>(picture) * static_cast<u64>(limit), place = first + static_cast<u64>(own);
  const Box box = box_at(list, place);
  if (!is_drawn(box)) return;
  const PixelBox outline = drawn_pixels(box, canvas);
  const Frame frame = frame_of(outline, canvas.radius);
  const Colour colour = colour_of(colours, classes, list.class_id[place]);
  const i32 pixels = pixels_of(frame), step = static_cast<i32>(gridDim.x * blockDim.x);
  for (i32 index = static_cast<i32>(blockIdx.x * blockDim.x + threadIdx.x); index < pixels; index += step) {
    const Pixel at = pixel_of(frame, index);
    if (at.x < 0 || at.y < 0 || at.x >= canvas.width || at.y >= canvas.height) continue;
    bool on_top = outlines(canvas, outline, at.x, at.y);
    for (u64 other = first; on_top && other < place; ++other) {
      const Box above = box_at(list, other);
      on_top = !(is_drawn(above) && outlines(canvas, drawn_pixels(above, canvas), at.x, at.y));
    }
    if (on_top) paint(canvas, at.x, at.y, colour);
  }
}
