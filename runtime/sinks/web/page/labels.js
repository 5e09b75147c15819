// Where labels of boxes stand, so that they do not cover each other: the method of runtime/label_places.py.

/**
 * Place one label after another, the best object's first.
 * @param {{box: number[], width: number, height: number}[]} labels box of the object and size of its label, pixels
 * @returns {{left: number, top: number}[]}
 */
export function placeLabels(labels, width, height) {
  const taken = [];
  for (const label of labels) {
    let best = null;
    for (const place of candidates(label, width, height)) {
      const covered = taken.reduce((sum, other) => sum + overlap(place, other), 0);
      if (best === null || covered < best.covered) best = { ...place, covered };
      if (covered === 0) break;
    }
    taken.push(best);
  }
  return taken;
}

function candidates({ box: [left, top, right, bottom], width: wide, height: high }, width, height) {
  // Above, inside at the top, below, inside at the bottom; each flush with the left and with the right edge.
  const [flushLeft, flushRight] = [left, right - wide].map((x) => clamp(x, 0, Math.max(width - wide, 0)));
  const rows = [top - high, top, bottom, bottom - high];
  const places = [rows.slice(0, 2), rows.slice(2)].flatMap((pair) =>
    [flushLeft, flushRight].flatMap((x) => pair.map((y) => ({ left: x, top: y, wide, high }))),
  );
  const inside = places.filter((place) => place.top >= 0 && place.top + high <= height);
  if (inside.length) return inside;
  return places.map((place) => ({ ...place, top: clamp(place.top, 0, Math.max(height - high, 0)) }));
}

function overlap(a, b) {
  const across = Math.min(a.left + a.wide, b.left + b.wide) - Math.max(a.left, b.left);
  const down = Math.min(a.top + a.high, b.top + b.high) - Math.max(a.top, b.top);
  return Math.max(across, 0) * Math.max(down, 0);
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}
