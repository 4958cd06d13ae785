/** The timeline in one node: draws the schedule that its text is, and rewrites parts of that text. */

import { app } from "/scripts/app.js";

import { addKey, holdKey, moveKey, removeKey, setNumber } from "./edits.js";
import { Unreadable } from "./grammar.js";
import { framesOf, motionOf, rateOf, surroundings, valueOf, widgetOf } from "./graph.js";
import { PERCENT_STEPS, readSchedule } from "./schedule.js";
import { drawing, lanesOf, rangeOf, Scale } from "./view.js";
import { windowsOf } from "./windows.js";

const USUAL_RATE = 8; // frames per second of AnimateDiff's own examples
const USUAL_FRAMES = 16;
const RATE = "timeline_fps"; // the property of a node that holds the rate that was chosen there
const CLOSEST = 40; // pixels between two frames
const HINT = "Double-click to add a keyframe";
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
const KEYS = { Insert: "add", Enter: "add", Delete: "remove", Backspace: "remove", "+": "in", "=": "in", "-": "out" };

export class Timeline {
  /** @param {{kind: string, height: number, inside?: boolean}} settings `kind` and `inside` as `readSchedule` takes them */
  constructor(node, { kind, height, inside = false }) {
    Object.assign(this, { node, kind, inside, zoom: 1, selected: null, drag: null, drawn: "" });
    this.root = document.createElement("div");
    this.root.className = "loom-timeline";
    this.root.dataset.captureWheel = "true"; // the editor leaves the wheel to it while it has the focus
    this.root.innerHTML = MARKUP;
    [this.status, this.rateInput, this.scroller, this.svg] = ["output", "input", ".scroller", "svg"].map((selector) =>
      this.root.querySelector(selector),
    );
    this.rateInput.parentElement.hidden = kind === "steps";
    const options = { hideOnZoom: false, getMinHeight: () => height, getMaxHeight: () => 2 * height, getValue: () => "" };
    const widget = node.addDOMWidget("timeline", "loom_timeline", this.root, { serialize: false, ...options });
    widget.serialize = false; // neither in the prompt nor in the workflow
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
    on(this.scroller, "keyup", ({ key }) => key.startsWith("Arrow") && this.record());
    on(this.rateInput, "change", this.setRate);
    on(this.root, "click", ({ target }) => this.command(target.closest("button")?.dataset.do));
  }

  /** Reads text and graph again, and draws if anything is new. */
  look() {
    this.heal();
    const { clientWidth, clientHeight, scrollLeft } = this.scroller;
    if (!clientWidth || !this.node.graph) return;
    this.read();
    const { text, settings, lanes, trained, rate, note, selected, drag, zoom } = this;
    const size = [clientWidth, clientHeight, scrollLeft, zoom];
    const now = JSON.stringify([text, settings, lanes, trained, rate, note, selected, drag === null, size]);
    if (now === this.drawn) return;
    this.draw();
    this.drawn = now;
  }

  read() {
    const { node, kind } = this;
    const { after, around } = surroundings(node);
    const isSteps = kind === "steps";
    const frames = isSteps ? PERCENT_STEPS : framesOf(node, around);
    const text = valueOf(node, "text");
    const { trained, windows } = isSteps ? {} : motionOf(around, frames);
    const [easing, hold, closedLoop] = ["easing", "hold", "closed_loop"].map((name) => valueOf(node, name).value);
    this.settings = { kind, easing, hold, closedLoop, inside: this.inside, frames: frames ?? USUAL_FRAMES };
    this.text = text.value;
    this.trained = trained;
    this.lanes = windows ? lanesOf(windowsOf(windows, frames)) : [];
    this.rate = node.properties[RATE] ?? rateOf(after) ?? USUAL_RATE;
    this.isLocked = text.isLinked || !frames;
    this.note = text.isLinked ? TEXT_IS_LINKED : frames ? HINT : FRAMES_ARE_UNKNOWN;
    this.schedule = this.parse(this.text);
    if (!this.schedule?.keys[this.selected]) this.selected = null;
  }

  parse(text) {
    try {
      return text === undefined ? null : readSchedule({ ...this.settings, text: String(text) });
    } catch (error) {
      if (error instanceof Unreadable) return null;
      throw error;
    }
  }

