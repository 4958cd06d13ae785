/**
 * Changes of a schedule's text that leave everything else in it as it was written. Each gives the new text, or null where
 * the text, read again, would not say just what was wanted: such an edit is not made.
 */

import { Schedule } from "./schedule.js";

/** Moves a keyframe, with its range if it has one. */
export function moveKey(schedule, index, frame) {
  const { key, span } = schedule.keys[index];
  if (!key) return null;
  const [begin, end] = key.text.split(":");
  const shift = frame - span.first;
  const parts = [written(schedule, begin.trim(), frame)];
  if (end?.trim()) parts.push(written(schedule, end.trim(), span.last + 1 + shift));
  else if (end === "") parts.push("");
  if (parts.includes(null)) return null;
  return rewritten(schedule, index, key, parts.join(":"), ({ span: { first } }) => isNear(first, frame));
}

/** Lets a keyframe hold up to a frame: 8: becomes 8:16:, or the other way round. */
export function holdKey(schedule, index, last) {
  const { key, span } = schedule.keys[index];
  if (!key || span.untilNext || schedule.kind === "steps") return null;
  const [begin, end] = key.text.split(":");
  const until = last > span.first ? written(schedule, (end ?? begin).trim(), last + 1) : "";
  if (until === null) return null;
  const text = until ? `${begin}:${until}` : begin;
  const isHeld = ({ span: { first, last: held } }) => first === span.first && held === Math.max(last, first);
  return rewritten(schedule, index, key, text, isHeld);
}

/** Gives a keyframe another number; not in place of a formula. */
export function setNumber(schedule, index, number) {
  const { number: before, value } = schedule.keys[index];
  return typeof before === "number" ? rewritten(schedule, index, value, decimal(number), () => true) : null;
}

/** Adds a keyframe in the notation of the one before it: with its prompt, or with a number. */
export function addKey(schedule, frame, number) {
  const before = schedule.ordered.findLast(({ span }) => span.first <= frame);
  const like = before ?? schedule.ordered[0];
  const { key, value, outer } = like;
  if (schedule.keys.some(({ span }) => span.first === frame)) return null;
  const newValue = number === undefined ? schedule.text.slice(value.start, value.end) : decimal(number);
  const isAdded = (keys) => keys.length === schedule.keys.length + 1 && keys.some(({ span }) => isNear(span.first, frame));
  if (!key) {
    if (schedule.keys.length > 1 || frame === 0 || value.text.includes("\n")) return null;
    const zero = schedule.kind === "steps" ? "0%" : "0";
    const place = written(schedule, zero, frame);
    return replaced(schedule, [insert(outer.start, `${zero}: `), insert(outer.end, `\n${place}: ${newValue}`)], isAdded);
  }
  const notation = key.text.split(":")[0].trim().replace(/^-/, "");
  const place = written(schedule, notation, frame) ?? String(frame);
  const { text } = schedule;
  const added =
    text.slice(outer.start, key.start) + place + text.slice(key.end, value.start) + newValue + text.slice(value.end, outer.end);
  return replaced(schedule, insertion(schedule, like, added, Boolean(before)), isAdded);
}

