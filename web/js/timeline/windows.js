/**
 * Context windows as animation/windowing.py lays them over a clip; of uniform schedules, which move, where they begin.
 * @param {{length: number, overlap: number, schedule: string, stride?: number, closedLoop?: boolean}} settings
 * @returns {number[][]} the frames of each window
 */
export function windowsOf({ length, overlap, schedule, stride = 1, closedLoop = false }, frames) {
  if (!(length >= 1 && stride >= 1 && overlap >= 0 && overlap < length)) return [];
  const isBatched = schedule === "batched";
  const isStatic = schedule === "standard_static";
  const isClosed = closedLoop && !isBatched;
  const wraps = isClosed || schedule === "looped_uniform";
  if (frames < length || (frames === length && !isClosed)) return [];
  if (isBatched) return range(0, frames, length).map((start) => range(start, Math.min(start + length, frames), 1));
  const from = (start, spacing) => range(start, start + length * spacing, spacing).map((frame) => frame % frames);
  if (isStatic && !isClosed) {
    const last = frames - length;
    return [...range(0, last, length - overlap), last].map((start) => from(start, 1));
  }
  const windows = new Map();
  for (let power = 0; power < (isStatic ? 1 : stride); power += 1) {
    const spacing = 2 ** power;
    if (power && (length - 1) * spacing >= frames) break;
    let starts = range(0, frames - (isClosed ? 0 : overlap), length * spacing - overlap);
    if (!wraps) starts = within(starts, frames - 1 - (length - 1) * spacing, spacing);
    for (const start of starts) windows.set(String(from(start, spacing)), from(start, spacing));
  }
  return [...windows.values()];
}

function within(starts, last, spacing) {
  const inside = starts.map((start) => Math.min(start, last));
  return spacing > 1 || inside.includes(0) ? inside : [...inside, 0];
}

function range(start, end, step) {
  return Array.from({ length: Math.max(0, Math.ceil((end - start) / step)) }, (_, i) => start + i * step);
}
