// The live page: shows the newest record of each source, and filters what is drawn.

import { ClassFilter } from "./classes.js";
import { drawPlot } from "./plot.js";
import { LiveSource, SPAN_MS } from "./source.js";
import { RecordStream } from "./stream.js";

const NUMBERS_EVERY_MS = 250;
const SIDES = [320, 480, 640, 800, 960, 1280, 1600, 1920, 2560, 3840];
const STATES = { waiting: "Connecting", live: "Live", lost: "No connection", ended: "Ended" };
const NOUNS = { detections: ["object", "objects"], segments: ["segment", "segments"], classes: ["class", "classes"] };
const byId = (name) => document.getElementById(name);

const sources = new Map(); // index -> LiveSource
let alone = null; // index of the only source that is shown; null: all
let paused = false;
let labels = true;
let version = null;
let ended = false;

const classes = new ClassFilter(byId("classes"), redraw);
const stream = new RecordStream(take, (state, retryInMs) => {
  if (state === "refused") location.assign("/");
  else if (state === "live") ended = false;
  showState(state === "lost" && ended ? "ended" : state, retryInMs);
});

const settings = () => ({ items: wanted, labels, paused });
const shown = () => [...sources.values()].filter((source) => alone === null || source.index === alone);

function wanted(head) {
  if (head.kind !== "detections") return [];
  const lowest = Number(byId("threshold").value);
  return head.items.filter((item) => !(item.score < lowest - 1e-9) && classes.shows(item.class_name));
}

function take(head, picture) {
  if (head.hello !== undefined) greet(head);
  if (head.goodbye) ended = true;
  if (head.frame === undefined) return;
  classes.meet(head.items);
  source(head.source_index, head.source).take(head, picture).then(count, (error) => console.error(error));
}

function greet(head) {
  if (version !== null && version !== head.version) return location.reload(); // another program serves here now
  version = head.version;
  document.title = head.hello;
  byId("title").textContent = head.hello;
  const slider = byId("threshold");
  slider.min = head.lowest_confidence;
  if (!slider.dataset.touched) slider.value = head.confidence;
  byId("threshold-value").textContent = Number(slider.value).toFixed(2);
  head.sources.forEach((name, index) => source(index, name));
}

function source(index, name) {
  if (!sources.has(index)) {
    const added = new LiveSource(index, name, settings);
    added.tile.addEventListener("click", () => sources.size > 1 && choose(alone === null ? index : null));
    sources.set(index, added);
    byId("view").append(added.tile);
    layOut();
  }
  return sources.get(index);
}

function choose(index) {
  alone = index;
  layOut();
}

/** Arrange tiles and tabs, and ask for pictures of the size that they are shown with. */
function layOut() {
  const several = sources.size > 1;
  const tiles = shown();
  const columns = Math.ceil(Math.sqrt(tiles.length));
  document.body.classList.toggle("several", several && alone === null);
  byId("view").style.setProperty("--columns", columns);
  byId("view").style.setProperty("--rows", Math.ceil(tiles.length / columns));
  for (const each of sources.values()) each.tile.hidden = !tiles.includes(each);
  byId("tabs").hidden = !several;
  document.body.classList.toggle("tabbed", several);
  if (several) {
    const all = [{ index: null, name: "All" }, ...sources.values()];
    byId("tabs").replaceChildren(...all.map(({ index, name }) => {
      const tab = Object.assign(document.createElement("button"), { type: "button", textContent: name });
      tab.setAttribute("aria-pressed", String(index === alone));
      tab.addEventListener("click", () => {
        choose(index);
        byId("tabs").querySelector("[aria-pressed=true]").focus();
      });
      return tab;
    }));
  }
  redraw();
  ask();
}

function ask() {
  if (document.hidden) return stream.stop();
  const room = Math.max(...shown().map(({ canvas }) => Math.max(canvas.clientWidth, canvas.clientHeight)), sources.size ? 0 : byId("view").clientWidth);
  const pixels = room * (window.devicePixelRatio || 1);
  const side = SIDES.find((each) => each >= pixels) ?? SIDES.at(-1);
  stream.start(`side=${side}${alone === null ? "" : `&source=${alone}`}`);
}