  draw() {
    const { schedule, selected, lanes, trained, rate, drag } = this;
    const { clientWidth: width, clientHeight: height, scrollLeft: left } = this.scroller;
    const total = schedule?.total ?? this.settings.frames;
    this.zoom = Math.min(Math.max(this.zoom, 1), Math.max((total * CLOSEST) / width, 1));
    this.svg.nextElementSibling.style.width = `${width * this.zoom}px`;
    this.svg.setAttribute("width", width);
    const range = drag?.range ?? (schedule?.values && rangeOf(schedule));
    const scale = new Scale({ total, fullWidth: width * this.zoom, width, left, height, lanes, range });
    this.scale = scale;
    const message = this.text === undefined ? TEXT_IS_LINKED : NOT_DRAWN;
    this.svg.innerHTML = drawing({ schedule, scale, selected, lanes, trained, rate, message });
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
    const at = Math.min(Math.max(Math.round(frame), 0), schedule.total - 1);
    const { first, second, share } = schedule.blends[at];
    const [label, next] = [first, second].map((number) => schedule.ordered[number].label);
    const blend = share ? `${label} + ${Math.round(share * 100)}% ${next}` : label;
    const what = schedule.values ? Number(schedule.values[at].toFixed(3)) : blend;
    const place = this.kind === "steps" ? `${at}%` : `frame ${Number(frame.toFixed(1))} · ${(frame / rate).toFixed(2)} s`;
    this.status.value = `${place} · ${what}`;
  }

  /** After undo, Nodes 2.0 goes on showing the element of the node that was there before. */
  heal() {
    const { node, root } = this;
    if (root.isConnected || node.graph !== app.canvas.graph) return;
    document.querySelector(`[data-node-id="${node.id}"] .loom-timeline`)?.replaceWith(root);
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
    const aim = Math.min(Math.max(frame - offset.frame, 0), base.total - 1);
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
    this.finish(addKey(this.schedule, frame, this.schedule.values ? this.scale.value(y) : undefined));
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

  finish(text) {
    this.change(text);
    this.record();
  }

  /** Gives the node another text, as typing does; null is an edit that can't be made. */
  change(text) {
    if (text === null || text === this.text) return;
    const widget = widgetOf(this.node, "text");
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
    if (name === "add") this.addNext();
    else if (name === "remove") this.finish(removeKey(this.schedule, this.selected));
    else this.zoomBy(name === "in" ? 1.5 : 1 / 1.5, this.scroller.clientWidth / 2);
  }

  zoomBy(factor, x) {
    const share = (this.scroller.scrollLeft + x) / this.zoom;
    this.zoom *= factor;
    this.draw();
    this.scroller.scrollLeft = share * this.zoom - x;
    this.look();
  }

  wheel(event) {
    const { deltaX, deltaY, shiftKey } = event;
    if (shiftKey || Math.abs(deltaX) > Math.abs(deltaY) || !this.root.contains(document.activeElement)) return;
    event.preventDefault();
    const { left, width } = this.svg.getBoundingClientRect();
    this.zoomBy(deltaY < 0 ? 1.2 : 1 / 1.2, ((event.clientX - left) / width) * this.svg.clientWidth);
  }

  key(event) {
    const { key } = event;
    const isArrow = key.startsWith("Arrow");
    if (event.ctrlKey || event.metaKey || !(KEYS[key] || isArrow || key === "Escape")) return;
    event.stopPropagation(); // or the editor would delete the node
    event.preventDefault();
    if (KEYS[key]) this.command(KEYS[key]);
    else if (!isArrow) this.selected = null;
    else if (this.schedule) this.arrow(key, event.altKey, event.shiftKey ? 10 : 1);
    this.look();
  }

  arrow(key, isMove, by) {
    const { ordered, keys, total } = this.schedule;
    const chosen = keys[this.selected];
    const isSideways = key === "ArrowLeft" || key === "ArrowRight";
    const step = key === "ArrowLeft" || key === "ArrowDown" ? -by : by;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most);
    if (isSideways && !(isMove && chosen)) {
      const place = chosen ? clamp(ordered.indexOf(chosen) + Math.sign(step), ordered.length - 1) : 0;
      this.selected = ordered[place].index;
    } else if (chosen && this.can("remove")) {
      const frame = clamp(Math.round(chosen.span.first) + step, total - 1);
      const { schedule, selected } = this;
      this.change(isSideways ? moveKey(schedule, selected, frame) : setNumber(schedule, selected, chosen.number + step / 20));
    }
  }

  setRate() {
    const rate = Number(this.rateInput.value);
    if (rate > 0) this.node.properties[RATE] = rate;
    else delete this.node.properties[RATE]; // then the graph's
    this.record();
    this.look();
  }
}
