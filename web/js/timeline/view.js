/** Draws a schedule as SVG: ruler, context windows, and prompts as blocks or values as a curve. */

const PAD = 18;
const RULER = 26;
const LANE = 6;
const LANES = 3;
const HUES = [212, 28, 150, 280, 50, 340, 180, 95];
const FRAME_STEPS = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024];
const PERCENT_STEPS = [1, 2, 5, 10, 20, 25, 50];
const VALUE_STEPS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100];

/** Measures labels, which end where the next block begins. */
const pen = Object.assign(document.createElement("canvas").getContext("2d"), { font: "12px system-ui, sans-serif" });

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function tag(name, attributes, content = "") {
  const written = Object.entries(attributes).map(([key, value]) => `${key}="${value}"`);
  return `<${name} ${written.join(" ")}>${content}</${name}>`;
}

function text(kind, x, y, content) {
  const escaped = content.replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  return tag("text", { class: kind, x, y }, escaped);
}

const path = (kind, d, more = {}) => tag("path", { class: kind, d, ...more });

/** From one frame to another, over the whole height. */
function box(kind, scale, first, last, more) {
  const [left, right] = [scale.x(first), scale.x(last)];
  return path(kind, `M${left} ${scale.top}H${right}V${scale.bottom}H${left}Z`, more);
}

/** Where frames and values are, in pixels; of the whole timeline, `width` pixels are seen, from `left` on. */
export class Scale {
  constructor({ total, fullWidth, width, left, height, windows, range }) {
    Object.assign(this, { total, width, left, range });
    this.top = RULER + LANE * Math.min(windows.length, LANES) + 2;
    this.bottom = height - 6;
    this.height = this.bottom - this.top;
    this.step = (fullWidth - 2 * PAD) / Math.max(total - 1, 1);
  }

  x(frame) {
    return Number((PAD + frame * this.step - this.left).toFixed(1));
  }

  frame(x) {
    return clamp((x + this.left - PAD) / this.step, 0, this.total - 1);
  }

  y(value) {
    const [low, high] = this.range;
    const share = clamp((value - low) / (high - low), 0, 1);
    return Number((this.bottom - share * this.height).toFixed(1));
  }

  value(y) {
    const [low, high] = this.range;
    return low + ((this.bottom - y) / this.height) * (high - low);
  }

  /** The frames that are seen. */
  get seen() {
    return [Math.floor(this.frame(-PAD)), Math.ceil(this.frame(this.width + PAD))];
  }
}

/** The values to show: from 0 to 1 at least. */
export function rangeOf({ values, keys }) {
  const numbers = [...values, ...keys.flatMap(({ number }) => number ?? [])];
  const low = numbers.reduce((a, b) => Math.min(a, b), 0);
  const high = numbers.reduce((a, b) => Math.max(a, b), 1);
  const margin = 0.15 * (high - low);
  return [low < 0 ? low - margin : 0, high + margin];
}

export function drawing({ schedule, scale, selected, windows, trained, rate, message }) {
  if (!schedule) return drawRuler(scale, rate) + text("message", scale.width / 2, scale.top + scale.height / 2, message);
  const x = scale.x(trained - 0.5);
  const mark =
    path("trained", `M${x} ${RULER - 6}V${scale.bottom}`) + text("level", x + 4, scale.bottom - 4, `trained on ${trained}`);
  return [
    box("track", scale, 0, scale.total - 1),
    drawRuler(scale, rate, schedule.kind === "steps"),
    ...windows.flatMap((runs, number) => runs.map((run) => drawWindow(run, number % LANES, scale))),
    schedule.values ? drawGrid(scale) + drawCurve(schedule, scale) : drawBlocks(schedule, scale),
    trained < scale.total ? mark : "",
    drawUnused(schedule, scale),
    ...schedule.ordered.map((key) => drawKey(key, schedule, scale, key.index === selected)),
  ].join("");
}

function drawWindow([first, last], lane, scale) {
  const [x, width] = [scale.x(first - 0.4), scale.x(last + 0.4) - scale.x(first - 0.4)];
  return tag("rect", { class: `window lane${lane % 2}`, x, y: RULER + lane * LANE, width, height: LANE - 1, rx: 2 });
}

/** Greys what Prompt Schedule's start_frame and end_frame leave out. */
function drawUnused({ total, settings: { start_frame: start = 0, end_frame: end = 0 } }, scale) {
  const before = start > 0 ? box("unused", scale, 0, start - 0.5) : "";
  return before + (end > 0 && end < total ? box("unused", scale, end - 0.5, total - 1) : "");
}

function drawRuler(scale, rate, isSteps) {
  const every = (isSteps ? PERCENT_STEPS : FRAME_STEPS).find((step) => step * scale.step >= 38) ?? scale.total;
  const [first, last] = scale.seen;
  const marks = [];
  for (let frame = Math.ceil(first / every) * every; frame <= last; frame += every) {
    const x = scale.x(frame);
    marks.push(path("tick", `M${x} ${RULER - 4}v4`));
    if (isSteps) marks.push(text("frame", x, 16, `${frame}%`));
    else marks.push(text("frame", x, 10, String(frame)), text("seconds", x, 20, `${Number((frame / rate).toFixed(2))}s`));
  }
  return marks.join("");
}

