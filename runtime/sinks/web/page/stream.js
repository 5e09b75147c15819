// Records from /stream (see record.py), for as long as the page is looked at, through every loss of the connection.

const SILENCE_MS = 6000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

/** Reads records; `start` and `stop` as often as you like. */
export class RecordStream {
  #query = "";
  #abort = null;
  #onRecord;
  #onState;

  /**
   * @param {(head: object, picture: Uint8Array) => void} onRecord
   * @param {(state: "live" | "lost" | "refused", retryInMs?: number) => void} onState
   */
  constructor(onRecord, onState) {
    this.#onRecord = onRecord;
    this.#onState = onState;
  }

  /** Begin to read, or to read something else. */
  start(query) {
    if (this.#abort && query === this.#query) return;
    this.stop();
    this.#query = query;
    this.#abort = new AbortController();
    this.#keepReading(this.#abort.signal);
  }

  stop() {
    this.#abort?.abort();
    this.#abort = null;
  }

  async #keepReading(stopped) {
    for (let wait = FIRST_WAIT_MS; !stopped.aborted; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
      const heard = await this.#readOnce(stopped);
      if (stopped.aborted) return;
      if (heard) wait = FIRST_WAIT_MS;
      this.#onState("lost", wait);
      await new Promise((done) => setTimeout(done, wait));
    }
  }

  // Until the server ends or falls silent; whether it said anything at all.
  async #readOnce(stopped) {
    let heardAt = performance.now();
    let heard = false;
    const silence = new AbortController();
    const watch = setInterval(() => performance.now() - heardAt > SILENCE_MS && silence.abort(), 1000);
    const give_up = () => silence.abort();
    stopped.addEventListener("abort", give_up);
    try {
      const answer = await fetch(`stream?${this.#query}`, { signal: silence.signal, cache: "no-store" });
      if (answer.status === 401) this.#onState("refused");
      if (!answer.ok) throw new Error(answer.statusText);
      const bytes = new ByteReader(answer.body.getReader(), () => (heardAt = performance.now()));
      while (!stopped.aborted) {
        const { head, picture } = await readRecord(bytes);
        if (stopped.aborted) break;
        heard = true;
        this.#onState("live");
        this.#onRecord(head, picture);
      }
    } catch {
      // The connection is gone, whatever the reason: it is taken up again.
    } finally {
      clearInterval(watch);
      stopped.removeEventListener("abort", give_up);
      silence.abort();
    }
    return heard;
  }
}

async function readRecord(bytes) {
  const sizes = await bytes.take(8);
  const view = new DataView(sizes.buffer, sizes.byteOffset, 8);
  const [headSize, pictureSize] = [view.getUint32(0), view.getUint32(4)];
  const head = JSON.parse(new TextDecoder().decode(await bytes.take(headSize)));
  return { head, picture: await bytes.take(pictureSize) };
}

/** Takes so many bytes at a time from a reader that gives as many as it has. */
class ByteReader {
  #reader;
  #onBytes;
  #held = new Uint8Array(0);

  constructor(reader, onBytes) {
    this.#reader = reader;
    this.#onBytes = onBytes;
  }

  async take(size) {
    const parts = [this.#held];
    let length = this.#held.length;
    while (length < size) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error("The stream has ended");
      this.#onBytes();
      parts.push(value);
      length += value.length;
    }
    const all = parts.length === 1 ? parts[0] : new Uint8Array(await new Blob(parts).arrayBuffer());
    this.#held = all.subarray(size);
    return all.subarray(0, size);
  }
}
