// Decode of distance_distributions: class scores, and a distribution over distances for each side of the box.
//
// Maths: runtime/heads/distance_distributions.py. Distances (softmaxes of expf) agree with the twin's within 4e-6 of
// the longest distance of the level, scores as scores.cuh says.
//
// Memory pattern: rows of class scores are read whole, lanes side by side on the classes; the four distributions, 128
// bytes or so, by the one lane that found the candidate.
//
// Why one launch for all levels and not one a level: the coarse levels are too small to fill a GPU. Levels are a table
// by value, with an address each, since the tensors lie apart in one packing and behind each other in the other.
#pragma once

#include "grids.cuh"
#include "scores.cuh"

namespace edgedet {

struct DistanceLevel {
  u64 scores;     // address of the scores of its first location in the first picture
  u64 distances;  // and of the distances
  i32 first;      // location of its first cell among those of all levels
  i32 columns;
  i32 score_picture;     // elements from a picture to the next
  i32 distance_picture;  //
  float stride;
  i32 reserved;
};
static_assert(sizeof(DistanceLevel) == 40, "the launcher writes these bytes");

struct DistanceDistributions {
  ScoreRule rule;
  i32 locations;
  i32 levels;
  i32 bins;
  i32 score_step;     // elements from a location to the next
  i32 distance_step;  //
  float offset;       // where in its cell the grid point lies
  i32 reserved;
  DistanceLevel level[kMostLevels];
};
static_assert(sizeof(DistanceDistributions) == 376, "the launcher writes these bytes");

/// The mean of a distribution over 0, 1, ... bins - 1.
template <typename T> EDGEDET_HD float mean_bin(const Values<T>& values, i32 bins) {
  float largest = float_of(0xff800000u);
  for (i32 bin = 0; bin < bins; ++bin) largest = greatest(largest, values(bin));
  float sum = 0.0f;
  for (i32 bin = 0; bin < bins; ++bin) sum += expf(values(bin) - largest);
  float mean = 0.0f;
  for (i32 bin = 0; bin < bins; ++bin) mean += expf(values(bin) - largest) / sum * static_cast<float>(bin);
  return mean;
}

template <typename T>
EDGEDET_HD Box distance_box(const DistanceDistributions& head, const DistanceLevel& level, const T* distances,
                            i32 cell) {
  const GridPoint point = grid_point(cell, level.columns, level.stride, head.offset);
  const float left = mean_bin(Values<T>{distances, 1}, head.bins) * level.stride;
  const float top = mean_bin(Values<T>{distances + head.bins, 1}, head.bins) * level.stride;
  const float right = mean_bin(Values<T>{distances + 2 * head.bins, 1}, head.bins) * level.stride;
  const float bottom = mean_bin(Values<T>{distances + 3 * head.bins, 1}, head.bins) * level.stride;
  return {point.x - left, point.y - top, point.x + right, point.y + bottom};
}

/// T: element type of the tensors.
template <typename T, class Group>
EDGEDET_DEVICE void decode_distance_distributions(const Group& group, const DistanceDistributions& head,
                                                  const i32* wanted, const CandidateList& list, Place place) {
  if (place.location >= head.locations) return;
  const DistanceLevel& level = head.level[level_of(head.level, head.levels, place.location)];
  const i32 cell = place.location - level.first;
  const T* scores = reinterpret_cast<const T*>(level.scores) + static_cast<i64>(place.picture) * level.score_picture +
                    static_cast<i64>(cell) * head.score_step;
  choose_raw(group, head.rule, wanted, Values<T>{scores, 1}, [&](const Passing& found) {
    const T* distances = reinterpret_cast<const T*>(level.distances) +
                         static_cast<i64>(place.picture) * level.distance_picture +
                         static_cast<i64>(cell) * head.distance_step;
    append(list, place.picture,
           {distance_box(head, level, distances, cell), found.value, found.class_id, place.location,
            rank_by_location(head.rule, place.location, found.class_id)});
  });
}

}  // namespace edgedet