function drawGrid(scale) {
  const [low, high] = scale.range;
  const step = VALUE_STEPS.find((size) => (high - low) / size <= 4) ?? (high - low) / 3;
  const [left, right] = [Math.max(scale.x(0), 0), scale.x(scale.total - 1)];
  const lines = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) {
    const y = scale.y(value);
    const [labelX, labelY] = [left + 8, y < scale.top + 9 ? y + 9 : y - 2]; // beside the first keyframe, inside the picture
    lines.push(path("grid", `M${left} ${y}H${right}`), text("level", labelX, labelY, String(Number(value.toFixed(2)))));
  }
  return lines.join("");
}

/** Each prompt in its colour; where two blend, the next one rises as its weight does. */
function drawBlocks({ ordered, blends }, scale) {
  const [from, to] = scale.seen;
  const labels = [...new Set(ordered.map(({ label }) => label))];
  const colour = (number) => ({ style: `--hue:${HUES[labels.indexOf(ordered[number].label) % HUES.length]}` });
  const blocks = [];
  for (let begin = from, end; begin <= to; begin = end) {
    const { first } = blends[begin];
    for (end = begin + 1; end <= to && blends[end].first === first; ) end += 1;
    const last = Math.min(end, scale.total - 1);
    blocks.push(box("block", scale, begin, last, colour(first)));
    const next = blends[end - 1].second;
    const shares = blends.slice(begin, end).map(({ share }) => share);
    shares.push(end < scale.total && blends[end].first === next ? 1 : shares.at(-1));
    const rise = shares.map((share, i) => `L${scale.x(Math.min(begin + i, last))} ${scale.bottom - share * scale.height}`);
    if (next !== first)
      blocks.push(path("block", `M${scale.x(begin)} ${scale.bottom}${rise.join("")}V${scale.bottom}Z`, colour(next)));
  }
  const names = ordered.map(({ label, span }, i) => {
    const x = Math.max(i ? scale.x(span.first) : scale.x(0), 0);
    const width = Math.min(scale.x(ordered[i + 1]?.span.first ?? scale.total - 1), scale.width) - x - 8;
    return width > 16 ? text("label", x + 10, scale.top + 23, fitted(label || "(empty)", width - 12)) : "";
  });
  return [...blocks, ...names].join("");
}

/** As much of a text as fits into a width, with an ellipsis if that is not all. */
function fitted(content, width) {
  const letters = [...content.slice(0, width)];
  let part = content;
  while (letters.length && pen.measureText(part).width > width) {
    part = `${letters.join("").replace(/[\s,]+$/, "")}…`;
    letters.pop();
  }
  return part;
}

function drawCurve({ values, easing }, scale) {
  const [first, last] = scale.seen;
  const points = values.slice(first, last + 1).map((value, i) => {
    const [x, y] = [scale.x(first + i), scale.y(value)];
    return easing === "hold" ? `H${x}V${y}` : `L${x} ${y}`;
  });
  const line = `M${scale.x(first)} ${scale.y(values[first])}${points.join("")}`;
  return path("area", `${line}V${scale.y(0)}H${scale.x(first)}Z`) + path("curve", line);
}

function drawKey({ key, index, number, span }, { values, kind }, scale, isSelected) {
  const [x, end] = [scale.x(span.first), scale.x(span.last)];
  if (end < -20 || x > scale.width + 20) return "";
  const { top, height, bottom } = scale;
  const y = values ? scale.y(number ?? values[Math.min(Math.round(span.first), scale.total - 1)]) : bottom - 24;
  const hit = values ? { y: y - 11, height: 22 } : { y: top - 4, height: height + 4 };
  const shapes = [tag("rect", { class: "hit", x: x - 9, width: 18, ...hit }), path("bar", `M${x} ${top}v${height}`)];
  if (end > x || (isSelected && key && !span.untilNext && kind !== "steps")) {
    const place = { x: end > x ? end - 2 : x + 8, y: y - 6, width: 5, height: 12, rx: 2 };
    shapes.push(path("hold", `M${x} ${y}H${end}`), tag("rect", { class: "end", ...place }));
  }
  if (!values) shapes.push(path("grip", `M${x - 6} ${top - 2}h12v7l-6 6l-6 -6Z`));
  else if (number === null) shapes.push(path("grip", `M${x - 6} ${y}l6 -6l6 6l-6 6Z`));
  else shapes.push(path("grip", `M${x - 5} ${y}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z`));
  return tag("g", { class: `key${isSelected ? " selected" : ""}${key ? "" : " fixed"}`, "data-index": index }, shapes.join(""));
}
