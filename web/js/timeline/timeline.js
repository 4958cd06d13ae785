/** The timeline in one node: draws the schedule that its text is, and rewrites parts of that text. */

import { app } from "/scripts/app.js";

import { addElement, replaceStale } from "../nodes.js";
import { answerOf } from "../server.js";
import { addKey, holdKey, moveKey, removeKey, setNumber } from "./edits.js";
import { Unreadable } from "./grammar.js";
import { framesOf, inputValue, motionOf, named, rateOf, surroundings, valuesOf } from "./graph.js";
import { PERCENT_STEPS, Schedule } from "./schedule.js";
import { clamp, drawing, rangeOf, Scale } from "./view.js";

const SETTINGS = ["easing", "hold", "closed_loop", "start_frame", "end_frame"];
const RATE = "timeline_fps"; // the property of a node that holds the rate that was chosen there
const CLOSEST = 40; // pixels between two frames
const HINT = "Double-click to add a keyframe"; // in English: the editor gives extensions no function that translates
const NOT_DRAWN = "The timeline can't draw this text, and leaves it as it is.";
const TEXT_IS_LINKED = "The text comes over a link.";
const FRAMES_ARE_UNKNOWN = "Only a run can tell the number of frames.";
const MARKUP = `
  <header>
    <output aria-live="polite"></output>
    <label title="Frame rate of the seconds"><input type="number" min="0.1" step="any" aria-label="Frame rate">fps</label>
    <button data-do="add" title="Add a keyframe (Insert)">◆+</button>
    <button data-do="remove" title="Delete the keyframe (Delete)">◆−</button>
    <button data-do="out" title="Zoom out (-)">⊖</button>
    <button data-do="in" title="Zoom in (+)">⊕</button>
  </header>
  <div class="scroller" tabindex="0" role="application" aria-label="Timeline"><svg></svg><div></div></div>`;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const KEYS = { Insert: "add", Enter: "add", Delete: "remove", Backspace: "remove", "+": "in", "=": "in", "-": "out" };

export class Timeline {
  /** @param {{kind: string, height: number, inside?: boolean}} settings `kind` and `inside` as in a `Schedule` */
  constructor(node, { kind, height, inside = false }) {
    Object.assign(this, { node, kind, inside, zoom: 1, selected: null, drag: null, drawn: "" });
    this.root = document.createElement("div");
    this.root.innerHTML = MARKUP;
    [this.status, this.rateInput, this.scroller, this.svg] = ["output", "input", ".scroller", "svg"].map((selector) =>
      this.root.querySelector(selector),
    );
    this.rateInput.parentElement.hidden = kind === "steps";
    new IntersectionObserver((changes) => {
      this.isSeen = changes.at(-1).isIntersecting;
      this.look();
    }).observe(this.root);
    addElement(node, "timeline", this.root, { getMinHeight: () => height, getMaxHeight: () => 2 * height, getValue: () => "" });
    this.listen();
  }

  listen() {
    const on = (target, type, act) => target.addEventListener(type, act.bind(this));
    on(this.svg, "pointerdown", this.press);
    on(this.svg, "pointermove", this.move);
    on(this.svg, "pointerup", this.release);
    on(this.svg, "pointercancel", this.release);
    on(this.svg, "pointerleave", () => this.say());
    on(this.svg, "dblclick", (event) => this.add(this.place(event)));
    on(this.scroller, "wheel", this.wheel);
    on(this.scroller, "scroll", this.look);
    on(this.scroller, "keydown", this.key);
    on(this.scroller, "keyup", ({ key }) => ARROWS[key] && this.record());
    on(this.rateInput, "change", this.setRate);
    on(this.root, "click", ({ target }) => this.command(target.closest("button")?.dataset.do));
  }

  /** Reads text and graph again, and draws if anything is new. */
  look() {
    replaceStale(this.node, "timeline", this.root);
    if (!this.isSeen || !this.node.graph) return;
    const { clientWidth, clientHeight, scrollLeft } = this.scroller;
    const { selected, drag, zoom } = this;
    const read = this.read();
    const now = JSON.stringify([read, selected, drag === null, zoom, clientWidth, clientHeight, scrollLeft]);
    if (now === this.drawn && !this.isWaiting) return;
    Object.assign(this, read, { drawn: now, isWaiting: false });
    this.schedule = this.parse(this.text);
    if (!this.schedule?.keys[selected]) this.selected = null;
    this.draw();
  }