function redraw() {
  for (const each of shown()) each.draw();
  count();
}

function count() {
  const heads = shown().map(({ head }) => head).filter(Boolean);
  if (!heads.length) return;
  const kind = heads[0].kind;
  byId("threshold-row").hidden = kind !== "detections";
  byId("labels").hidden = kind !== "detections";
  const all = heads.flatMap((head) => head.items);
  const items = kind === "detections" ? heads.flatMap(wanted) : all;
  const noun = NOUNS[kind][all.length === 1 ? 0 : 1];
  byId("count").textContent = kind === "detections" ? `${items.length} of ${all.length} ${noun}` : `${all.length} ${noun}`;
  const sums = new Map();
  for (const item of items) sums.set(item.class_name, (sums.get(item.class_name) ?? 0) + (item.share ?? 1));
  const text = (sum) => (kind === "classes" ? `${((100 * sum) / heads.length).toFixed(1)} %` : String(sum));
  classes.count(new Map([...sums].map(([name, sum]) => [name, text(sum)])));
}

function showNumbers() {
  const now = performance.now();
  const tiles = shown();
  const points = tiles.flatMap((each) => each.points);
  for (const each of tiles) each.noticeStall();
  if (!points.length) return;
  const sum = (key) => tiles.reduce((total, each) => total + each[key], 0);
  const latencies = points.map((point) => point.latency).sort((a, b) => a - b);
  const aged = tiles.some(({ head }) => head?.aged);
  byId("fps").textContent = sum("fps").toFixed(1);
  byId("dropped").textContent = sum("dropped").toLocaleString("en").replaceAll(",", "\u202f");
  byId("median").textContent = rank(latencies, 0.5);
  byId("p95").textContent = rank(latencies, 0.95);
  byId("latency-name").textContent = aged ? "Latency" : "Processing";
  byId("latency-key").textContent = aged ? "camera to result" : "processing";
  for (const name of ["preprocess", "infer", "postprocess"]) {
    const spent = points.map((point) => point.stages[name]).sort((a, b) => a - b);
    byId(name).textContent = `${rank(spent, 0.5)} ms`;
  }
  const series = (key, colour) => tiles.map((each) => ({ colour, points: each.points.map((point) => ({ at: point.at, value: point[key] })) }));
  const time = { now, span: SPAN_MS };
  drawPlot(byId("latency-plot"), [...series("infer", "--second"), ...series("latency", "--accent")], time);
  drawPlot(byId("fps-plot"), series("fps", "--accent"), time);
}

function rank(sorted, share) {
  const value = sorted[Math.ceil(share * sorted.length) - 1];
  return value.toFixed(value < 100 ? 1 : 0);
}

function showState(state, retryInMs) {
  const text = state === "live" && paused ? "Paused" : STATES[state];
  const more = state === "lost" && retryInMs ? `, trying again in ${(retryInMs / 1000).toFixed(1)} s` : "";
  document.body.dataset.state = state;
  if (byId("state").textContent !== text + more) byId("state").textContent = text + more;
}

byId("threshold").addEventListener("input", (event) => {
  event.target.dataset.touched = "yes";
  byId("threshold-value").textContent = Number(event.target.value).toFixed(2);
  redraw();
});
byId("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", String(paused));
  if (document.body.dataset.state === "live") showState("live");
});
byId("labels").addEventListener("click", (event) => {
  labels = !labels;
  event.target.setAttribute("aria-pressed", String(labels));
  redraw();
});
byId("all").addEventListener("click", () => classes.setAll(true));
byId("none").addEventListener("click", () => classes.setAll(false));
document.addEventListener("visibilitychange", ask);
let resized = 0;
window.addEventListener("resize", () => {
  redraw();
  clearTimeout(resized);
  resized = setTimeout(ask, 300);
});
setInterval(showNumbers, NUMBERS_EVERY_MS);
ask();
