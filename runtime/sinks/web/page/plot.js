// Plots of the last seconds. Knows nothing of where the numbers come from.

const GAP_MS = 1500;
const USUAL = 0.98;

/**
 * Draw lines over time.
 * @param {{colour: string, points: {at: number, value: number}[]}[]} series colour: a custom property of the page
 * @param {{now: number, span: number}} time milliseconds
 */
export function drawPlot(canvas, series, { now, span }) {
  const style = getComputedStyle(document.documentElement);
  const dense = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  pen.font = `10.5px ${style.getPropertyValue("--sans")}`;
  const values = series.flatMap(({ points }) => points.map((point) => point.value)).sort((a, b) => a - b);
  const peak = values.at(-1) ?? 0;
  // A few peaks may leave the plot, so that what is usual can be seen; the highest is told.
  const most = niceCeiling(Math.max(1, 1.2 * (values[Math.ceil(USUAL * values.length) - 1] ?? 0)));
  const [left, top, bottom] = [28, 6, height - 15];
  const x = (at) => left + (width - left) * (1 - (now - at) / span);
  const y = (value) => Math.max(bottom - (value / most) * (bottom - top), 1);
  drawGrid(pen, style, { left, bottom, width, height, most, y, span });
  pen.lineJoin = "round";
  for (const { colour, points } of series) {
    pen.strokeStyle = style.getPropertyValue(colour);
    pen.lineWidth = 1.4;
    pen.beginPath();
    points.forEach((point, index) => {
      const follows = index > 0 && point.at - points[index - 1].at < GAP_MS;
      pen[follows ? "lineTo" : "moveTo"](Math.max(x(point.at), left), y(point.value));
    });
    pen.stroke();
  }
  if (peak > most) {
    pen.fillStyle = style.getPropertyValue("--soft");
    pen.textAlign = "center";
    pen.fillText(`peak ${peak.toFixed(0)}`, (left + width) / 2, height - 2);
  }
}

function drawGrid(pen, style, { left, bottom, width, height, most, y, span }) {
  pen.strokeStyle = style.getPropertyValue("--grid");
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.lineWidth = 1;
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const value of [0, most / 2, most]) {
    const row = Math.round(y(value)) + 0.5;
    pen.beginPath();
    pen.moveTo(left, row);
    pen.lineTo(width, row);
    pen.stroke();
    pen.fillText(String(value), left - 6, row);
  }
  pen.textBaseline = "alphabetic";
  pen.fillText("now", width, height - 2);
  pen.textAlign = "left";
  pen.fillText(`${span / 1000} s ago`, left, height - 2);
}

function niceCeiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 10].map((step) => step * power).find((step) => step >= value - 1e-9);
}