  /** What there is to be drawn, as the graph says it. */
  read() {
    const { node, kind } = this;
    const { after, around } = surroundings(node);
    const isSteps = kind === "steps";
    const frames = isSteps ? PERCENT_STEPS : framesOf(node, around);
    const text = inputValue(node, "text");
    const { trained, windows } = isSteps ? { windows: [] } : motionOf(around, frames);
    return {
      settings: { ...valuesOf(node, SETTINGS), kind, inside: this.inside, frames: frames ?? 16 },
      text: text.value,
      trained,
      windows,
      rate: node.properties[RATE] ?? rateOf(after),
      isLocked: text.isLinked || !frames,
      note: text.isLinked ? TEXT_IS_LINKED : frames ? HINT : FRAMES_ARE_UNKNOWN,
    };
  }

  parse(text) {
    if (text === undefined) return null;
    try {
      const schedule = new Schedule({ ...this.settings, text: String(text) });
      if (schedule.hasFormulas) schedule.values = this.workedOut(schedule);
      return schedule;
    } catch (error) {
      if (error instanceof Unreadable) return null;
      throw error;
    }
  }

  /** Each frame's value where there are formulas; those of before until the server has worked them out. */
  workedOut({ text, total }) {
    const answer = answerOf("/loom/values", { ...this.settings, text });
    this.isWaiting = answer === undefined;
    if (!this.isWaiting && !answer?.values) throw new Unreadable();
    return answer?.values ?? Array.from({ length: total }, (_, frame) => this.schedule?.values?.[frame] ?? 0);
  }

  draw() {
    const { schedule, selected, windows, trained, rate, drag } = this;
    const { clientWidth: width, clientHeight: height, scrollLeft: left } = this.scroller;
    const total = schedule?.total ?? this.settings.frames;
    this.zoom = clamp(this.zoom, 1, Math.max((total * CLOSEST) / width, 1));
    this.svg.nextElementSibling.style.width = `${width * this.zoom}px`;
    this.svg.setAttribute("width", width);
    const range = drag?.range ?? (schedule?.values && rangeOf(schedule));
    const scale = new Scale({ total, fullWidth: width * this.zoom, width, left, height, windows, range });
    this.scale = scale;
    const message = this.text === undefined ? TEXT_IS_LINKED : NOT_DRAWN;
    this.svg.innerHTML = drawing({ schedule, scale, selected, windows, trained, rate, message });
    this.root.classList.toggle("read-only", this.isLocked);
    if (document.activeElement !== this.rateInput) this.rateInput.value = rate;
    for (const button of this.root.querySelectorAll("button")) button.disabled = !this.can(button.dataset.do);
    this.say();
  }

  /** Says what is at a frame, by default at that of the chosen keyframe. */
  say(frame = this.schedule?.keys[this.selected]?.span.first) {
    const { schedule, rate } = this;
    this.status.value = schedule ? this.note : "";
    if (!schedule || frame === undefined) return;
    const at = clamp(Math.round(frame), 0, schedule.total - 1);
    const { first, second, share } = schedule.blends[at];
    const [label, next] = [first, second].map((number) => schedule.ordered[number].label);
    const blend = share ? `${label} + ${Math.round(share * 100)}% ${next}` : label;
    const what = schedule.values ? Number(schedule.values[at].toFixed(3)) : blend;
    const place = this.kind === "steps" ? `${at}%` : `frame ${Number(frame.toFixed(1))} · ${(frame / rate).toFixed(2)} s`;
    this.status.value = `${place} · ${what}`;
  }

  can(command) {
    if (command === "in") return this.scale.step < CLOSEST;
    if (command === "out") return this.zoom > 1;
    return !this.isLocked && Boolean(this.schedule) && (command === "add" || this.selected !== null);
  }

  place({ clientX, clientY }) {
    const { left, top, width } = this.svg.getBoundingClientRect();
    const zoom = width / this.svg.clientWidth; // the editor's
    return { frame: Math.round(this.scale.frame((clientX - left) / zoom)), y: (clientY - top) / zoom };
  }

  press(event) {
    if (event.button !== 0) return;
    const group = event.target.closest(".key");
    this.selected = group ? Number(group.dataset.index) : null;
    this.look();
    if (!group || !this.can("remove")) return;
    this.svg.setPointerCapture(event.pointerId);
    const { values, keys } = this.schedule;
    const { number, span } = keys[this.selected];
    const isEnd = event.target.matches(".end");
    const { frame, y } = this.place(event);
    // Where the hand is on the keyframe, so that it does not jump to the hand.
    const offset = { frame: frame - Math.round(isEnd ? span.last : span.first), y: values ? y - this.scale.y(number) : 0 };
    this.drag = { base: this.schedule, isEnd, offset, from: { frame, y }, hasMoved: false, range: values && this.scale.range };
  }

