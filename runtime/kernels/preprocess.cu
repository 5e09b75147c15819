// The whole way from frames to the network's input in one launch: every source pixel is read where the camera or decoder
// has put it, every element of the tensor is written once, padding included, and nothing lies in memory in between.
//
// Memory pattern. A block of 32 x 8 threads makes a tile of 64 x 32 pixels, a thread eight of them. The threads of a warp
// take neighbouring pixels of one row and go on 32 columns to the right, then 8 rows down: their reads of a row of the
// source then lie within two or three cache lines, and their stores of a plane are whole 32-byte sectors in every element
// type. Four neighbouring pixels a thread would make the stores wider, yet spread each read of a warp over four times as
// many lines; the reads are the larger part (four pixels of up to three planes for three elements).
// Rows and columns of the source that a tile looks at are found once a tile and kept in shared memory: float64 is slow on
// most GPUs, and 96 positions a tile of 2,048 pixels are few. Nothing is fetched through shared memory beside them: the
// bilinear taps of neighbours are in L1.
//
// The grid covers the tensor and the batch (z). Format and resampling are the same for a whole block, so that pictures of
// different formats and sizes share a launch without divergence.
#include "preprocess.cuh"

namespace edgedet {

constexpr i32 kColumns = 32;  // threads of a block
constexpr i32 kRows = 8;
constexpr i32 kTileWidth = 64;
constexpr i32 kTileHeight = 32;

/// Places in the source of a tile's columns and rows.
struct Taps {
  LinearTap linear[kTileWidth + kTileHeight];
  AreaTap area[kTileWidth + kTileHeight];
};

EDGEDET_HD void find_tap(const Picture& picture, i32 index, i32 tile_x, i32 tile_y, Taps* taps) {
  const bool across = index < kTileWidth;
  const i32 to = across ? tile_x + index - picture.left : tile_y + index - kTileWidth - picture.top;
  if (to < 0 || to >= (across ? picture.width : picture.height)) return;
  const double scale = across ? picture.scale_x : picture.scale_y;
  const i32 length = across ? picture.crop_width : picture.crop_height;
  if (picture.resampling == kBilinear)
    taps->linear[index] = linear_tap(to, scale, length, across);
  else
    taps->area[index] = area_tap(to, scale, length);
}

EDGEDET_HD Bgr resampled(const Picture& picture, const Taps& taps, i32 column, i32 row, i32 x, i32 y) {
  if (picture.resampling == kBilinear)
    return bilinear(picture, taps.linear[column], taps.linear[kTileWidth + row]);
  if (picture.resampling == kWholeAreas) return average_whole(picture, x, y);
  return average(picture, taps.area[column], taps.area[kTileWidth + row]);
}

template <typename T>
EDGEDET_DEVICE void preprocess(const Picture* pictures, const Target& target, T* tensor) {
  __shared__ Taps taps;
  const i32 index = static_cast<i32>(blockIdx.z);
  const Picture picture = pictures[index];  // a copy: stores to the tensor then cannot change it
  if (picture.format == kNoPicture) return;
  const i32 tile_x = static_cast<i32>(blockIdx.x) * kTileWidth, tile_y = static_cast<i32>(blockIdx.y) * kTileHeight;
  const i32 thread = static_cast<i32>(threadIdx.y) * kColumns + static_cast<i32>(threadIdx.x);
  if (thread < kTileWidth + kTileHeight) find_tap(picture, thread, tile_x, tile_y, &taps);
  __syncthreads();
  for (i32 row = static_cast<i32>(threadIdx.y); row < kTileHeight; row += kRows) {
    for (i32 column = static_cast<i32>(threadIdx.x); column < kTileWidth; column += kColumns) {
      const i32 x = tile_x + column, y = tile_y + row;
      if (x >= target.width || y >= target.height) continue;
      const i32 to_x = x - picture.left, to_y = y - picture.top;
      const bool shown = to_x >= 0 && to_x < picture.width && to_y >= 0 && to_y < picture.height;
      const Bgr pixel = shown ? resampled(picture, taps, column, row, to_x, to_y) : Bgr{};
      T* at = tensor + index * target.picture_step + static_cast<i64>(y) * target.row_step + x * target.pixel_step;
      for (i32 k = 0; k < 3; ++k)
        store(shown ? normalised(target, pixel, k) : target.pad[k], at + k * target.channel_step);
    }
  }
}

}  // namespace edgedet

extern "C" __global__ void __launch_bounds__(256)
    edgedet_preprocess_float32(const edgedet::Picture* pictures, edgedet::Target target, float* tensor) {
  edgedet::preprocess(pictures, target, tensor);
}

extern "C" __global__ void __launch_bounds__(256)
    edgedet_preprocess_float16(const edgedet::Picture* pictures, edgedet::Target target, edgedet::Half* tensor) {
  edgedet::preprocess(pictures, target, tensor);
}

extern "C" __global__ void __launch_bounds__(256)
    edgedet_preprocess_uint8(const edgedet::Picture* pictures, edgedet::Target target, edgedet::u8* tensor) {
  edgedet::preprocess(pictures, target, tensor);
}

extern "C" __global__ void __launch_bounds__(256)
    edgedet_preprocess_int8(const edgedet::Picture* pictures, edgedet::Target target, edgedet::i8* tensor) {
  edgedet::preprocess(pictures, target, tensor);
}
