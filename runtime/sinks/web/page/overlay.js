// Drawing over the picture: boxes, masks and labels.

import { placeLabels } from "./labels.js";

const MASK_OPACITY = 0.45;
const masks = new WeakMap();

/** Draw a bitmap and what was found in it. Items are in pixels of the frame (frame.width x frame.height), best first. */
export function drawPicture(canvas, bitmap, frame, items, withLabels) {
  const dense = window.devicePixelRatio || 1;
  const width = Math.round(Math.max(canvas.clientWidth, 1) * dense);
  const scale = width / frame.width;
  const height = Math.max(Math.round(frame.height * scale), 1);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0, width, height);
  const boxes = items.filter((item) => item.box);
  const line = dense * Math.max(1.25, Math.min(2, width / dense / 400));
  for (const item of boxes.slice().reverse()) if (item.mask) drawMask(pen, item, scale);
  for (const item of boxes.slice().reverse()) drawBox(pen, item, scale, line);
  if (withLabels) drawLabels(pen, boxes, scale, dense * Math.max(10, Math.min(14, width / dense / 50)));
}

function drawBox(pen, item, scale, line) {
  const [left, top, right, bottom] = item.box.map((value) => value * scale);
  for (const [width, colour] of [[line + 1.5, "#0008"], [line, item.colour]]) {
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.strokeRect(left, top, right - left, bottom - top);
  }
}

function drawLabels(pen, items, scale, size) {
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const labels = items.map((item) => {
    const name = item.track_id === undefined ? item.class_name : `#${item.track_id} ${item.class_name}`;
    const words = `${name} ${item.score.toFixed(2)}`;
    const box = item.box.map((value) => value * scale);
    return { item, words, box, width: pen.measureText(words).width + size * 0.7, height: size * 1.4 };
  });
  const places = placeLabels(labels, pen.canvas.width, pen.canvas.height);
  for (let at = labels.length - 1; at >= 0; at--) {
    const { item, words, width, height } = labels[at];
    const { left, top } = places[at];
    pen.fillStyle = item.colour;
    pen.fillRect(left, top, width, height);
    pen.fillStyle = isBright(item.colour) ? "#000" : "#fff";
    pen.fillText(words, left + size * 0.35, top + height / 2);
  }
}

const channels = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

// Luma as in ITU-R BT.601.
function isBright(colour) {
  const [red, green, blue] = channels(colour);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 127;
}

function drawMask(pen, item, scale) {
  if (!masks.has(item)) masks.set(item, makeMask(item));
  const mask = masks.get(item);
  if (mask) pen.drawImage(mask.canvas, mask.left * scale, mask.top * scale, mask.canvas.width * scale, mask.canvas.height * scale);
}

// A canvas as large as the box with the mask's pixels in it, from COCO's compressed run lengths (column by column).
function makeMask(item) {
  const [rows, columns] = item.mask.size;
  const left = Math.max(Math.floor(item.box[0]), 0);
  const top = Math.max(Math.floor(item.box[1]), 0);
  const right = Math.min(Math.ceil(item.box[2]), columns);
  const bottom = Math.min(Math.ceil(item.box[3]), rows);
  if (right <= left || bottom <= top) return null;
  const image = new ImageData(right - left, bottom - top);
  const pixels = new DataView(image.data.buffer);
  const [red, green, blue] = channels(item.colour);
  const colour = ((red << 24) | (green << 16) | (blue << 8) | Math.round(MASK_OPACITY * 255)) >>> 0;
  forEachColumnRun(runLengths(item.mask.counts), rows, (x, first, end) => {
    if (x < left || x >= right) return;
    for (let y = Math.max(first, top); y < Math.min(end, bottom); y++) pixels.setUint32(4 * ((y - top) * image.width + x - left), colour);
  });
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, left, top };
}

// Runs alternate between outside and inside, and may go on in the next column.
function forEachColumnRun(runs, rows, visit) {
  let at = 0;
  runs.forEach((run, index) => {
    const end = at + run;
    while (index % 2 && at < end) {
      const x = Math.floor(at / rows);
      const stop = Math.min(end, (x + 1) * rows);
      visit(x, at - x * rows, stop - x * rows);
      at = stop;
    }
    at = end;
  });
}

function runLengths(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const bits = text.charCodeAt(at++) - 48;
      value |= (bits & 31) << shift;
      shift += 5;
      more = (bits & 32) !== 0;
      if (!more && bits & 16) value |= -1 << shift;
    }
    runs.push(runs.length > 2 ? value + runs[runs.length - 2] : value);
  }
  return runs;
}