  move(event) {
    const { drag } = this;
    const { frame, y } = this.place(event);
    if (!drag) this.say(frame);
    else if (drag.hasMoved || frame !== drag.from.frame || Math.abs(y - drag.from.y) > 2) this.dragTo(frame, y);
  }

  dragTo(frame, y) {
    const { drag, selected } = this;
    const { base, isEnd, offset, range } = drag;
    const aim = clamp(frame - offset.frame, 0, base.total - 1);
    const isThere = !isEnd && aim === Math.round(base.keys[selected].span.first);
    const moved = isThere ? base.text : (isEnd ? holdKey : moveKey)(base, selected, aim);
    // Where it can't go it stays where it was last.
    drag.text = moved ?? drag.text ?? base.text;
    drag.hasMoved = true;
    const pulled = !isEnd && range && setNumber(this.parse(drag.text), selected, this.scale.value(y - offset.y));
    this.change(pulled || drag.text);
  }

  release() {
    this.drag = null;
    this.look();
  }

  add({ frame, y }) {
    if (!this.can("add")) return;
    this.change(addKey(this.schedule, frame, this.schedule.values ? this.scale.value(y) : undefined));
    this.record();
    this.selected = this.schedule?.keys.find(({ span }) => Math.round(span.first) === frame)?.index ?? null;
    this.look();
  }

  /** Adds a keyframe half way to the next one, where the value is. */
  addNext() {
    const { keys, ordered, total, values } = this.schedule;
    const begin = keys[this.selected]?.span.last ?? 0;
    const end = ordered.find(({ span }) => span.first > begin)?.span.first ?? total;
    const frame = Math.floor((begin + end) / 2);
    this.add({ frame, y: values ? this.scale.y(values[frame]) : 0 });
  }

  /** Gives the node another text, as typing does; null is an edit that can't be made. */
  change(text) {
    if (text === null || text === this.text) return;
    const widget = named("text", this.node.widgets);
    widget.value = text;
    widget.callback?.(text, app.canvas, this.node);
    this.node.setDirtyCanvas(true, true);
    this.look();
  }

  /** Makes what has changed a step of undo; after a drag the editor does so by itself. */
  record() {
    app.extensionManager.workflow.activeWorkflow?.changeTracker?.captureCanvasState?.();
  }

  command(name) {
    if (!name || !this.can(name)) return;
    if (name === "in" || name === "out") this.zoomBy(name === "in" ? 1.5 : 1 / 1.5, this.scroller.clientWidth / 2);
    else if (name === "add") this.addNext();
    else this.change(removeKey(this.schedule, this.selected));
    this.record();
  }

  zoomBy(factor, x) {
    const share = (this.scroller.scrollLeft + x) / this.zoom;
    this.zoom *= factor;
    this.draw();
    this.scroller.scrollLeft = share * this.zoom - x;
    this.look();
  }

  wheel(event) {
    const { deltaX, deltaY } = event;
    if (event.shiftKey || Math.abs(deltaX) > Math.abs(deltaY) || !this.root.contains(document.activeElement)) return;
    event.preventDefault();
    const { left, width } = this.svg.getBoundingClientRect();
    this.zoomBy(deltaY < 0 ? 1.2 : 1 / 1.2, ((event.clientX - left) / width) * this.svg.clientWidth);
  }

  key(event) {
    const { key, altKey, shiftKey } = event;
    if (event.ctrlKey || event.metaKey || !(KEYS[key] || ARROWS[key] || key === "Escape")) return;
    event.stopPropagation(); // or the editor would delete the node
    event.preventDefault();
    if (KEYS[key]) this.command(KEYS[key]);
    else if (key === "Escape") this.selected = null;
    else if (this.schedule) this.arrow(...ARROWS[key], altKey, shiftKey ? 10 : 1);
    this.look();
  }

  /** Chooses the next keyframe, or moves the chosen one. */
  arrow(across, up, isMove, by) {
    const { schedule, selected } = this;
    const { ordered, keys, total } = schedule;
    const chosen = keys[selected];
    if (across && !(isMove && chosen)) {
      const place = chosen ? clamp(ordered.indexOf(chosen) + across, 0, ordered.length - 1) : 0;
      this.selected = ordered[place].index;
    } else if (chosen && this.can("remove")) {
      const frame = clamp(Math.round(chosen.span.first) + across * by, 0, total - 1);
      this.change(up ? setNumber(schedule, selected, chosen.number + (up * by) / 20) : moveKey(schedule, selected, frame));
    }
  }

  setRate() {
    const rate = Number(this.rateInput.value);
    this.node.properties[RATE] = rate > 0 ? rate : undefined; // then the graph's
    this.record();
    this.look();
  }
}
