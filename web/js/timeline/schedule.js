/**
 * What keyframes mean for each frame, as animation/schedule.py, schedule_text.py and value_schedule.py have it. Formulas are
 * left to these.
 */

import { numberOf, ONE_FRAME, readPrompts, readValues, Unreadable } from "./grammar.js";

const IS_ONE_FRAME = new RegExp(`^(?:${ONE_FRAME})$`, "u");
const OF_LAST_FRAME = /^max_f(?:\s*([-*/])\s*([0-9]+(?:\.[0-9]+)?))?$/u; // FizzNodes' max_f/2
export const PERCENT_STEPS = 101; // positions of a curve over the steps of a run, 0 to 100 %

export class Schedule {
  /**
   * Reads a text.
   * @param {{kind: "prompts" | "values" | "steps", text: string, frames: number, easing: string, hold?: number,
   *   closed_loop?: boolean, inside?: boolean}} settings `inside`: no keyframe may lie after the clip's end
   * @throws {Unreadable}
   */
  constructor(settings) {
    const { kind, text, frames, easing, hold = 0, closed_loop: closedLoop = false, inside = false } = settings;
    Object.assign(this, { settings, kind, text, easing, hold, closedLoop });
    this.total = kind === "steps" ? PERCENT_STEPS : frames;
    const entries = kind === "prompts" ? readPrompts(text) : readValues(text);
    const last = this.total - 1;
    /** In the order of the text; `span` says where each is used alone. */
    this.keys = entries.map((entry, index) => {
      const spread = (index * last) / Math.max(entries.length - 1, 1);
      const span = entry.key ? this.spanOf(entry.key.text, inside || closedLoop) : { first: spread, last: spread };
      return { ...entry, index, span };
    });
    /** In the order of the clip. */
    this.ordered = [...this.keys].sort((a, b) => a.span.first - b.span.first);
    this.ordered.forEach(({ key, span }, i) => {
      if (i && key && span.first <= this.ordered[i - 1].span.last) throw new Unreadable();
    });
    this.blends = this.blendsOfFrames();
    this.hasFormulas = entries.some(({ number }) => number === null);
    if (this.hasFormulas && kind === "steps") throw new Unreadable();
    /** A number for each frame; null for prompts, and where the server has to work out formulas. */
    this.values = kind === "prompts" || this.hasFormulas ? null : this.blends.map(this.valueAt, this);
  }

  spanOf(key, inside) {
    if (this.kind === "steps") {
      const first = shareOfRun(key) * (this.total - 1);
      return { first, last: first };
    }
    const [, begin, colon, end] = /^([^:]*)(:?)(.*)$/su.exec(key);
    const first = this.frameOf(begin.trim());
    if (inside && first > this.total - 1) throw new Unreadable();
    if (!colon) return { first, last: first };
    if (!end.trim()) return { first, last: first, untilNext: true };
    const last = Math.ceil(this.frameOf(end.trim())) - 1;
    if (last < first) throw new Unreadable();
    return { first, last };
  }

  frameOf(key) {
    const last = this.total - 1;
    let frame = Number(key);
    if (!IS_ONE_FRAME.test(key)) {
      const [matched, sign = "-", number = 0] = OF_LAST_FRAME.exec(key) ?? [];
      frame = matched ? Math.trunc({ "-": last - number, "*": last * number, "/": last / number }[sign]) : Number.NaN;
      if (!Number.isFinite(frame)) throw new Unreadable();
    } else if (key.endsWith("%")) return share(Number(key.slice(0, -1)) / 100) * last;
    else if (key.includes(".")) return Math.min(Math.trunc(share(frame) * this.total), last);
    if (frame < -this.total) throw new Unreadable();
    return frame < 0 ? frame + this.total : frame;
  }

  ease(given) {
    if (this.easing === "hold" || given <= this.hold || this.hold >= 1) return 0;
    const x = (given - this.hold) / (1 - this.hold);
    return this.easing === "ease-in-out" ? x * x * (3 - 2 * x) : x;
  }

  /** Of each frame: its two keyframes, by their places in `ordered`, and the weight of the second. */
  blendsOfFrames() {
    const count = this.ordered.length;
    const placed = this.ordered.map(({ span }, number) => ({ number, ...span }));
    if (this.closedLoop && count > 1) {
      const [first, last] = [placed[0], placed[count - 1]];
      placed.unshift({ ...last, first: last.first - this.total, last: last.last - this.total });
      placed.push({ ...first, first: first.first + this.total });
    }
    let at = 0;
    return Array.from({ length: this.total }, (_, frame) => {
      while (at + 1 < placed.length && placed[at + 1].first <= frame) at += 1;
      const { number, last, untilNext } = placed[at];
      const next = placed[at + 1];
      if (!next || untilNext || frame <= last) return { first: number, second: number, share: 0 };
      return { first: number, second: next.number, share: this.ease((frame - last) / (next.first - last)) };
    });
  }

  valueAt({ first, second, share: weight }) {
    const [value, aim] = [this.ordered[first].number, this.ordered[second].number];
    return value + (aim - value) * weight;
  }
}

function share(number) {
  if (!(number >= 0 && number <= 1)) throw new Unreadable();
  return number;
}

function shareOfRun(key) {
  const number = numberOf(key.replace(/%$/u, "").trimEnd()) ?? Number.NaN;
  return share(key.endsWith("%") ? number / 100 : number);
}