function insertion(schedule, like, added, isAfter) {
  const { text } = schedule;
  const { start, end } = like.outer;
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  const lineEnd = text.indexOf("\n", end) < 0 ? text.length : text.indexOf("\n", end);
  const indent = /^[ \t]*/.exec(text.slice(lineStart, start))[0];
  const hasOwnLine = lineStart + indent.length === start && /^\s*,?\s*(?:#.*|\/\/.*)?$/.test(text.slice(end, lineEnd));
  const neighbour = schedule.keys[like.index + 1] ?? schedule.keys[like.index - 1];
  const between = neighbour && text.slice(Math.min(end, neighbour.outer.end), Math.max(start, neighbour.outer.start));
  const hasComma = between ? between.includes(",") : like.outer.text.startsWith('"');
  if (!hasOwnLine || (between && !between.includes("\n"))) {
    const separator = between?.includes("|") ? " | " : ", ";
    return [isAfter ? insert(end, separator + added) : insert(start, added + separator)];
  }
  const comma = hasComma ? "," : "";
  if (!isAfter) return [insert(start, `${added}${comma}\n${indent}`)];
  const endsWithComma = /^\s*,/.test(text.slice(end, lineEnd));
  const line = insert(lineEnd, `\n${indent}${added}${endsWithComma ? comma : ""}`);
  return hasComma && !endsWithComma ? [line, insert(end, ",")] : [line];
}

export function removeKey(schedule, index) {
  if (!schedule.keys[index].key || schedule.keys.length < 2) return null;
  const { text } = schedule;
  let { start, end } = schedule.keys[index].outer;
  const splices = [];
  const after = /^[ \t]*(?:,|\|(?=\s))[ \t]*/.exec(text.slice(end));
  const before = /(?:,[ \t]*|[ \t]+\|[ \t]+|,\s*)$/.exec(text.slice(0, start));
  if (after) end += after[0].length;
  else if (before?.[0].includes("\n")) splices.push([before.index, before.index + 1, ""]);
  else if (before) start = before.index;
  const lineStart = text.lastIndexOf("\n", start - 1) + 1;
  const lineEnd = text.indexOf("\n", end);
  // The line goes, too, if it has nothing else.
  if (!text.slice(lineStart, start).trim()) {
    const rest = text.slice(end, lineEnd < 0 ? undefined : lineEnd);
    if (rest.trim()) end += rest.length - rest.trimStart().length;
    else [start, end] = lineEnd < 0 ? [Math.max(lineStart - 1, 0), text.length] : [lineStart, lineEnd + 1];
  }
  splices.push([start, end, ""]);
  const rest = schedule.keys.filter((one) => one.index !== index);
  return replaced(schedule, splices, (keys) => keys.length === rest.length && keys.every((one, i) => isWrittenAs(one, rest[i])));
}

/** Writes a frame as `like` is written: 8, -1, 50% or 0.5; null where that is a formula. */
function written(schedule, like, frame) {
  const reads = (text) => {
    try {
      const { first } = schedule.spanOf(text, false);
      return first <= frame && isNear(first, frame);
    } catch {
      return false;
    }
  };
  const candidates = [];
  const last = Math.max(schedule.total - 1, 1);
  for (let decimals = 0; decimals <= 5; decimals += 1) {
    const tens = 10 ** decimals;
    if (like.endsWith("%")) candidates.push(`${Math.floor(((100 * frame) / last) * tens + 1e-9) / tens}%`);
    else if (schedule.kind === "steps") candidates.push(decimal(frame / last, decimals || 1));
    else if (like.includes("."))
      candidates.push(decimal(Math.ceil((frame / schedule.total) * tens - 1e-9) / tens, decimals || 1));
  }
  if (/^-[0-9]+$/.test(like)) candidates.push(String(frame - schedule.total), String(frame));
  if (/^\+?[0-9]+$/.test(like)) candidates.push(String(frame));
  return candidates.find(reads) ?? null;
}

/** With one decimal at least. */
function decimal(number, most = 2) {
  const text = String(Number(number.toFixed(most)));
  return text.includes(".") ? text : `${text}.0`;
}

const insert = (place, text) => [place, place, text];
const isNear = (place, frame) => Math.abs(place - frame) < 0.01;
const isWrittenAs = (key, other) => key.key?.text === other.key?.text && key.value.text === other.value.text;

/** Writes something else in the place of a keyframe's key or value; all others stay as they were. */
function rewritten(schedule, index, { start, end }, text, isWanted) {
  const isRight = (key, i) => (i === index ? isWanted(key) : isWrittenAs(key, schedule.keys[i]));
  return replaced(schedule, [[start, end, text]], (keys) => keys.length === schedule.keys.length && keys.every(isRight));
}

function replaced(schedule, splices, isWanted) {
  let { text } = schedule;
  for (const [start, end, part] of splices.sort((a, b) => b[0] - a[0])) text = text.slice(0, start) + part + text.slice(end);
  try {
    return isWanted(new Schedule({ ...schedule.settings, text }).keys) ? text : null;
  } catch {
    return null;
  }
}
