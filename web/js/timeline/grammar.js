/**
 * A schedule's text taken apart into keys and values, as animation/prompt_text.py and value_schedule.py do. What is rarer
 * (settings files, infotext, Comfyroll's rows) is Unreadable here: then nothing is drawn and nothing is written.
 */

const NUMBER = "(?:[0-9]+(?:\\.[0-9]*)?|\\.[0-9]+)";
export const ONE_FRAME = `[+-]?${NUMBER}\\s*%|[+-]?[0-9]*\\.[0-9]+|[+-]?[0-9]{1,9}`;
const LARGEST = 1e30; // of numbers, as float32 has about 3e38
const KEY = `(?:${ONE_FRAME})`;
const COLON = "[:\uff1a]";
const QUOTES = "['\"\u201c\u201d\u201e\u2018\u2019]";
const WORD = "[\\p{L}\\p{N}_]";

// Prompts: the names are those of prompt_text.py, which explains them.
const LINE = at(`(?:[Ff]rames?\\s+)?(?:(${KEY}:${KEY})${COLON}(?![0-9])|(${KEY}:)${COLON}|(${KEY})\\s*(?:${COLON}|@))`);
const BRACED = at(`\\{\\s*${QUOTES}?${KEY}`);
const TURNED_QUOTES = new RegExp(`[\u201c\u201e]\\s*${KEY}\\s*[\u201c\u201d]\\s*:`, "u"); // as word processors turn them
const BAR = new RegExp(`\\s\\|\\s+(?=${KEY}\\s*${COLON})`, "gu");
const RANGE = `${KEY}(?::${KEY}|:)?`;
const QUOTED = at(`\\s*(?:(["'])([^"'\\n]*)\\1\\s*:|(${RANGE})\\s*[:=])\\s*(["'])`);
const FIRST_QUOTED = new RegExp(
  `^[ \\t]*(?:\\{\\s*)?(?=(["'])[^"'\\n]*\\1[ \\t]*:\\s*["']|${RANGE}[ \\t]*=[ \\t]*["']` +
    `|${KEY}:[ \\t]*"[^"\\n]*",[ \\t]*${KEY}:[ \\t]*")`,
  "mu",
);
const AFTER_QUOTE = at("[ \\t]*(?:[,\\n}#]|\\/\\/|$)");
const GAP = at("(?:[\\s,]|(?:#|\\/\\/)[^\\n]*)*");
const WRAPPED = new RegExp(`^(?:"([^"]*)"\\s*,?|'((?:[^']|(?<=${WORD})'(?=${WORD}))*)'\\s*,?)$`, "du");
const LIST = /^\[(\s*"[^"]*"\s*(?:,\s*"[^"]*"\s*)*),?\s*\]\s*,?$/u;
const TIME = /^0[0-9]:[0-5][0-9](?::[0-5][0-9]|\s)/u;
const ALSO_IN_LINE = new RegExp(`[,;|]\\s*(${KEY})\\s*:\\s+[\\p{L}\\p{Nl}\\p{No}_]`, "u");
/** A line without a key that has something of one, or of a settings file: Python has a closer look. */
const DOUBTFUL = new RegExp(
  "^[^\\p{L}\\p{N}]*(?:[\\p{Nd}.]+(?![\\p{L}\\p{N}_.])|[\\p{Nd}.]+\\s*(?:s|secs?|seconds|f|frames)\\s*:|(?:f|at)[\\s_]*\\p{Nd}" +
    "|max_f|(?:(?:key)?frames?|positive|prompt|parameters|negative|steps|sampler)(?!\\p{L}))",
  "iu",
);
const NOT_READ = [
  /<(?:lora|lyco|hypernet):[^<>\n]*>/u,
  new RegExp(`\\[(?=[^[\\]\\n]*[\\p{L}_])[^[\\]\\n]*:\\s*${KEY}\\s*\\]`, "u"),
  new RegExp(`["']?(?<!${WORD})(?:prompt_map|prompts|animation_prompts|text_prompts)(?!${WORD})["']?\\s*[:=]\\s*\\{`, "u"),
];
// Among them blanks that Python and JavaScript do not agree on, and halves of characters.
const NOT_ALIKE = /(?![\t\n\r])[\p{Cc}\p{Cs}\ufeff]/u;
const PROMPT_COMMENT = /^[ \t]*(?:#|\/\/|```).*/gmu;

// Values.
const VALUE_COMMENT = /#.*|^[ \t]*\/\/.*/gmu;
const BEGIN_OF_ROW = at(`${KEY}\\s*,\\s*\\S`);
const ASSIGNED = at("(?:\"[-+0-9.:%\\s]+\"\\s*|'[-+0-9.:%\\s]+'\\s*|[-+0-9.:%\\s]+)(?:=(?!=)|@)");
const PAIRS = { "(": ")", "[": "]", "{": "}", '"': '"', "'": "'" };

export class Unreadable extends Error {}

/** A pattern that is matched at a place, not searched from it. */
function at(source) {
  return new RegExp(source, "duy");
}

function matchAt(pattern, text, place = 0) {
  pattern.lastIndex = place;
  return pattern.exec(text);
}

const PLAIN_NUMBER = new RegExp(`^[+-]?${NUMBER}(?:[eE][+-]?[0-9]+)?$`, "u");

/** @returns {number | null} null for what is no plain number */
export function numberOf(text) {
  return PLAIN_NUMBER.test(text) && Math.abs(Number(text)) <= LARGEST ? Number(text) : null;
}

/** A part of a text that knows its place in it. Comments are blanks here. */
export class Piece {
  constructor(start, text) {
    this.start = start;
    this.text = text;
  }

  static of(text, mostCharacters, comment) {
    if (text.length > mostCharacters || NOT_ALIKE.test(text)) throw new Unreadable();
    const lines = text.replace(/\r\n/g, " \n").replace(/\r/g, "\n");
    const whole = new Piece(0, lines).replaced(comment, (found) => " ".repeat(found.length)).cut(0);
    if (!/[^,;{}[\]() \n]/.test(whole.text)) throw new Unreadable();
    return whole;
  }

  get end() {
    return this.start + this.text.length;
  }

  /** A part of it, without blanks at its ends. */
  cut(start, end = this.text.length) {
    const part = this.text.slice(start, Math.max(start, end));
    return new Piece(this.start + start + part.length - part.trimStart().length, part.trim());
  }

  /** With other signs, as many as before. */
  replaced(pattern, by) {
    return new Piece(this.start, this.text.replace(pattern, by));
  }

  group(match, number) {
    return this.cut(...match.indices[number]);
  }

  lines() {
    return [...this.text.matchAll(/[^\n]*\S[^\n]*/gu)].map((match) => this.cut(match.index, match.index + match[0].length));
  }
}

/** A keyframe: `outer` is all of it, with quotes. Lines without a key, and values alone, have null. */
const entry = (key, value, outer, label = value.text) => ({ key, value, outer, label });

/** @returns {ReturnType<typeof entry>[]} the keyframes, in the order of the text */
export function readPrompts(text) {
  const whole = Piece.of(text, 30_000, PROMPT_COMMENT);
  if (NOT_READ.some((form) => form.test(whole.text))) throw new Unreadable();
  const parts = partsOf(whole);
  const first = parts.findIndex((part) => part.key);
  if (first < 0) return [entry(null, whole, whole)];
  const keyed = parts.slice(first, parts.findLastIndex((part) => part.key) + 1);
  if (keyed.some((part) => !part.key)) throw new Unreadable();
  return keyed;
}

function partsOf(whole) {
  let inner = whole;
  if (matchAt(BRACED, whole.text) && whole.text.endsWith("}")) inner = whole.cut(1, whole.text.length - 1);
  if (TURNED_QUOTES.test(inner.text)) inner = inner.replaced(/[\u201c\u201d\u201e]/gu, '"');
  if (matchAt(LINE, inner.text)) inner = inner.replaced(BAR, (bar) => "\n".padEnd(bar.length));
  const quoted = FIRST_QUOTED.exec(inner.text);
  const parts = quoted ? quotedParts(inner, quoted.index, quoted.index + quoted[0].length) : lineParts(inner);
  const lines = parts.filter((part) => !part.key).flatMap((part) => part.value.lines());
  if (lines.some((line) => DOUBTFUL.test(line.text))) throw new Unreadable();
  return parts;
}

function lineParts(whole) {
  return whole.lines().map((line) => {
    const keyed = matchAt(LINE, line.text);
    if (!keyed) return entry(null, line, line);
    if (TIME.test(line.text)) throw new Unreadable();
    const value = line.cut(keyed[0].length);
    if (ALSO_IN_LINE.test(value.text) && !/^["']/u.test(value.text)) throw new Unreadable();
    return entry(line.group(keyed, keyed.findLastIndex(Boolean)), ...unquoted(value, line));
  });
}

/** Value, whole and label, without the quotes around a prompt or a list of prompts. */
function unquoted(value, outer) {
  const wrapped = WRAPPED.exec(value.text);
  if (wrapped) return [value.group(wrapped, wrapped[1] === undefined ? 2 : 1), outer];
  const list = LIST.exec(value.text);
  return [value, outer, ...(list ? [[...list[1].matchAll(/"([^"]*)"/g)].map((match) => match[1]).join(", ")] : [])];
}

function quotedParts(whole, headEnd, start) {
  const parts = lineParts(whole.cut(0, headEnd));
  let place = start;
  for (;;) {
    const match = matchAt(QUOTED, whole.text, place);
    if (!match) break;
    const opening = match.index + match[0].length;
    const end = closingQuote(whole.text, opening);
    const key = whole.group(match, match[3] === undefined ? 2 : 3);
    const value = whole.cut(opening, end);
    const label = unescaped(value.text, match[1] === '"' && match[4] === '"');
    parts.push(entry(key, value, whole.cut(place, end + 1), label));
    if (!matchAt(AFTER_QUOTE, whole.text, end + 1)) throw new Unreadable();
    place = end + 1 + matchAt(GAP, whole.text, end + 1)[0].length;
  }
  const tail = lineParts(whole.cut(place + whole.text.startsWith("}", place)));
  if (tail.some((part) => /^["']/u.test(part.value.text))) throw new Unreadable();
  return [...parts, ...tail];
}

function closingQuote(text, start) {
  const quote = text[start - 1] === '"' ? '"' : `'(?=${AFTER_QUOTE.source})`;
  const signs = [...text.slice(start).matchAll(new RegExp(`\\\\.|(${quote})`, "gsu"))];
  const closing = signs.find((match) => match[1]);
  if (!closing) throw new Unreadable();
  return start + closing.index;
}

function unescaped(text, isJson) {
  try {
    if (isJson) return JSON.parse(`"${text.replace(/\n/g, "\\n").replace(/\t/g, "\\t")}"`);
  } catch {
    // Not valid JSON, as in a cat \(animal\).
  }
  return text.replace(/\\(["'])/g, "$1");
}

/** @returns {ReturnType<typeof entry>[]} all with keys, or none with one; `number` is null where the value is a formula */
export function readValues(text) {
  const entries = valueEntries(text);
  if (entries.length > 4096 || (entries.some((one) => one.key) && entries.some((one) => !one.key))) throw new Unreadable();
  return entries.map((one) => {
    const bare = unwrapped(one.value, "([{\"'");
    const number = numberOf(bare.text);
    // Round brackets may be a formula's own, as in (t) + (1).
    return { ...one, value: number === null ? unwrapped(one.value, "[{\"'") : bare, number };
  });
}

function valueEntries(text) {
  const whole = unwrapped(Piece.of(text, 100_000, VALUE_COMMENT), "{[", 1);
  const lines = whole.lines();
  if (lines.length > 1 && lines.every((line) => matchAt(BEGIN_OF_ROW, line.text))) throw new Unreadable();
  return betweenCommas(whole).map((piece) => {
    const assigned = matchAt(ASSIGNED, piece.text);
    const colon = assigned ? assigned[0].length - 1 : piece.text.lastIndexOf(":");
    if (colon < 0) return entry(null, piece, piece);
    return entry(unwrapped(piece.cut(0, colon), "('\""), piece.cut(colon + 1), piece);
  });
}

/** Splits at commas and line ends, but not inside brackets. */
function betweenCommas(whole) {
  const pieces = [];
  let begin = 0;
  let opened = 0;
  `${whole.text}\n`.split("").forEach((sign, place) => {
    if ("([".includes(sign)) opened += 1;
    else if (")]".includes(sign) && --opened < 0) throw new Unreadable();
    else if (",\n".includes(sign) && (!opened || place === whole.text.length)) {
      const piece = whole.cut(begin, place);
      begin = place + 1;
      if (piece.text) pieces.push(piece);
    }
  });
  if (opened) throw new Unreadable();
  return pieces;
}

function unwrapped(piece, opening, most = 100) {
  let inner = piece;
  for (let n = 0; n < most && inner.text.length > 1; n += 1) {
    const [first] = inner.text;
    if (!opening.includes(first) || inner.text.at(-1) !== PAIRS[first]) break;
    inner = inner.cut(1, inner.text.length - 1);
  }
  return inner;
}
