// One source: its tile on the page, the newest picture, and the numbers of the last seconds.

import { drawPicture } from "./overlay.js";

export const SPAN_MS = 30000;
const STALL_MS = 3000;

export class LiveSource {
  dropped = 0;
  fps = 0;
  head = null; // of the picture that is shown
  points = []; // {at, latency, infer, fps, stages}
  #bitmap = null;
  #newest = null;
  #decoding = false;
  #heardAt = performance.now();

  /** @param {() => {items: (head: object) => object[], labels: boolean, paused: boolean}} settings what to draw */
  constructor(index, name, settings) {
    this.index = index;
    this.settings = settings;
    this.tile = document.getElementById("tile").content.firstElementChild.cloneNode(true);
    this.canvas = this.tile.querySelector("canvas");
    this.tile.dataset.source = index;
    this.#part("stall").hidden = false;
    this.#part("stall").textContent = "Waiting for the first picture";
    this.rename(name);
  }

  get visible() {
    return this.tile.isConnected && !this.tile.hidden;
  }

  rename(name) {
    if (name === this.name) return;
    this.name = name;
    this.#part("name").textContent = name;
    this.canvas.setAttribute("aria-label", `Live picture of ${name}, with what was found drawn on it`);
  }

  /** Take a record; the picture being decoded is followed by the newest one, those between are skipped. */
  async take(head, picture) {
    const now = performance.now();
    this.#heardAt = now;
    this.dropped = head.dropped;
    this.fps = head.fps;
    this.points.push({ at: now, latency: head.latency, infer: head.stages.infer, fps: head.fps, stages: head.stages });
    while (this.points[0].at < now - SPAN_MS) this.points.shift();
    this.rename(head.source);
    this.#newest = { head, picture };
    if (this.#decoding) return;
    this.#decoding = true;
    try {
      while (this.#newest && !this.settings().paused) await this.#show();
    } finally {
      this.#decoding = false;
    }
  }

  async #show() {
    const { head, picture } = this.#newest;
    this.#newest = null;
    const bitmap = await createImageBitmap(new Blob([picture], { type: "image/jpeg" }));
    this.#bitmap?.close();
    this.#bitmap = bitmap;
    this.head = head;
    this.canvas.style.setProperty("--ratio", head.width / head.height);
    this.draw();
  }

  draw() {
    if (!this.head || !this.visible) return;
    const { items, labels } = this.settings();
    drawPicture(this.canvas, this.#bitmap, this.head, items(this.head), labels);
    const picture = this.head.picture === this.name ? "" : `${this.head.picture} · `;
    this.#part("facts").textContent = `${picture}frame ${this.head.frame} · ${this.head.width}×${this.head.height}`;
  }

  /** Say so where nothing has come for a while. */
  noticeStall() {
    if (!this.head) return;
    const silent = performance.now() - this.#heardAt;
    const usual = this.points.length > 1 ? (this.points.at(-1).at - this.points[0].at) / (this.points.length - 1) : 0;
    const stalled = silent > Math.max(STALL_MS, 3 * usual);
    this.tile.classList.toggle("stalled", stalled);
    this.#part("stall").hidden = !stalled;
    this.#part("stall").textContent = `No new picture for ${Math.round(silent / 1000)} s`;
  }

  #part(name) {
    return this.tile.querySelector(`.${name}`);
  }
}
